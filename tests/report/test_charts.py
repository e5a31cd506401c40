from __future__ import annotations

import re

import pytest

from kt_exp.report.charts import HEIGHT, WIDTH, line_chart


def points(svg: str) -> list[tuple[float, float]]:
    (line,) = re.findall(r'<polyline[^>]*points="([^"]*)"', svg)
    return [tuple(map(float, pair.split(","))) for pair in line.split()]


def draw(steps, values) -> str:
    return str(line_chart(steps, values, x_label="step", y_label="loss"))


def test_a_rising_curve_rises_from_left_to_right():
    (x0, y0), (x1, y1), (x2, y2) = points(draw([0, 5, 10], [0.1, 0.5, 0.9]))
    assert x0 < x1 < x2
    assert y0 > y1 > y2  # SVG counts from the top


@pytest.mark.parametrize("values", [
    [0.0, 0.0], [3.0, 3.0], [-2.0, 5.0], [1e-7, 2e-7], [12345.0, 99999.0], [0.999, 1.0]])
def test_any_range_stays_within_the_frame(values):
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points(draw([0, 1], values)))


def test_a_single_point_is_drawn():
    assert len(points(draw([7], [0.5]))) == 1


def test_values_that_are_missing_are_left_out():
    assert len(points(draw([0, 1, 2], [1.0, None, 2.0]))) == 2
    assert draw([0], [None]) == ""


def test_a_long_curve_is_thinned_and_keeps_its_end():
    svg = draw(range(5001), [step / 5000 for step in range(5001)])
    assert len(points(svg)) <= 202
    assert "step 5000: 1" in svg


def test_labels_are_escaped():
    assert "<i>" not in str(line_chart([0], [1.0], x_label="<i>", y_label="<i>"))
