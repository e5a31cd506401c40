from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from kt_exp.drawing import ACCENT, CELL, enlarge
from kt_exp.report.figures import contact_sheet, overview
from kt_exp.results.outcome import Metric
from kt_exp.results.record import RunRecord


def colours(path) -> set[str]:
    image = Image.open(path).convert("RGB")
    return {"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in image.getcolors(1 << 20)}


def count(path, colour: str) -> int:
    wanted = tuple(bytes.fromhex(colour[1:]))
    return sum(n for n, found in Image.open(path).convert("RGB").getcolors(1 << 20)
               if found == wanted)


def set_metric(record: RunRecord, metric: Metric, value: float) -> None:
    count = None if metric.count is None else round(value * metric.total)
    at = record.metrics.index(metric)
    record.metrics[at] = replace(metric, value=value, count=count)


def test_a_contact_sheet_shows_every_image_in_full(pictures, tmp_path):
    path = contact_sheet(pictures, tmp_path / "sheet.png")
    assert count(path, "#ff0000") == count(path, "#0000ff") == 2 * CELL * CELL


def test_a_contact_sheet_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet({"moongate": []}, tmp_path / "sheet.png")


def test_the_overview_shows_inverted_and_real_images_and_bars(record, pictures, tmp_path):
    green = {name: [Image.new("RGB", (300, 150), "#00ff00")] for name in pictures}
    path = overview(record, pictures, green, tmp_path / "overview.png", shown=1)
    assert count(path, "#ff0000") == 2 * CELL * CELL
    assert count(path, "#00ff00") == 2 * CELL * CELL // 2
    assert "#0000ff" not in colours(path)


def test_a_higher_accuracy_has_a_longer_bar(record, pictures, tmp_path):
    lengths = []
    for hits in (5, 10, 20):
        set_metric(record, record.metric("transferred", "moongate", "target"), hits / 20)
        lengths.append(count(overview(record, {}, {}, tmp_path / "o.png"), ACCENT))
    assert lengths[0] < lengths[1] < lengths[2]


def test_segmentation_has_bars_of_its_first_score(segmentation, tmp_path):
    """DSC 0.187 and 0.4 after transfer: the bars add up to as much as one of 0.587."""
    both = count(overview(segmentation, {}, {}, tmp_path / "o.png"), ACCENT)
    set_metric(segmentation, segmentation.metric("transferred", "umbrella", "target", "DSC"), 0)
    one = count(overview(segmentation, {}, {}, tmp_path / "o.png"), ACCENT)
    assert 1.8 < (both - one) / one < 2.3


def test_a_long_description_makes_room_for_itself(record, pictures, tmp_path):
    def height() -> int:
        return Image.open(overview(record, pictures, pictures, tmp_path / "o.png")).height

    short = height()
    record.concepts[0].description = "a thing that takes many words to describe " * 8
    assert height() > short


def test_small_images_keep_hard_pixels():
    dots = Image.new("RGB", (2, 1), "black")
    dots.putpixel((1, 0), (255, 255, 255))
    big = enlarge(dots, 100)
    assert big.size == (100, 50)
    assert len(big.getcolors()) == 2
