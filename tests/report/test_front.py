"""Methods side by side: what each finds, what it forgets, how long it takes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from kt_exp.errors import UserError
from kt_exp.report.front import front, method_points
from kt_exp.report.grid import as_csv
from kt_exp.report.runs import find_jobs
from kt_exp.results.margins_file import write_margins
from kt_exp.results.operating_point import Calibration, OperatingPoint

# method: what it gains, its bias, seconds of inversion and of fine-tuning, a setting of its own
METHODS = {"transfer": (3.0, 1.8, 20.0, 4.0, "both"),
           "closed_form": (3.5, 0.8, 0.0, 0.2, "projection_edit"),
           "paper": (1.0, 1.8, 300.0, 9.0, "visual")}


def run(classified, method: str, seed: int = 0, gamma: float | None = None, **reused: int) -> Path:
    knowledge, bias, *seconds, strategy = METHODS[method]
    record, outcomes = classified.record(knowledge=knowledge + 0.1 * seed, bias=bias, seed=seed,
                                         finetune__strategy=strategy)
    record.overrides = [f"method={method}"]
    record.seconds = dict(zip(("inversion", "finetune"), seconds, strict=True))
    record.signatures = dict.fromkeys(record.seconds, f"{method} {seed}")
    record.reused = reused
    if gamma is not None:
        point = OperatingPoint(gamma, 0.01, 100, 99, 100)
        record.calibrations = [Calibration([name], "benchmark", point, [])
                               for name in classified.CONCEPTS]
    folder = classified.sweeps.save(f"{method}{seed}{gamma}{reused}", record)
    write_margins(outcomes, folder)
    return folder


@pytest.fixture
def folder(classified) -> Path:
    for method in METHODS:
        for seed in range(2):
            run(classified, method, seed)
    return classified.root


def rows(folder, draws: int = 100) -> dict[str, dict[str, str]]:
    grid = front(find_jobs([folder]), draws)
    return {row["method"]: row for row in csv.DictReader(io.StringIO(as_csv(grid)))}


def test_a_row_for_each_method_the_best_first_then_what_trains_nothing(folder) -> None:
    grid = front(find_jobs([folder]), draws=100)
    labels = [row[0].text for row in grid.rows]
    assert labels[:5] == ["Taught", "closed form", "transfer", "paper", "Not trained"]
    assert sorted(labels[5:]) == ["bias alone, 2 points lost", "name and description",
                                  "parts of the description", "the description as prompt",
                                  "the name alone as prompt"]


def test_numbers_are_those_of_the_runs(folder) -> None:
    row = rows(folder)["closed form"]
    jobs = find_jobs([folder], {"method": "closed_form"})

    def mean(phase, split, metric):
        return 50 * sum(job.measured(phase, name, split, metric) for job in jobs
                        for name in ("moongate", "umbrella")) / 2

    assert float(row["target_at_2"]) == pytest.approx(mean("transferred", "target", "target_at_2"))
    assert float(row["target"]) == pytest.approx(mean("transferred", "target", "accuracy"))
    assert float(row["known_change"]) == pytest.approx(
        mean("transferred", "known", "accuracy") - mean("baseline", "known", "accuracy"))
    for name in ("target_at_2", "target", "known_change"):
        assert float(row[f"{name}_low"]) <= float(row[name]) <= float(row[f"{name}_high"])
    assert row["seeds"] == "2"


def test_on_the_front_is_what_no_other_method_beats_in_both(folder) -> None:
    points = rows(folder).values()
    for row in points:
        target, known = float(row["target"]), float(row["known_change"])
        beaten = any(float(other["target"]) >= target and float(other["known_change"]) >= known
                     and (float(other["target"]), float(other["known_change"])) != (target, known)
                     for other in points)
        assert (row["on_front"] == "True") is not beaten
    assert {row["on_front"] for row in points} == {"True", "False"}


def test_bias_alone_stands_where_it_loses_two_points(folder) -> None:
    row = rows(folder)["bias alone, 2 points lost"]
    assert row["target"] == row["target_at_2"]
    assert -2.001 < float(row["known_change"]) < -1.5


def test_seconds_are_those_of_inversion_and_fine_tuning(folder) -> None:
    found = rows(folder)
    assert float(found["transfer"]["seconds"]) == 24
    assert float(found["the description as prompt"]["seconds"]) == 0


def test_what_came_from_the_store_took_as_long_as_where_it_was_computed(classified) -> None:
    made = run(classified, "transfer")
    again = run(classified, "transfer", inversion=2, finetune=2)
    [point, *_], _ = method_points(find_jobs([again, made]), draws=10)
    assert point.seconds.mean == 24
    [alone, *_], _ = method_points(find_jobs([again]), draws=10)
    assert alone.seconds is None
    assert front(find_jobs([again]), draws=10).rows[1][5].text == "–"


def test_a_calibrated_method_has_a_point_with_its_constant_too(classified) -> None:
    run(classified, "closed_form", gamma=0.5)
    plain, calibrated = (rows(classified.root)[label]
                         for label in ("closed form", "closed form, calibrated"))
    assert float(calibrated["target"]) > float(plain["target"])
    assert float(calibrated["known_change"]) < float(plain["known_change"])
    assert calibrated["target_at_2"] == plain["target_at_2"]


def test_other_settings_that_differ_are_part_of_the_name(classified) -> None:
    for lr in (1e-4, 1e-3):
        record, outcomes = classified.record(finetune__lr=lr)
        record.overrides = ["method=transfer", f"finetune.lr={lr}"]
        write_margins(outcomes, classified.sweeps.save(f"lr{lr}", record))
    assert {"transfer, lr 1e-4", "transfer, lr 1e-3"} <= rows(classified.root).keys()


def test_runs_without_the_option_are_named_by_their_training(classified) -> None:
    folder = classified.controls(seeds=1)
    assert {"inverted images", "noise"} <= rows(folder).keys()


def test_other_models_cannot_be_compared(classified) -> None:
    for name in ("ViT-B-32", "ViT-L-14"):
        classified.run(name, model__name=name)
    with pytest.raises(UserError, match=r"they differ in model\.name"):
        front(find_jobs([classified.root]))
