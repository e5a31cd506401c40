"""`scripts/diagnosis_precision.py`: warnings against what the runs learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import diagnosis_precision
import pytest
from fixtures.records import Sweeps

from kt_exp.errors import UserError
from kt_exp.results.outcome import Diagnosis, Metric
from kt_exp.results.record import ConceptEntry, RunRecord

Found = tuple[int, int, str | None]  # of 50 images before and after, and the warning


def run(sweeps: Sweeps, name: str, seed: int, found: dict[str, Found], **changes) -> Path:
    record = RunRecord(command=["kt-exp"], seed=seed, config=Sweeps.config(seed=seed, **changes))
    for concept, (before, after, warning) in found.items():
        diagnosis = Diagnosis(9, 32, cosine=0.1 if warning else 0.5, warning=warning)
        record.concepts.append(ConceptEntry(concept, "…", "…", diagnosis))
        row = Metric("baseline", concept, "target", "target_at_2", before / 50, before, 50)
        record.metrics += [row, replace(row, phase="transferred", value=after / 50, count=after)]
    record.close("completed")
    return sweeps.save(name, record)


@pytest.fixture
def learned_and_not(sweeps) -> Path:
    """Three seeds: a is warned of and not learned, b is learned although warned of, c is not
    learned, of d nothing more can be learned, and e is learned by two seeds of three."""
    for seed in range(3):
        run(sweeps, f"runs/{seed}", seed, {
            "a": (0, 2, "transfer is unlikely"), "b": (0, 40, "transfer is unlikely"),
            "c": (20, 26, None), "d": (50, 50, None), "e": (0, 50 if seed else 0, None)})
    return sweeps.root / "runs"


def printed(capsys, *arguments: str) -> dict[str, list[str]]:
    diagnosis_precision.main([*arguments, "--format", "md"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()
            if line.startswith("|")]
    return {f"{row[0]} {row[1]}".strip(): row[2:] for row in rows[2:]}


def test_precision_and_recall_are_over_concepts_with_room(learned_and_not, capsys) -> None:
    rows = printed(capsys, str(learned_and_not))
    assert rows["rare named captions"] == [
        "5", "1", "2/4 = 50 % [15, 85]", "2", "1/2 = 50 % [9, 91]", "1/2 = 50 % [9, 91]"]
    assert rows["all"] == rows["rare named captions"]


def test_another_threshold_takes_the_place_of_the_warnings(learned_and_not, sweeps,
                                                           capsys) -> None:
    run(sweeps, "edit", 0, {"a": (0, 2, None)}, finetune__strategy="projection_edit")
    rows = printed(capsys, str(sweeps.root), "--cosine-below", "0.6")
    assert rows["rare named captions"][3:] == ["4", "2/4 = 50 % [15, 85]", "2/2 = 100 % [34, 100]"]
    assert rows["rare closed form"][3:5] == ["1", "1/1 = 100 % [21, 100]"]
    assert printed(capsys, str(sweeps.root / "edit"))["rare closed form"][3:5] == ["0", "–"]


def test_runs_without_a_diagnosis_are_refused(sweeps) -> None:
    with pytest.raises(UserError, match="none has a diagnosis and target_at_2 before and after"):
        diagnosis_precision.main([str(sweeps.run("old", {"moongate": (0, 60, 58, 56)}))])
