"""`scripts/dry_runs.py`: the printed command of an experiment, on data in its real layout."""

from __future__ import annotations

from pathlib import Path

import dry_runs
import pytest
import tiny_checkpoints as tiny
from full_size import checkpoints, dry_run, sweeps


def small_vilt(folder: Path) -> list[str]:
    tiny.write_vilt(folder / "vilt", {**tiny.vilt_state("itm_score", "mlm_score")})
    return [f"model.name={folder / 'vilt'}", "concepts.on_long_caption=truncate"]


def said(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_job_runs_as_printed_and_is_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(checkpoints.WRITERS, "vilt", small_vilt)
    keep = tmp_path / "keep"
    assert dry_runs.main(["--only", "tab1_vilt", "--threads", "1", "--keep", str(keep)]) == 0
    assert "1 experiments, 0 failed" in said(capsys)
    log = (keep / "runs" / "tab1_vilt" / "stderr").read_text()
    assert f"#0 : {' '.join(dry_run.arguments('tab1_vilt')[:4])}" in log


@pytest.mark.slow
def test_a_job_that_cannot_run_has_failed(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(checkpoints.WRITERS, "vilt", lambda folder: [f"model.name={tmp_path}"])
    monkeypatch.chdir(tmp_path)
    assert dry_runs.main(["--only", "tab8", "--threads", "1"]) == 1
    assert "1 experiments, 1 failed" in said(capsys)


def test_the_first_job_has_the_first_value_of_each_axis_and_is_cut_short():
    first = dry_run.arguments("tab5", number=7)
    assert {"finetune.lr=8e-07", "finetune.batch_size=16", "seed=7", "inversion.steps=3",
            "concepts.only=[person,bicycle]"} <= set(first)
    assert "inversion.steps=3" in dry_run.arguments("fig5")
    assert len(sweeps.jobs("fig5")) == 8 and len(sweeps.jobs("tab5")) == 55


def test_every_experiment_of_the_paper_has_its_weights_and_data():
    for experiment in sweeps.of_the_paper():
        job = dry_run.arguments(experiment)
        assert sweeps.option(job, "model") in checkpoints.WRITERS
        given = {Path(word.partition("=")[2]).parts[0] for word in sweeps.command(experiment)
                 if "." in word.partition("=")[0]}
        assert given <= {*dry_run.FOLDERS, "medclip-vit.zip", "local-dir:biomedclip_dhn"}
