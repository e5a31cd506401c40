"""An experiment whose groups do not go together, as its author meets it: `kt-exp` as a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MIXED = {
    "a loss for pairs on a dual encoder": ("finetune: vilt", "finetune.loss: the model cannot"),
    "masked words on a dual encoder": ("finetune: vilt_mlm", "finetune.loss: the model cannot"),
    "a captioning loss without a decoder": ("finetune: coca", "finetune.caption_weight: the model"),
}


def kt_exp(home: Path, override: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a user's own experiment that overrides one group of the pictograms'."""
    folder = home / "own" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mixed.yaml").write_text(
        f"# @package _global_\ndefaults:\n  - override /{override}\n"
        "hydra:\n  sweeper:\n    params:\n      finetune.lr: 1e-4,3e-4\n", encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "kt_exp.run", *arguments, "experiment=mixed",
         f"hydra.searchpath=[file://{home / 'own'}]"],
        capture_output=True, text=True, check=False)


@pytest.mark.parametrize("case", MIXED)
def test_a_run_is_refused_in_one_line(case: str, home: Path) -> None:
    override, message = MIXED[case]
    ended = kt_exp(home, override)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"kt-exp: error: {message}")


def test_a_sweep_is_refused_once_as_it_runs_and_once_at_its_end(home: Path) -> None:
    override, message = MIXED["a loss for pairs on a dual encoder"]
    ended = kt_exp(home, override, "-m", "hydra.sweep.dir=sweep")
    assert ended.returncode == 2, ended.stderr
    told = [line for line in ended.stderr.splitlines() if message in line]
    assert len(told) == 2, ended.stderr
    assert told[0].startswith(f"kt-exp: error: {message}")
    assert told[1].startswith(f"kt-exp: error: 2 jobs (sweep/0, sweep/1): {message}")
    for number in "01":
        assert message in (home / "sweep" / number / "kt_exp.log").read_text(encoding="utf-8")
    assert ended.stderr.endswith("kt-exp: error: 2 of 2 jobs failed\n")
    assert not list(home.glob("store/inversion/*"))
