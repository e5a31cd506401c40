"""report.html: a run as one self-contained page, without network access or scripts."""

from __future__ import annotations

import base64
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from kt_exp.atomic import write_atomically
from kt_exp.drawing import DARK, LIGHT, SCALE, Images
from kt_exp.progress import duration
from kt_exp.report.plots import draw_history, draw_run
from kt_exp.report.style import MISSING, REMEDY, has_matplotlib
from kt_exp.results import summary
from kt_exp.results.calibrated import calibrated_rows, calibration_line, calibration_reasons
from kt_exp.results.inverted_images import INVERTED_TITLE, inverted_rows
from kt_exp.results.outcome import JOINT
from kt_exp.results.predictions import Guesses
from kt_exp.results.record import ConceptEntry, RunRecord, plain

FILE_NAME = "report.html"
MOST_IMAGES = 10  # of each kind and concept
MOST_CONFUSIONS = 5
LARGEST_EXACT = 128  # px: images up to this size are embedded as PNG, with hard pixel edges
LARGEST_SHOWN = 256  # px: larger images are reduced to this size
WIDEST_PANEL = 1920  # px
NO_CHARTS = f"No charts: {MISSING} ({REMEDY})."
SCORES = {"match": "log-probability of a match"}  # by distance; all others are similarities


@dataclass(frozen=True)
class Marks:
    """What fine-tuning changed for the images on the page, by concept.

    Attributes:
        targets: of each real image "new" (recognised now), "lost", "kept" or "wrong", and the
            likeliest names.
        lost: known images that are recognised no more, each with "label → taken for" and the
            likeliest names.
        lost_count: how many there are in all.
    """

    targets: Sequence[tuple[str, Guesses]]
    lost: Sequence[tuple[Image.Image, str, Guesses]]
    lost_count: int


@dataclass(frozen=True)
class Card:
    """An image on the page, with the likeliest names before and after.

    Attributes:
        source: its data URI.
        tone: good, bad or soft: the colour of `caption`.
    """

    source: str
    alt: str
    caption: str
    tone: str
    guesses: Guesses


MARKS = {"new": ("✓ now", "recognised now", "good"),
         "lost": ("✗ lost", "no longer recognised", "bad"),
         "kept": ("✓", "recognised before and after", "soft"),
         "wrong": ("✗", "not recognised", "soft")}


def write_page(record: RunRecord, folder: Path, inverted: Images, targets: Images,
               panels: Mapping[str, str], marks: Mapping[str, Marks] | None = None) -> Path:
    """Write `folder/report.html` and return its path.

    `inverted` and `targets` map a concept's name to its inverted and its real images; both may lack
    concepts, as in failed runs. `panels` are pictures in `folder`, title → file name, drawn at
    twice their size on the page. `marks`, by concept, say what fine-tuning changed for images.
    """
    rows = summary.concept_rows(record)
    scores = summary.scores(record)
    content = html_environment().get_template("page.html.jinja").render(
        record=record,
        headline=summary.headline(record),
        reused=summary.reuse_line(record),
        has_accuracies=summary.target_metric(record) in summary.ACCURACY_METRICS,
        scores=scores,
        mean_scores=summary.mean_scores(scores),
        tradeoffs=summary.tradeoff_rows(record),
        tradeoff_phases=summary.TRADEOFF_PHASES,
        calibrated=calibrated_rows(record),
        calibration_line=calibration_line(record),
        calibration_reasons=calibration_reasons(record),
        inverted=inverted_rows(record),
        inverted_title=INVERTED_TITLE,
        tradeoff=draw_run(record).svg() if record.tradeoffs and has_matplotlib() else "",
        panels=[(title, *_panel(folder / name)) for title, name in panels.items()],
        rows=[*rows, summary.mean_row(rows)] if len(rows) > 1 else rows,
        no_charts=NO_CHARTS if any(record.curves.values()) and not has_matplotlib() else "",
        concepts=[
            _concept(record, concept, row, scores, inverted, targets,
                     (marks or {}).get(concept.name, Marks((), (), 0)))
            for concept, row in zip(record.concepts, rows, strict=True)
        ],
        config=json.dumps(plain(record.config), indent=2, ensure_ascii=False),
        command=shlex.join(record.command),
    )
    path = folder / FILE_NAME
    write_atomically(path, content)
    return path


