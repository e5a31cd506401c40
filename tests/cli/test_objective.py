"""What a sweeper that searches is told of a job: its objective, and NaN of one that failed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kt_exp.results.record import read_record

pytestmark = pytest.mark.slow

PLUGINS = str(Path(__file__).parent / "plugins")
SEARCH = [
    "hydra.sweeper._target_=hydra_plugins.told_sweeper.ToldSweeper", "hydra.sweep.dir=sweep",
    "inversion=none", "finetune=closed_form", "finetune.save_models=false",
    "concepts.only=[madras,chantilly]", "benchmark.images_per_known_class=1",
    "benchmark.images_per_target=4", "benchmark.invented_names=0",
]


def search(home: Path, *more: str) -> tuple[int, list]:
    """Start a search; return its exit code and what the sweeper was told."""
    path = os.pathsep.join([PLUGINS, *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = subprocess.run(
        [sys.executable, "-m", "kt_exp.run", "-m", *SEARCH, *more], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": path})
    assert "Traceback" not in ended.stderr
    return ended.returncode, json.loads((home / "sweep" / "told.json").read_text())


def test_it_is_told_the_target_accuracy_at_equal_forgetting(home: Path) -> None:
    code, told = search(home, "finetune.edit.strength=0.5,-1,1.5")
    assert code == 2  # one job was refused
    assert math.isnan(told[1])
    for number in (0, 2):
        record = read_record(home / "sweep" / str(number))
        rows = [record.metric("transferred", concept.name, "target", "target_at_2")
                for concept in record.concepts]
        assert told[number] == sum(row.value for row in rows) / 2


def test_several_objectives_and_jobs_in_processes_of_their_own(home: Path) -> None:
    code, told = search(
        home, "finetune.edit.strength=1,-1", "hydra/launcher=local_processes",
        "objective.metric=[auroc,accuracy]", "objective.split=[all,known]",
        "objective.phase=[baseline,transferred]")
    assert code == 2
    record = read_record(home / "sweep" / "0")
    first = [record.metric("baseline", concept.name, "all", "auroc").value
             for concept in record.concepts]
    assert told[0][0] == sum(first) / 2
    assert 0.5 < told[0][1] <= 1
    assert [math.isnan(value) for value in told[1]] == [True, True]


@pytest.mark.parametrize(("override", "message"), [
    ("objective.split=every", "objective.split: 'every' is not an option"),
    ("objective.phase=after", "objective.phase: 'after' is not an option"),
    ("objective.metric=", "objective.metric: no name"),
    ("objective.metric=[]", "objective.metric: 0 values"),
    ("objective.metric=[auroc,accuracy] objective.split=[all,known,target]",
     "objective.metric: 2 values, where another key of the objective has 3"),
    ("+objective.mean=true", "objective.mean: no such key"),
    ("objective=auroc", "objective: "),
])
def test_an_objective_that_is_none_is_refused(kt_exp, override: str, message: str) -> None:
    ended = kt_exp(*override.split(" "))
    assert ended.code == 2
    assert message in ended.stderr
