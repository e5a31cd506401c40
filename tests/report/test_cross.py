"""Images of one model teach another: a table for each model that was taught."""

from __future__ import annotations

import csv
import io

import pytest

from kt_exp.report.cross import cross
from kt_exp.report.grid import as_csv
from kt_exp.report.runs import find_jobs
from kt_exp.results.margins_file import write_margins
from kt_exp.results.outcome import Metric, Phase

MODELS = {name: {"_target_": f"models.{name}"} for name in ("one", "two")}
DISTANCE = {"one": 0.25, "two": 0.75}  # of the images of each model


@pytest.fixture
def crossed(classified):
    """Each of two models is taught with its own images, with the other's, and with noise."""
    def run(taught: str, inverted: str, images: str) -> None:
        record, outcomes = classified.record(
            knowledge=3.0 if taught == inverted else 2.0, model=MODELS[taught],
            inversion__model=MODELS[inverted], finetune__images=images)
        record.overrides = [f"model={taught}", f"model@inversion.model={inverted}"]
        for name in classified.CONCEPTS if images == "inverted" else ():
            record.metrics += [
                Metric(Phase.baseline, name, "inverted", "accuracy", 0.1, 2, 20),
                Metric(Phase.description_prompt, name, "inverted", "accuracy", 0.9, 18, 20),
                Metric(Phase.baseline, name, "inverted", "frechet_distance", DISTANCE[inverted],
                       None, 20),
                Metric(Phase.baseline, name, "inverted", "frechet_floor", 0.125, None, 20)]
        folder = classified.sweeps.save(f"{taught}-{inverted}-{images}", record)
        write_margins(outcomes, folder)

    for taught in MODELS:
        for inverted in MODELS:
            run(taught, inverted, "inverted")
        run(taught, taught, "noise")
    return cross(find_jobs([classified.root]), draws=50)


def test_a_table_for_each_model_with_its_own_images_the_others_and_noise(crossed) -> None:
    assert [row[0].text for row in crossed.rows] == [
        "Taught: one", "inverted images", "inverted images, inverted from two", "noise",
        "bias alone", "the description as prompt",
        "Taught: two", "inverted images", "inverted images, inverted from one", "noise",
        "bias alone", "the description as prompt"]
    texts = [cell.text for cell in crossed.rows[2]]
    assert texts[1:5] == ["10.0", "90.0", "0.750", "0.125"]
    assert [cell.text for cell in crossed.rows[3]][1:5] == ["–"] * 4  # noise is not inverted


def test_the_csv_has_every_number(crossed) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(crossed))))
    other = rows[1]
    assert (other["taught"], other["variant"]) == ("one", "inverted images, inverted from two")
    assert float(other["target_at_2"]) < float(rows[0]["target_at_2"])
    assert float(other["images_frechet_distance"]) == 0.75
