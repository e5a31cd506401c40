"""An experiment whose groups do not go together, as its author meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MIXED = {
    "a loss for pairs on a dual encoder": ("finetune: vilt", "finetune.loss: the model cannot"),
    "masked words on a dual encoder": ("finetune: vilt_mlm", "finetune.loss: the model cannot"),
    "a captioning loss without a decoder": ("finetune: coca", "finetune.caption_weight: the model"),
}


def experiment(home: Path, override: str) -> list[str]:
    """Write a user's own experiment that overrides one group of the pictograms'."""
    folder = home / "own" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mixed.yaml").write_text(
        f"# @package _global_\ndefaults:\n  - override /{override}\n"
        "hydra:\n  sweeper:\n    params:\n      finetune.lr: 1e-4,3e-4\n", encoding="utf-8")
    return ["experiment=mixed", f"hydra.searchpath=[file://{home / 'own'}]"]


@pytest.mark.parametrize("case", MIXED)
def test_a_run_is_refused_in_one_line(case: str, home: Path, kt_exp) -> None:
    override, message = MIXED[case]
    ended = kt_exp(*experiment(home, override), "finetune.lr=1e-4")
    assert ended.code == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"kt-exp: error: {message}")


def test_a_sweep_is_refused_once_as_it_runs_and_once_at_its_end(home: Path, kt_exp) -> None:
    override, message = MIXED["a loss for pairs on a dual encoder"]
    ended = kt_exp("hydra.mode=MULTIRUN", *experiment(home, override), "hydra.sweep.dir=sweep")
    assert ended.code == 2, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if message in line]
    assert len(lines) == 2, ended.stderr
    assert lines[0].startswith(f"kt-exp: error: {message}")
    assert lines[1].startswith(f"kt-exp: error: 2 jobs (sweep/0, sweep/1): {message}")
    for number in "01":
        assert message in (home / "sweep" / number / "kt_exp.log").read_text(encoding="utf-8")
    assert ended.stderr.endswith("kt-exp: error: 2 of 2 jobs failed\n")
    assert not list(home.glob("store/inversion/*"))