def html_environment() -> Environment:
    """Return the Jinja environment of the pages' templates."""
    environment = Environment(
        loader=PackageLoader("kt_exp.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )
    environment.filters |= {"signed": summary.signed, "duration": duration,
                            "one_decimal": summary.one_decimal}
    environment.globals |= {"light": LIGHT, "dark": DARK}
    return environment


def _concept(record: RunRecord, concept: ConceptEntry, row: summary.Row,
             scores: Sequence[summary.Score], inverted: Images, targets: Images,
             marks: Marks) -> dict[str, Any]:
    name = concept.name
    answers = {
        "Before": _bars(record, "baseline", name, row.target_before),
        "After": _bars(record, "transferred", name, row.target_after),
    }
    return {
        **vars(concept),
        "row": row,
        "scores": [score for score in scores if score.name == name],
        "pictures": [
            ("Inverted from the description", _embedded(inverted.get(name, ())),
             f"inverted image of {name}"),
            ("Real images", [] if marks.targets else _embedded(targets.get(name, ())),
             f"real image of {name}"),
        ],
        "cards": _target_cards(name, targets.get(name, ()), marks),
        "lost": _lost_cards(marks),
        "lost_count": marks.lost_count,
        "charts": _charts(record, name),
        "confusions": [(label, bars) for label, bars in answers.items() if bars],
    }


def _target_cards(name: str, images: Sequence[Image.Image], marks: Marks) -> list[Card]:
    """Return the real images of a concept, if it is known what they are taken for."""
    sources = _embedded(images)
    cards = []
    for number, (source, (mark, guesses)) in enumerate(zip(sources, marks.targets, strict=False)):
        caption, meaning, tone = MARKS[mark]
        alt = f"real image of {name}, {number + 1} of {len(sources)}, {meaning}"
        cards.append(Card(source, alt, caption, tone, guesses))
    return cards


def _lost_cards(marks: Marks) -> list[Card]:
    sources = _embedded([image for image, _, _ in marks.lost])
    return [Card(source, f"known image lost: {text}", text, "bad", guesses)
            for source, (_, text, guesses) in zip(sources, marks.lost, strict=False)]


def _charts(record: RunRecord, name: str) -> list[tuple[str, Markup]]:
    if not has_matplotlib():
        return []
    drawn = []
    if curve := record.curves.get("inversion", {}).get(name):
        distance = curve["distance"]
        label = SCORES.get(distance, f"similarity ({distance})")
        drawn.append(("Score during inversion", draw_history(
            curve["steps"], curve["score"], x_label="step", y_label=label)))
    finetuned = record.curves.get("finetune", {})
    if curve := finetuned.get(name) or finetuned.get(JOINT):
        drawn.append(("Loss during fine-tuning", draw_history(
            curve["steps"], curve["loss"], x_label="step", y_label="loss")))
    return [(title, chart.svg()) for title, chart in drawn if chart]


def _bars(record: RunRecord, phase: str, name: str,
          accuracy: summary.Accuracy | None) -> list[dict[str, Any]]:
    """Return what a concept's images were assigned to: itself, then the most frequent errors."""
    if accuracy is None or not accuracy.total:
        return []
    answers = [(name, accuracy.hits or 0, True)] + [
        (row.predicted, row.count, False)
        for row in record.mistaken_for(phase, name)[:MOST_CONFUSIONS]
    ]
    return [
        {"name": answer, "count": count, "right": right, "share": count / accuracy.total,
         "total": accuracy.total}
        for answer, count, right in answers
    ]


def _embedded(images: Sequence[Image.Image]) -> list[str]:
    return [_data_uri(image, LARGEST_SHOWN, LARGEST_SHOWN) for image in images[:MOST_IMAGES]]


def _panel(path: Path) -> tuple[str, int]:
    """Return a picture as a data URI, and its width on the page in pixels."""
    with Image.open(path) as image:
        return _data_uri(image, WIDEST_PANEL, image.height), image.width // SCALE


def _data_uri(image: Image.Image, width: int, height: int) -> str:
    """Return an image as a data URI, reduced to fit into `width` × `height` pixels."""
    image = image.convert("RGB")
    buffer = io.BytesIO()
    if max(image.size) <= LARGEST_EXACT:
        kind = "png"
        image.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        image.thumbnail((width, height))
        image.save(buffer, "JPEG", quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
