"""Methods as points, with the Pareto front."""

from __future__ import annotations

import pytest

from kt_exp.report.front import method_points
from kt_exp.report.plots import Chart, draw, suitable
from kt_exp.report.runs import find_jobs


@pytest.fixture
def jobs(classified):
    for seed in range(2):
        for option, knowledge in (("closed_form", 4.0), ("transfer", 3.0)):
            about = {"knowledge": knowledge, "bias": 1.5, "seed": seed, "finetune__lr": knowledge}
            record, _ = classified.record(**about)
            folder = classified.run(f"{option}{seed}", **about)
            record.overrides = [f"method={option}"]
            record.seconds = {"inversion": 20.0, "finetune": 4.0}
            classified.sweeps.save(folder.name, record)
    return find_jobs([classified.root])


def drawn(jobs) -> Chart:
    return draw(jobs, "front")


def test_each_method_is_a_point_where_its_means_are(jobs) -> None:
    [axes] = drawn(jobs).figure.axes
    points, _ = method_points(jobs, draws=10)
    places = {str(line.get_label()): tuple(line.get_xydata()[0]) for line in axes.lines
              if not str(line.get_label()).startswith("_")}
    assert {label.removesuffix(", 24 s"): place for label, place in places.items()} == {
        point.label: pytest.approx((100 * point.known.mean, 100 * point.target.mean))
        for point in points}


def test_the_legend_tells_the_seconds(jobs) -> None:
    texts = [text.get_text() for text in drawn(jobs).figure.legends[0].get_texts()]
    assert texts[:2] == ["closed form, 24 s", "transfer, 24 s"]
    assert texts[-1] == "Pareto front"


def test_the_line_joins_the_front(jobs) -> None:
    [axes] = drawn(jobs).figure.axes
    points, _ = method_points(jobs, draws=10)
    front = sorted((100 * point.known.mean, 100 * point.target.mean) for point in points
                   if point.on_front)
    assert axes.lines[0].get_xydata().tolist() == [pytest.approx(place) for place in front]


def test_it_suits_runs_of_several_methods(jobs) -> None:
    assert suitable(jobs) == ["front", "tradeoff"]
