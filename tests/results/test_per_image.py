"""per_image.csv, as another program reads it."""

import csv

from kt_exp.results.outcome import ImageScore
from kt_exp.results.per_image import write_per_image


def test_scores_and_what_was_said_come_back(tmp_path):
    said = 'a "tower",\nand a dish'
    scores = [ImageScore("baseline", "tower", "a/1.png", "METEOR", 0.25, said),
              ImageScore("transferred", "tower", "a/1.png", "DSC", 1.0)]
    path = write_per_image(scores, tmp_path)
    assert path == tmp_path / "per_image.csv"
    with path.open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert first == {"phase": "baseline", "concept": "tower", "image": "a/1.png",
                     "metric": "METEOR", "value": "0.25", "text": said}
    assert (second["value"], second["text"]) == ("1.0", "")


def test_no_cell_is_a_formula(tmp_path):
    score = ImageScore("baseline", "=HYPERLINK(1)", "@1.png", "METEOR", -0.25, "+1")
    with write_per_image([score], tmp_path).open(newline="", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert (row["concept"], row["image"], row["text"]) == ("'=HYPERLINK(1)", "'@1.png", "'+1")
    assert row["value"] == "-0.25"
