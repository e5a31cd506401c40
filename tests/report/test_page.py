from __future__ import annotations

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from kt_exp.report.page import Marks, write_page
from kt_exp.results.outcome import Phase
from kt_exp.results.predictions import Guess, Guesses
from kt_exp.results.record import RunRecord, read_record, write_record

NASTY = "<b>\"O'Hara\" & sön 月</b>"
MINUS = "\N{MINUS SIGN}"
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Elements, text and attributes of a page; refuses tags that do not close in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture
def page(record, pictures, tmp_path) -> Page:
    return Page(write_page(record, tmp_path, pictures, pictures, {}))


def test_a_classification_shows_what_is_bias(classified, page, tmp_path):
    record, _ = classified.record()
    shown = Page(write_page(record, tmp_path, {}, {}, {}))
    assert "Knowledge or bias" in shown.words
    assert "after fine-tuning: target" in shown.words
    row = shown.words.split("At equal forgetting")[1].split("moongate")[1]
    after = record.metric("transferred", "moongate", "target", "target_at_2")
    assert f"{100 * after.value:.1f}% [" in row.split("umbrella")[0]
    assert "Knowledge or bias" not in page.words


def test_operating_points_are_a_table(classified, tmp_path, page):
    record, _ = classified.record(budget=0.01)
    shown = Page(write_page(record, tmp_path, {}, {}, {})).words
    rows = shown.split("Calibrated With the largest constant γ")[1]
    assert "at most 1 % of 300 other known images" in rows
    chosen, known = record.calibrations[0], record.metric("calibrated", "moongate", "known")
    assert f"moongate {chosen.point.gamma:+.4f}".replace("-", MINUS) in rows
    assert f"{100 * known.value:.1f}% [" in rows
    assert "Calibrated" not in page.words


def test_the_page_needs_nothing_from_outside(page):
    references = [
        value for _, attributes in page.elements for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    ]
    assert references
    assert all(value.startswith(("data:image/", "#concept-")) for value in references)
    assert not page.all("script") + page.all("link")
    assert "url(" not in page.text
    assert "@import" not in page.text


def test_every_image_is_embedded_whole_and_has_a_text(page):
    images = page.all("img")
    assert len(images) == 2 * 2 * 2
    for attributes in images:
        content = base64.b64decode(attributes["src"].split(",")[1])
        assert Image.open(io.BytesIO(content)).size == (64, 64)
        assert attributes["alt"]
    assert images[0]["alt"] == "inverted image of moongate, 1 of 2"


def test_large_images_are_reduced(record, tmp_path):
    photo = {"moongate": [Image.effect_noise((900, 600), 80)]}
    page = Page(write_page(record, tmp_path, {}, photo, {}))
    (image,) = page.all("img")
    assert image["src"].startswith("data:image/jpeg")
    assert Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))).size == (256, 171)


def test_the_numbers_of_the_run_are_there(page):
    for words in ("completed in 1 min 14 s", "90.0% 18/20 [70–97]", "0.0% 0/20 [0–16]",
                  f"{MINUS}1.5",
                  "umbrella: the similarity did not rise", "cosine of name and description 0.50",
                  "python -m kt_exp.run 'concepts.only=[moongate, umbrella]'", "seed 3"):
        assert words in page.words
    assert '"sizes": [' in page.text


def test_answers_before_and_after_are_bars(page):
    assert "Before: what its images were taken for moongate 0/20 wheel 13/20 dice 3/20" \
        in page.words
    assert "After: what its images were taken for moongate 18/20" in page.words
    widths = [attributes["style"] for attributes in page.all("i")]
    assert widths[:3] == ["width:0.0%", "width:65.0%", "width:15.0%"]


def test_curves_are_drawn_with_titles(page):
    charts = page.all("svg")
    assert [chart["aria-label"] for chart in charts] == [
        "similarity (cosine) over step: from 0.1 at 0 to 0.7 at 20",
        "loss over step: from 3 at 0 to 1.5 at 1",
    ]
    assert len([path for path in page.all("path") if path.get("class") == "mark"]) == 5
    assert "step 10: 0.6" in page.text


def test_table_headers_have_a_scope(page):
    assert page.all("th")
    assert all(header.get("scope") in ("col", "row", "colgroup") for header in page.all("th"))


