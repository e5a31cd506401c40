"""Training variants: the recipe and its controls, told apart by the settings of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kt_exp.errors import UserError
from kt_exp.finetune.settings import EDIT
from kt_exp.report.grouping import grouped, labels, varied
from kt_exp.report.runs import INVERTED, Job

STRATEGY, IMAGES, CAPTIONS, EXCHANGE, MODEL = KEYS = (
    "finetune.strategy", "finetune.images", "finetune.captions", "concepts.exchange", INVERTED)
LOSS = "finetune.loss"
OPTION = "control"  # the config group that sets these keys
TRAINING = ("finetune", "inversion")  # sections without effect on the untrained model
IMAGE_NAMES = {"inverted": "inverted images", "noise": "noise", "folder": "images from a folder"}
IMPLICIT = "implicit transfer"  # masked words beside noise: the description teaches (paper B.3)
NAMELESS, EXCHANGED = "captions without the name", "exchanged descriptions"


@dataclass(frozen=True)
class Variant:
    """Runs that differ only in their seed and their concepts.

    Attributes:
        label: what they were trained with, in words.
        is_noise: trained on noise in place of images of the concept.
        is_exchanged: each concept was taught with the description of another one.
    """

    label: str
    is_noise: bool
    is_exchanged: bool
    jobs: Sequence[Job]


def variants_of(jobs: Sequence[Job]) -> list[Variant]:
    """Return the variants of `jobs`, the recipe before its controls.

    Other training settings that differ are part of the label.
    """
    others, told = other_keys(jobs), _training_told(jobs)
    found = []
    groups = grouped(jobs, [*KEYS, *others])
    for values, names in labels(groups).items():
        strategy, images, captions, exchange, model = values[:len(KEYS)]
        implicit = images == "noise" and groups[values][0].value(LOSS) == "mlm"
        settings = [f"{key.split('.')[-1]} {name}"
                    for key, name in zip(others, names[len(KEYS):], strict=True)]
        trained = "closed form" if strategy == EDIT else IMPLICIT if implicit else images
        from_model = "inverted from" if images == "inverted" else "rehearsal from"
        inverted = [f"{from_model} {model}"] if model else []
        label = ", ".join([_label(trained, captions, exchange), *told[strategy, captions],
                           *inverted, *settings])
        found.append(Variant(label, trained == "noise", _is_exchanged(exchange), groups[values]))
    return sorted(found, key=lambda one: (one.is_exchanged, NAMELESS in one.label, one.is_noise))


def has_controls(jobs: Sequence[Job]) -> bool:
    """Return whether `jobs` differ in what makes a control: images, the name, the description."""
    kinds = {(job.value(STRATEGY) == EDIT, job.value(IMAGES), job.value(CAPTIONS) == "description",
              _is_exchanged(job.value(EXCHANGE))) for job in jobs}
    return len(kinds) > 1


def _training_told(jobs: Sequence[Job]) -> dict[tuple[Any, Any], list[str]]:
    """Return, by strategy and captions, those of the two that tell trained variants apart."""
    pairs = {(job.value(STRATEGY), job.value(CAPTIONS)) for job in jobs}
    strategies = {strategy for strategy, _ in pairs} - {EDIT}
    captions = {one for _, one in pairs} - {"description"}

    def words(strategy: Any, caption: Any) -> Iterator[str]:
        if len(strategies) > 1 and strategy != EDIT:
            yield f"strategy {strategy}"
        if len(captions) > 1 and caption != "description" and strategy != EDIT:
            yield f"captions {caption}"

    return {pair: [*words(*pair)] for pair in pairs}


def other_keys(jobs: Sequence[Job]) -> list[str]:
    """Return the settings besides those of a control in which `jobs` differ."""
    return [key for key in varied(jobs) if key not in (*KEYS, OPTION)]


def comparable(jobs: Sequence[Job]) -> list[Job]:
    """Return the completed ones of `jobs`, which differ in their training alone.

    Raises:
        UserError: there is none, or they differ in the model or the benchmark.
    """
    completed = [job for job in jobs if job.state == "completed"]
    if not completed:
        raise UserError("runs", "none of them is completed",
                        "kt-report status shows how far they are")
    for key in other_keys(completed):
        if key.split(".")[0] not in TRAINING:
            raise UserError("runs", f"they differ in {key}, and so in what bias alone reaches",
                            f"choose one by --where {key}=…")
    return completed


def _is_exchanged(exchange: object) -> bool:
    return exchange not in (None, "none")  # None: a run from before there was such a key


def _label(images: object, captions: object, exchange: object) -> str:
    parts = [NAMELESS] if captions == "description" else []
    parts += [EXCHANGED] if _is_exchanged(exchange) else []
    if images == "inverted" and parts:
        return ", ".join(parts)
    return ", ".join([IMAGE_NAMES.get(str(images), str(images)), *parts])
