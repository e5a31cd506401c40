"""What a run costs: said before it starts, shown by `dry_run=true`, and refused above a limit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fixtures.configs import SHORT_TRAINING

import kt_exp as package
from kt_exp.cost import EVALUATION, INVERSION, Cost, cost_of
from kt_exp.errors import UserError
from kt_exp.pipeline import Experiment
from kt_exp.progress import progress

pytestmark = pytest.mark.slow

TINY = [*SHORT_TRAINING, "finetune.rehearsal=0", "finetune.save_models=false",
        "benchmark.images_per_target=2", "benchmark.invented_names=0"]
KINDS = {  # of runs, by what they store
    "rehearsal, weights between, inverted images to calibrate on": [
        *TINY, "finetune.rehearsal=1", "finetune.interpolation=0.5", "finetune.calibration=budget",
        "benchmark.calibration_per_known_class=0"],
    "edit, then training on features": [
        *TINY, "inversion.layers=last_1", "inversion.statistics=prompts",
        "finetune.start=closed_form"],
    "edit with a budget, joint": [
        *TINY, "inversion=none", "finetune=closed_form", "finetune.edit.strength=budget",
        "finetune.scope=joint", "concepts.only=[gyroscope,madras]",
        "benchmark.calibration_per_known_class=1"],
}


def cost(*overrides: str) -> Cost:
    return cost_of(Experiment(package.compose(overrides), progress))


def row(table: str, begins: str) -> list[str]:
    """The cells of a row of the table."""
    [line] = [line for line in table.splitlines() if line.startswith(begins)]
    return re.split(r"\s{2,}", line.strip())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_counted_is_what_the_run_stores(kt_exp, kind: str) -> None:
    counted = cost(*KINDS[kind])
    assert not any(item.stored for item in counted.items)
    assert kt_exp(*KINDS[kind]).code == 0
    assert cost(*KINDS[kind]).left(INVERSION) == []
    assert [item.stage for item in cost(*KINDS[kind]).items if not item.stored] == []


def test_a_run_says_what_it_will_compute_and_what_the_store_has(kt_exp, home: Path) -> None:
    counted = cost(*TINY)
    # 2 images; 35 known drawings and 2 of the concept, before and after.
    first = kt_exp(*TINY).stderr
    assert re.search(r"Cost: 2 images × 2 steps to invert; 2 images × 1 epoch to fine-tune on; "
                     r"74 images to evaluate; [\d.]+ kB to write\n", first)
    for stage in (INVERSION, "finetune"):
        written = sum(file.stat().st_size for file in (home / "store" / stage).iterdir())
        size = sum(item.size for item in counted.of(stage))
        assert size <= written <= size + 4000  # the record
    second = kt_exp(*TINY, "finetune.lr=0.01").stderr
    assert re.search(r"Cost: 0 images to invert \(2 in the store\); 2 images × 1 epoch to "
                     r"fine-tune on; 37 images to evaluate \(37 in the store\); ", second)


def test_a_dry_run_shows_the_cost_and_leaves_nothing(kt_exp, home: Path) -> None:
    shown = kt_exp(*TINY, "dry_run=true")
    assert (shown.code, shown.stderr) == (0, "")
    assert row(shown.stdout, "run")[:-1] == ["run", "2", "4", "1", "74"]
    assert list(home.iterdir()) == []


def test_jobs_of_a_dry_run_share_what_they_can(kt_exp, home: Path) -> None:
    sweep = [*TINY, "hydra.sweep.dir=sweep", "on_existing=skip"]
    assert kt_exp(*sweep, "finetune.lr=0.1", "-m").code == 0
    before = {path: path.stat().st_mtime_ns for path in (home / "sweep").rglob("*")}
    shown = kt_exp(*sweep, "finetune.lr=0.1,0.01", "seed=0,1", "dry_run=true",
                   "hydra.sweep.subdir=${finetune.lr}-${seed}", "-m")
    assert (shown.code, shown.stderr) == (0, "")
    assert row(shown.stdout, "0 ")[1:6] == ["0 (2)", "0", "0 (1)", "0 (74)", "122.9 kB"]
    assert row(shown.stdout, "1 ")[1:5] == ["2", "4", "1", "37 (37)"]
    assert row(shown.stdout, "3 ")[1:5] == ["0 (2)", "0", "1", "37 (37)"]  # inverted by job 1
    assert row(shown.stdout, "total")[1:5] == ["2", "4", "3", "111"]
    again = kt_exp(*sweep, "finetune.lr=0.1", "dry_run=true", "-m")
    assert row(again.stdout, "run") == ["run", "completed"]
    assert {path: path.stat().st_mtime_ns for path in (home / "sweep").rglob("*")} == before


@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["run", "sweep"])
def test_a_dry_run_with_a_problem_ends_as_bad_input(kt_exp, home: Path, mode: list[str]) -> None:
    # The plan of training is made in a dry run, too.
    refused = kt_exp(*TINY, "finetune.loss=ntxent", "finetune.batch_size=1", "dry_run=true", *mode)
    assert refused.code == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("kt-exp: error: finetune.batch_size: leaves a batch of one")
    assert list(home.iterdir()) == []


def test_hours_of_inversion_are_refused_before_they_begin(kt_exp, home: Path) -> None:
    long = [*TINY, "inversion.steps=1000", "max_inversion_hours=1e-6"]
    ended = kt_exp(*long)
    assert ended.code == 2
    last = ended.stderr.splitlines()[-1]
    assert re.match(r"kt-exp: error: max_inversion_hours: inversion would take about .* on cpu "
                    r"\(2 images, 2000 steps of an image\), more than 1e-06 h; choose ", last)
    assert not (home / "store" / "inversion_partial").exists()
    assert kt_exp(*long, "dry_run=true").code == 2
    assert kt_exp(*long, "dry_run=true", "max_inversion_hours=null").code == 0


def test_each_evaluation_of_a_group_counts_its_images() -> None:
    counted = cost(*TINY, "concepts.only=[gyroscope,madras]")
    # Untrained: all at once. Fine-tuned: 35 known drawings and 2 of its concept, for each model.
    assert [item.images for item in counted.of(EVALUATION)] == [35 + 4, 35 + 2, 35 + 2]


def test_python_has_no_dry_run(home: Path) -> None:
    with pytest.raises(UserError, match="dry_run: is for the command line"):
        package.run(["dry_run=true"], folder=home / "run")


def test_a_dry_run_is_one_for_all_jobs(kt_exp) -> None:
    ended = kt_exp(*TINY, "dry_run=true,false", "hydra.sweep.dir=sweep", "-m")
    assert ended.code == 2
    assert "dry_run: is one value for all jobs; write dry_run=true" in ended.stderr