def test_everything_from_the_user_is_escaped(record, pictures, tmp_path):
    path = write_record(record, tmp_path)
    text = path.read_text(encoding="utf-8").replace("moongate", json.dumps(NASTY)[1:-1])
    path.write_text(text, encoding="utf-8")
    record = read_record(path)
    record.config["name"], record.warnings, record.command = NASTY, [NASTY], ["kt-exp", NASTY]
    pictures[NASTY] = pictures.pop("moongate")
    page = Page(write_page(record, tmp_path, pictures, pictures, {}))
    assert not page.all("b")
    assert page.text.count(NASTY) >= 6
    assert page.all("img")[0]["alt"] == f"inverted image of {NASTY}, 1 of 2"


def test_a_task_without_targets_has_its_own_table_notes_and_pictures(retrieval, tmp_path):
    Image.effect_noise((2400, 5000), 80).save(tmp_path / "best.png")
    page = Page(write_page(retrieval, tmp_path, {}, {}, {"Best by METEOR": "best.png"}))
    assert "text_R@1 73.2 74.5 +1.3 image_R@1 55.0 54.9" in page.words
    assert "of 5 captions per image the first were used" in page.words
    assert "Accuracy" not in page.words
    assert "9 of 32 tokens" in page.words
    assert "cosine of name" not in page.words
    (panel,) = page.all("img")
    assert panel["alt"] == "Best by METEOR"
    content = base64.b64decode(panel["src"].split(",")[1])
    assert Image.open(io.BytesIO(content)).size == (1920, 4000)
    assert panel["width"] == "1200"
    assert all(header.get("scope") for header in page.all("th"))


def test_scores_of_each_concept_stand_in_the_table_and_with_the_concept(segmentation, tmp_path):
    page = Page(write_page(segmentation, tmp_path, {}, {}, {}))
    assert "moongate DSC 13.2 18.7 +5.5" in page.words
    assert "mean DSC 27.6 29.4 +1.8" in page.words
    assert "DSC 13.2 → 18.7, NSD 3.0 → 5.0" in page.words
    assert "Accuracy" not in page.words
    assert "Recognised" not in page.words


def test_the_curve_of_a_pair_matcher_says_what_its_score_is(record, tmp_path):
    record.curves["inversion"]["moongate"]["distance"] = "match"
    page = Page(write_page(record, tmp_path, {}, {}, {}))
    assert page.all("svg")[0]["aria-label"].startswith("log-probability of a match over step")


def test_a_failed_run_has_a_page_that_says_why(tmp_path):
    record = RunRecord(command=["kt-exp"], config={})
    record.close("failed", RuntimeError("no <weights> found"))
    page = Page(write_page(record, tmp_path, {}, {}, {}))
    assert "failed after 0.0 s: no <weights> found" in page.words
    assert not page.all("table")


def test_a_run_cut_off_after_the_baseline_shows_what_it_has(record, tmp_path):
    record.metrics = [row for row in record.metrics if row.phase == Phase.baseline]
    record.curves, record.status = {}, "interrupted"
    record.concepts[0].diagnosis = None
    page = Page(write_page(record, tmp_path, {}, {}, {}))
    assert "interrupted after 1 min 14 s" in page.words
    assert "not measured" in page.text
    assert not page.all("svg")


def test_images_are_marked_by_what_fine_tuning_changed(record, pictures, tmp_path) -> None:
    guesses = Guesses([Guess("wheel", 0.9, False, False), Guess(NASTY, 0.004, False, False)],
                      [Guess("moongate", 0.75, True, True), Guess("wheel", 0.2, False, False)])
    lost = [(Image.new("RGB", (8, 8)), "dice → <moongate>", guesses)]
    marks = {"moongate": Marks([("new", guesses), ("lost", guesses)], lost, lost_count=3)}
    page = Page(write_page(record, tmp_path, pictures, pictures, {}, marks))
    assert [text for text in ("✓ now", "✗ lost") if text in page.words] == ["✓ now", "✗ lost"]
    assert "Known images lost (1 of 3)" in page.words
    assert "dice → <moongate>" in page.words
    alts = [image["alt"] for image in page.all("img")]
    assert "real image of moongate, 1 of 2, recognised now" in alts
    assert "real image of umbrella, 1 of 2" in alts
    assert page.words.count(f"before wheel 90% {NASTY} <1% after moongate ✓ 75% wheel 20%") == 3
    assert len(alts) == 2 + 2 + 1 + 2 + 2  # inverted and real ones of both, and a lost one
