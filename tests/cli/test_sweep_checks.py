"""A sweep is checked as a whole before its first job starts."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SWEEP = ["hydra.sweep.dir=sweep", "concepts.only=[madras]", "on_existing=skip"]


def started(home: Path) -> set[str]:
    return {path.name for path in (home / "sweep").glob("*")} - {"multirun.yaml"}


def test_all_missing_keys_are_named_at_once_with_their_pages(kt_exp, home: Path) -> None:
    ended = kt_exp(*SWEEP, "model=open_clip", "benchmark=folders,flickr30k", "-m")
    assert ended.code == 2
    assert ended.stderr.splitlines() == [
        "kt-exp: error: job 0: model.name, benchmark.target_root, benchmark.known_root: missing; "
        "set them: model.name=… benchmark.target_root=… benchmark.known_root=… "
        "(docs/models.md, docs/datasets.md)",
        "kt-exp: error: job 1: model.name, benchmark.captions, benchmark.image_root: missing; "
        "set them: model.name=… benchmark.captions=… benchmark.image_root=… "
        "(docs/models.md, docs/datasets.md)",
        "kt-exp: error: sweep: 2 of 2 jobs cannot run, so none was started"]
    assert started(home) == set()


def test_data_and_weights_are_looked_for(kt_exp, home: Path) -> None:
    data = ["benchmark=folders", "benchmark.target_root=gone", "benchmark.known_root=gone"]
    ended = kt_exp(*SWEEP, *data, "model=medclip", "model.weights=gone.zip", "seed=0,1", "-m")
    assert ended.code == 2
    assert [line.partition("; ")[0] for line in ended.stderr.splitlines()] == [
        "kt-exp: error: all 2 jobs: model.weights: no such file: gone.zip",
        "kt-exp: error: all 2 jobs: benchmark.known_root: no such folder: gone",
        "kt-exp: error: sweep: 2 of 2 jobs cannot run, so none was started"]
    assert started(home) == set()
    # Where only the jobs' machines have them, it is they that fail.
    left = kt_exp(*SWEEP, *data, "seed=0,1", "check_files=false", "-m")
    assert left.stderr.endswith("kt-exp: error: 2 of 2 jobs failed\n")
    assert started(home) == {"0", "1"}


def test_a_folder_that_holds_another_run_is_found_before_the_first_job(kt_exp, home: Path) -> None:
    closed = ["inversion=none", "finetune=closed_form", "finetune.save_models=false",
              "benchmark.images_per_known_class=1", "benchmark.images_per_target=2"]
    assert kt_exp(*SWEEP, *closed, "finetune.edit.strength=1", "-m").code == 0
    ended = kt_exp(*SWEEP, *closed, "finetune.edit.strength=2,1", "-m")
    assert ended.code == 2
    assert "sweep/0 holds a completed run of another config" in ended.stderr.splitlines()[0]
    assert started(home) == {"0"}
