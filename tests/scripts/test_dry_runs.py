"""`scripts/dry_runs.py`: the printed command of an experiment, on data in its real layout."""

from __future__ import annotations

import re
from pathlib import Path

import dry_runs
import pytest
import tiny_checkpoints as tiny
import torch
from full_size import checkpoints, counts, dry_run, estimate, sweeps

BASES = (sweeps.FOLDER / "base").glob("*.yaml")


def small_vilt(folder: Path) -> list[str]:
    tiny.write_vilt(folder / "vilt", tiny.vilt_state("itm_score", "mlm_score"))
    return [f"model.name={folder / 'vilt'}", "concepts.on_long_caption=truncate"]


def said(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_job_runs_as_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(checkpoints.WRITERS, "vilt", small_vilt)
    keep = tmp_path / "keep"
    assert dry_runs.main(["--only", "tab1_vilt", "--threads", "1", "--keep", str(keep)]) == 0
    assert "1 experiments, 0 failed" in said(capsys)
    log = (keep / "runs" / "tab1_vilt" / "stderr").read_text()
    assert f"#0 : {' '.join(dry_run.arguments('tab1_vilt')[:4])}" in log


def test_a_job_without_results_has_failed(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(checkpoints.WRITERS, "vilt", lambda folder: [])
    monkeypatch.setattr(dry_run, "PROGRAM", ["-c", "raise SystemExit('kt-exp: error: no such')"])
    assert dry_runs.main(["--only", "tab8"]) == 1
    told = said(capsys)
    assert "1 experiments, 1 failed" in told
    assert "kt-exp: error: no such" in told


def test_the_first_job_has_the_first_value_of_each_axis_and_is_cut_short():
    first = dry_run.arguments("tab5", number=7)
    assert {"finetune.lr=8e-07", "finetune.batch_size=16", "seed=7", "inversion.steps=3",
            "concepts.only=[person,bicycle]"} <= set(first)
    assert [len(sweeps.jobs(name)) for name in ("fig5", "tab5")] == [8, 55]


def test_every_experiment_has_its_weights_and_data():
    for experiment in sweeps.of_the_paper():
        given = {Path(word.partition("=")[2]).parts[0] for word in sweeps.command(experiment)
                 if "." in word.partition("=")[0]}
        assert given <= {*dry_run.FOLDERS, "medclip-vit.zip", "local-dir:biomedclip_dhn"}
    files = [*(sweeps.FOLDER / f"{name}.yaml" for name in sweeps.of_the_paper()), *BASES]
    models = {model for file in files
              for model in re.findall(r"override /model: (\w+)", file.read_text())}
    assert models == checkpoints.WRITERS.keys()


def test_inversions_of_a_sweep_count_once_and_models_of_each_rate_apart(monkeypatch):
    for name in ("step", "training_step", "image", "text"):
        monkeypatch.setattr(counts, name, lambda *_: 1.0)
    cost = estimate.cost_of("tab1_clip")
    concepts, models, rates = 3, 2, 5
    images = 50_000 + concepts * 10
    assert cost.jobs == models * rates
    assert cost.inversion == models * concepts * 10 * 5000
    assert cost.finetuning == models * rates * concepts * 10
    assert cost.evaluation == models * (80_000 + images + rates * concepts * 50_010)
    assert cost.hours("fp32") == pytest.approx(cost.total / (0.4 * 67e12) / 3600)


def test_each_number_of_steps_is_an_inversion_of_its_own(monkeypatch):
    for name in ("step", "training_step", "image", "text"):
        monkeypatch.setattr(counts, name, lambda *_: 1.0)
    steps = 1 + 100 + 500 + 1000 + 2000 + 3000 + 4000 + 5000
    assert estimate.cost_of("fig5").inversion == 3 * 10 * steps


def test_fused_attention_counts_as_its_products():
    heads, tokens, width = 2, 8, 16
    attention = torch.nn.MultiheadAttention(heads * width, heads, batch_first=True).eval()
    words = torch.rand(1, tokens, heads * width)
    projections, products = 4 * tokens * (heads * width) ** 2, 2 * heads * tokens**2 * width
    with torch.no_grad():
        counted = counts.count(lambda: attention(words, words, words, need_weights=False))
    assert counted == 2 * (projections + products)
