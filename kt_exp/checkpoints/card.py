"""The model card: README.md with the YAML front matter of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import yaml

from kt_exp.atomic import write_atomically
from kt_exp.checkpoints.measured import Measured
from kt_exp.checkpoints.usage import Usage
from kt_exp.results.intervals import Gain
from kt_exp.results.operating_point import Calibration
from kt_exp.results.outcome import Metric

FILE_NAME = "README.md"
CLOSED_FORM = {"closed-form edit": "of the image encoder's last linear map, from texts alone"}
_SHIPPED = {f"kt_exp.pictograms.weights.{name}" for name in ("PictoClip", "SmallPictoClip")}
_USE = {
    "open_clip": """\
```python
import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
```""",
    "hf": """\
```python
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

model = CLIPModel.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
images = AutoImageProcessor.from_pretrained("FOLDER")
```""",
}
_EDIT_KEYS = ("target", "strength", "budget", "ridge", "others")


@dataclass(frozen=True)
class Card:
    """What a model card says.

    Attributes:
        base: the `model` section of the config: where the model came from.
        usage: the concepts, and the prompts that the model was measured with.
        method: how it was fine-tuned: keys and values.
        measured: of each concept; may be empty.
        calibration: the constant γ on its concepts' scores; None if it was not calibrated.
        license: identifier of the hub (`mit`); None: that of the base model.
    """

    base: Mapping[str, Any]
    usage: Usage
    method: Mapping[str, Any]
    measured: Sequence[Measured] = ()
    calibration: Calibration | None = None
    license: str | None = None


def write_card(card: Card, folder: Path, form: str) -> Path:
    """Write `folder/README.md` for a checkpoint in format `form`; return its path."""
    parts = [_front_matter(card, form),
             f"# {base_name(card.base)}, taught {_listed(card.usage.concepts)}",
             "Fine-tuned with kt_exp, which teaches a concept from its description (Knowledge "
             "Transfer, arXiv 2411.15611).",
             _section("Concepts", [f"- **{name}**: {text}" for name, text in
                                   card.usage.concepts.items()]),
             _section("Method", [f"- {key}: {_shown(value)}" for key, value in
                                 card.method.items()]),
             _section("Prompts", [f"- `{prompt}`" for prompt in card.usage.templates]),
             _measurements(card.measured), *_operating_point(card.calibration)]
    if form in _USE:
        parts.append(f"## Use\n\n{_USE[form]}")
    parts.append(f"## Licence\n\n{_license_in_words(card)}")
    path = folder / FILE_NAME
    write_atomically(path, "\n\n".join(parts) + "\n")
    return path


def method_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides the fine-tuned weights in a run's config, most important keys first."""
    finetune = config.get("finetune", {})
    if finetune.get("strategy") == "projection_edit":
        edit = finetune.get("edit", {})
        return CLOSED_FORM | {key: edit[key] for key in _EDIT_KEYS if key in edit}
    inversion = config.get("inversion", {})
    return {"images": finetune.get("images"), "images of each concept": inversion.get("images"),
            "inversion steps": inversion.get("steps"), "trained": finetune.get("strategy"),
            "captions": finetune.get("captions"), "loss": finetune.get("loss"),
            "learning rate": finetune.get("lr"), "epochs": finetune.get("epochs"),
            "batch size": finetune.get("batch_size"), "seed": config.get("seed")}


def base_name(model: Mapping[str, Any]) -> str:
    """Return the base model's name: "ViT-B-32 (openai)"."""
    name = str(model.get("name") or str(model.get("_target_", "")).rpartition(".")[2])
    return f"{name} ({model['pretrained']})" if model.get("pretrained") else name


def _front_matter(card: Card, form: str) -> str:
    library = {"hf": "transformers"}.get(form, "open_clip")
    content: dict[str, Any] = {"library_name": library,
                               "pipeline_tag": "zero-shot-image-classification",
                               "tags": ["clip", "kt_exp", "knowledge-transfer"]}
    if hub := _hub_id(card.base):
        content |= {"base_model": hub, "base_model_relation": "finetune"}
    if license := _license(card):
        content["license"] = license
    else:
        content |= {"license": "other", "license_name": "license-of-the-base-model"}
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---"


def _hub_id(model: Mapping[str, Any]) -> str | None:
    """Return the base model's repository on the hub, if it has one there."""
    name, tag = str(model.get("name", "")), model.get("pretrained")
    if name.startswith("hf-hub:"):
        return name.removeprefix("hf-hub:")
    if tag in open_clip.list_pretrained_tags_by_model(name):
        return str(open_clip.get_pretrained_cfg(name, tag).get("hf_hub", "")).strip("/") or None
    return None


def _license(card: Card) -> str | None:
    return card.license or ("mit" if card.base.get("_target_") in _SHIPPED else None)


def _license_in_words(card: Card) -> str:
    if license := _license(card):
        return license
    return "That of the base model, whose weights these are but for the changes made here."


def _measurements(rows: Sequence[Measured]) -> str:
    if not any(row.target[1] or row.known[1] for row in rows):
        return "## Measured\n\nNothing was measured."
    lines = ["| concept | target before | target after | known before | known after "
             "| known change | at 2 points lost: bias alone | after | gain |",
             "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        cells = [row.concept, *map(_rate, (*row.target, *row.known)), _points(row.forgotten),
                 *map(_rate, row.at_equal_forgetting), _points(row.gain)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(["## Measured", "", *lines, "", (
        "Target: images of the concept, against its name and all known names. Known: images of the "
        "known classes. *At 2 points lost*: the highest target accuracy over all constants on the "
        "name's score that lose at most 2 points of known accuracy; bias alone is the model before "
        "fine-tuning. Brackets are 95 % intervals: Wilson for rates, bootstrap over images for "
        "changes, in points.")])


def _operating_point(calibration: Calibration | None) -> list[str]:
    """Return a section about γ; none where there is no γ."""
    if calibration is None or calibration.point.gamma is None:
        return []
    point = calibration.point
    kind = "images inverted from known names" if calibration.images == "inverted" \
        else "known images other than those above"
    return [_section("Operating point", [
        f"Adding γ = {point.gamma:+.4f} to the score (cosine similarity) of "
        f"{_listed(dict.fromkeys(calibration.concepts, ''))} is the largest constant that loses "
        f"at most {100 * point.budget:g} % of {point.known_total} {kind}: {point.reference} were "
        f"right before fine-tuning, {point.known_correct} are with γ. It is in "
        "`kt_exp.json`, not in the weights; `kt-exp predict` adds it. No image of the concept was "
        "used."])]


def _rate(row: Metric | None) -> str:
    if row is None or row.value is None:
        return "–"
    if not row.interval:
        return f"{100 * row.value:.1f} %"
    low, high = row.interval
    return f"{100 * row.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}] ({row.count}/{row.total})"


def _points(gain: Gain | None) -> str:
    return "–" if gain is None else \
        f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *lines])


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _listed(names: Mapping[str, str]) -> str:
    *some, last = names
    return f"{', '.join(some)} and {last}" if some else last
