"""Run folders that are full or cannot be written: one line, no completed run without its files."""

from __future__ import annotations

import errno
import json
import os

import pytest
from fixtures.configs import SHORT_TRAINING

pytestmark = pytest.mark.slow

TINY = [
    *SHORT_TRAINING, "finetune.rehearsal=0", "benchmark.images_per_target=2",
    "finetune.save_models=false", "on_existing=skip",
]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def one_store(home, stored, monkeypatch):
    """The runs of this file share a store, so that only the first computes."""
    monkeypatch.setenv("KT_EXP_STORE", str(stored))


def full(*args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def state(home):
    return json.loads((home / "run" / "result.json").read_text())["status"]


# What a run writes, in turn; a folder in the place of a file cannot be replaced by it.
@pytest.mark.parametrize("file", [
    "images/gyroscope/images.safetensors", "inverted.png", "margins.safetensors", "overview.png",
    "report.html"])
def test_a_file_that_cannot_be_written_fails_the_run(kt_exp, home, file):
    (home / "run" / file).mkdir(parents=True)
    ended = kt_exp(*TINY)
    assert ended.code == 2, ended.stderr
    assert ended.stderr.count("kt-exp: error: ") == 1
    assert "run: cannot write " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert state(home) == "failed"
    (home / "run" / file).rmdir()
    assert kt_exp(*TINY).code == 0
    assert state(home) == "completed"


def test_a_disk_that_is_full_at_the_end(kt_exp, home, monkeypatch):
    monkeypatch.setattr("kt_exp.runs.artifacts.write_page", full)
    ended = kt_exp(*TINY)
    assert ended.code == 2
    assert "run: cannot write to it (No space left on device); free some space" in ended.stderr
    assert state(home) == "failed"


def test_a_disk_that_is_full_at_the_start(kt_exp, monkeypatch):
    monkeypatch.setattr("kt_exp.runs.job.write_record", full)
    ended = kt_exp(*TINY)
    assert ended.code == 2
    assert "run: cannot write to it (No space left on device); free some space" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_that_takes_no_traceback(kt_exp, home, monkeypatch):
    def broken(*args: object) -> None:
        raise RuntimeError("out of order")

    (home / "run" / "traceback.txt").mkdir(parents=True)
    monkeypatch.setattr("kt_exp.finetune.images.invert_captions", broken)
    ended = kt_exp(*TINY)
    assert ended.code == 1
    assert "RuntimeError: out of order (traceback: traceback=true shows it)" in ended.stderr


def test_hydras_own_files_on_a_full_disk(kt_exp, monkeypatch, capfd):
    monkeypatch.setattr("hydra.core.utils._save_config", full)
    ended = kt_exp(*TINY)
    assert ended.code == 2
    assert "hydra.run.dir: cannot write (No space left on device)" in ended.stderr


def test_a_completed_run_without_its_page_runs_again(kt_exp, home):
    assert kt_exp(*TINY).code == 0
    (home / "run" / "report.html").unlink()
    ended = kt_exp(*TINY)
    assert "was completed, but lacks report.html: running it again" in ended.stderr
    assert (home / "run" / "report.html").exists()
    assert "Skipped, as completed before" in kt_exp(*TINY).stdout


def test_what_a_killed_run_was_writing_is_removed(kt_exp, home):
    images = home / "run" / "images" / "gyroscope"
    images.mkdir(parents=True)
    left = [home / "run" / ".report.html.ab12cd34.draft", home / "run" / ".result.json.ab12cd34",
            images / ".images.safetensors.ab12cd34.draft"]
    for path in left:
        path.touch()
    assert kt_exp(*TINY).code == 0
    assert not [path for path in left if path.exists()]
