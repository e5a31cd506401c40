"""Texts of a figure hide neither each other nor points, with one panel and with many."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from kt_exp.drawing import DARK, LIGHT
from kt_exp.report.plots import Chart, draw
from kt_exp.report.runs import find_jobs
from kt_exp.report.style import SERIES

pytestmark = pytest.mark.slow

LONG = ["moongate", "tonometer", "gyroscope", "bengal stripe", "floral", "madras",
        "a concept with a name of many words"]
RATES = (1e-5, 2e-5, 3e-5, 4e-5, 5e-5, 1e-4, 1e-3)


def shown_texts(drawn: Chart) -> list[Text]:
    """All texts but those of ticks beyond the ends of an axis, which matplotlib does not draw."""
    beyond = set()
    for axes in drawn.figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            beyond |= {tick.label1 for tick in axis.get_major_ticks()
                       if not low <= tick.get_loc() <= high}
    return [text for text in drawn.figure.findobj(Text)
            if text.get_visible() and text.get_text().strip() and text not in beyond]


def text_boxes(drawn: Chart) -> dict[str, Bbox]:
    """Where the texts of a figure are, in pixels; slanted ones are left out."""
    renderer = FigureCanvasAgg(drawn.figure).get_renderer()
    drawn.figure.draw_without_rendering()
    return {f"{number} {text.get_text()}": text.get_window_extent(renderer)
            for number, text in enumerate(shown_texts(drawn)) if text.get_rotation() in (0, 90)}


def colliding(boxes: dict[str, Bbox]) -> list[tuple[str, str]]:
    return [(one, other) for (one, box), (other, place) in combinations(boxes.items(), 2)
            if Bbox.intersection(box.padded(-1), place.padded(-1))]


def outside(drawn: Chart, boxes: dict[str, Bbox]) -> list[str]:
    width, height = drawn.figure.bbox.size
    return [name for name, box in boxes.items()
            if box.x0 < 0 or box.y0 < 0 or box.x1 > width + 1 or box.y1 > height + 1]


@pytest.mark.parametrize("kind", ["lr", "forgetting", "bars"])
@pytest.mark.parametrize("concepts", [1, 2, 3, 7])
def test_no_text_hides_another_or_leaves_the_picture(sweeps, kind, concepts) -> None:
    names = LONG[-concepts:]
    for seed in (0, 1):
        for place, lr in enumerate(RATES):
            sweeps.run(f"{seed}-{lr}", {name: (0, min(100, 10 * place + 9 * seed), 58, 57 - place)
                                        for name in names}, seed=seed, finetune__lr=lr)
    drawn = draw(find_jobs([sweeps.root]), kind)
    boxes = text_boxes(drawn)
    assert len(boxes) > 10
    assert colliding(boxes) == []
    assert outside(drawn, boxes) == []


@pytest.mark.parametrize("concepts", [1, 3, 7])
@pytest.mark.parametrize("variants", [("inverted",), ("inverted", "noise")])
def test_no_text_of_a_trade_off_hides_another(classified, concepts, variants) -> None:
    for images in variants:
        classified.run(images, concepts=tuple(LONG[-concepts:]), finetune__images=images)
    drawn = draw(find_jobs([classified.root]), "tradeoff")
    boxes = text_boxes(drawn)
    assert colliding(boxes) == []
    assert outside(drawn, boxes) == []


def test_seven_concepts_and_their_mean_take_two_lines_of_panels(sweeps) -> None:
    for lr in (1e-5, 2e-5):
        sweeps.run(str(lr), dict.fromkeys(LONG, (0, 50, 58, 57)), finetune__lr=lr)
    drawn = draw(find_jobs([sweeps.root]), "lr")
    places = {(round(axes.get_position().x0, 3), round(axes.get_position().y0, 3))
              for axes in drawn.figure.axes}
    assert len(places) == 16
    assert [len({place[axis] for place in places}) for axis in (0, 1)] == [4, 4]
    assert drawn.figure.get_figwidth() < 10


def test_long_words_below_an_axis_are_slanted_and_all_there(sweeps) -> None:
    for number in range(6):
        sweeps.run(str(number), {"moongate": (0, 50, 58, 57)},
                   concepts__name=f"a_long_name_{number}")
    labels = draw(find_jobs([sweeps.root]), "concepts.name").figure.axes[-1].get_xticklabels()
    assert [label.get_text() for label in labels] == [
        "base", *(f"a_long_name_{number}" for number in range(6))]
    assert {label.get_rotation() for label in labels} == {30}


def test_crowded_numbers_below_an_axis_are_thinned_and_keep_their_ends(sweeps) -> None:
    for steps in range(100, 200, 4):
        sweeps.run(str(steps), {"moongate": (0, 50, 58, 57)}, inversion__steps=steps)
    labels = [label.get_text() for label in
              draw(find_jobs([sweeps.root]), "steps").figure.axes[-1].get_xticklabels()]
    assert (labels[0], labels[-1]) == ("base", "196")
    assert 5 < len([label for label in labels if label]) < 26 == len(labels)


def test_a_point_without_room_beside_it_goes_without_its_name(sweeps) -> None:
    for place in range(12):
        sweeps.run(str(place), {"moongate": (0, 50 + place % 2, 58, 50 + place % 3)},
                   finetune__lr=1e-5 * (place + 1))
    drawn = draw(find_jobs([sweeps.root]), "forgetting")
    assert 0 < len(drawn.figure.axes[0].texts) < 13
    assert colliding(text_boxes(drawn)) == []


def test_a_name_goes_where_it_covers_no_error_bar(sweeps) -> None:
    for seed, known in enumerate((40, 60)):
        sweeps.run(f"{seed}", {"moongate": (0, 50, 58, known)}, seed=seed, finetune__lr=1e-5)
        sweeps.run(f"low{seed}", {"moongate": (0, 20, 58, 57)}, seed=seed, finetune__lr=1e-6)
    drawn = draw(find_jobs([sweeps.root]), "forgetting")
    box = next(place for name, place in text_boxes(drawn).items() if name.endswith(" 1e-5"))
    [axes] = drawn.figure.axes
    [bar] = [line for line in axes.lines if [*line.get_ydata()] == [50, 50]]
    across = axes.transData.transform(bar.get_xydata())
    assert not box.y0 < across[0, 1] < box.y1


# How the three kinds of dichromats see a colour of linear RGB: Machado et al. (2009), severity 1.
VISION = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                [0.0193339, 0.1191920, 0.9503041]])


def linear(colour: str) -> np.ndarray:
    rgb = np.array([*bytes.fromhex(colour[1:])]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    ratios = np.cbrt(XYZ @ rgb.clip(0, 1) / XYZ.sum(axis=1))
    return np.array([116 * ratios[1] - 16, 500 * (ratios[0] - ratios[1]),
                     200 * (ratios[1] - ratios[2])])


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_the_colours_of_series_are_told_apart_with_any_colour_vision(theme, vision) -> None:
    """A difference (CIE76) of 2.3 is just noticeable; that of matplotlib's own C0 and C4 to a
    protanope is 7."""
    seen = [lab(np.array(VISION[vision]) @ linear(theme[name])) for name in SERIES]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 15


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("name", "least"), [
    ("ink", 7), ("soft", 4.5), *((name, 2.2) for name in SERIES)])
def test_colours_stand_out_from_the_paper(theme, name, least) -> None:
    lights = sorted(float(XYZ[1] @ linear(theme[one])) + 0.05 for one in (name, "paper"))
    assert lights[1] / lights[0] > least
