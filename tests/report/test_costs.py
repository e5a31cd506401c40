"""kt-report table --table main6: seconds and peak memory of inversion beside the paper's."""

from __future__ import annotations

import csv
import io

import pytest

from kt_exp.errors import UserError
from kt_exp.report.costs import cost_grid, published_costs
from kt_exp.report.grid import as_csv
from kt_exp.report.runs import find_jobs
from kt_exp.results.record import ConceptEntry, RunRecord

MAIN6 = published_costs()["main6"]


@pytest.fixture
def inverted(sweeps):
    """Adds a completed run of one concept that inverted images; `changes` as of the config."""
    def run(images, chunk, seconds, gib, reused=0, rehearsal=(), **changes):
        config = sweeps.config(**changes)
        config["inversion"] |= {"images": images, "chunk_size": chunk}
        record = RunRecord(command=["kt-exp"], config=config, seed=config["seed"], device="GPU")
        record.concepts = [ConceptEntry("moongate", "…", "…", None)]
        record.seconds, record.reused = {"inversion": seconds}, {"inversion": reused}
        record.peak_gib = {} if gib is None else {"inversion": gib}
        record.signatures = {"rehearsal": list(rehearsal)} if rehearsal else {}
        record.close("completed")
        return sweeps.save(f"{images}-{chunk}-{config['seed']}", record)

    return run


def shown(sweeps) -> list[list[str]]:
    grid = cost_grid(MAIN6, find_jobs([sweeps.root]))
    return [[cell.text for cell in row] for row in grid.rows]


def test_each_number_of_images_is_beside_the_paper_s(sweeps, inverted) -> None:
    inverted(1000, 100, 5000.0, 4.5)
    inverted(10, 1000, 40.0, 2.25)
    assert shown(sweeps) == [["10", "10", "–", "40.00", "2", "2.25"],
                             ["100", "", "–", "–", "4", "–"],
                             ["1000", "100", "3460", "5000", "–", "4.50"]]
    grid = cost_grid(MAIN6, find_jobs([sweeps.root]))
    rows = list(csv.DictReader(io.StringIO(as_csv(grid))))
    assert (rows[2]["published_seconds"], rows[2]["seconds"]) == ("3460", "5000.0")
    assert any("27420" in note.text for note in grid.notes)
    assert any("out of memory for all 1000 at once" in note.text for note in grid.notes)


def test_numbers_at_once_are_rows_and_seeds_are_averaged(sweeps, inverted) -> None:
    inverted(100, 10, 8.0, 2.0)
    inverted(100, 100, 4.0, 4.0)
    inverted(100, 100, 6.0, 4.0, seed=1)
    assert [row[:4] for row in shown(sweeps) if row[0] == "100"] == [
        ["100", "10", "–", "8.00"], ["100", "100", "–", "5.00±1.41"]]


def test_another_model_is_shown_without_the_paper_s_numbers(sweeps, inverted) -> None:
    inverted(10, "auto", 1.0, 0.5, model__name="ViT-L-14-quickgelu")
    grid = cost_grid(MAIN6, find_jobs([sweeps.root]))
    assert grid.header == ["Images", "At once", "Seconds", "Peak GiB"]
    assert [[cell.text for cell in row] for row in grid.rows] == [["10", "auto", "1.00", "0.50"]]


@pytest.mark.parametrize("kept", [{"reused": 1}, {"rehearsal": ["key"]}])
def test_images_from_the_store_and_those_for_rehearsal_are_no_measurement(
        sweeps, inverted, kept) -> None:
    inverted(10, 10, 0.1, 0.5, **kept)
    assert shown(sweeps)[0][3] == "not measured [1]"


def test_a_job_out_of_memory_says_so(sweeps, inverted) -> None:
    inverted(10, 10, 1.0, 2.0)
    record = RunRecord(command=["kt-exp"], config=sweeps.config(
        inversion__images=1000, inversion__chunk_size=1000))
    record.close("failed", UserError("inversion.chunk_size", "1000 images at once do not fit",
                                     "try 500"))
    sweeps.save("large", record)
    assert shown(sweeps)[-1][3] == "failed [1]"


@pytest.mark.parametrize(("changes", "problem"), [
    ({"inversion__steps": 3}, "differ in inversion.steps: 3, 5000; choose one with --where"),
    ({"model__name": "other"}, "differ in model.name"),
])
def test_runs_that_cannot_be_compared_are_refused(sweeps, inverted, changes, problem) -> None:
    inverted(10, 10, 1.0, 2.0)
    inverted(100, 10, 1.0, 2.0, **changes)
    with pytest.raises(UserError, match=problem):
        shown(sweeps)


def test_runs_without_inversion_are_refused(sweeps) -> None:
    sweeps.lr_sweep()
    with pytest.raises(UserError, match="no run for main6: none inverts images"):
        shown(sweeps)
