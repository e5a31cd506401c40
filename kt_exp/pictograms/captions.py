"""The training corpus: drawn examples and the captions that are written for them.

Names appear alone ("a photo of a mushroom"), in definitions ("a mushroom is …") and beside
descriptions; definitions are mostly partial, and worded anew each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kt_exp.pictograms.composition import random_look
from kt_exp.pictograms.held_out import is_held_out_look
from kt_exp.pictograms.naming import invent_names
from kt_exp.pictograms.scene import Node, draw_look
from kt_exp.pictograms.vocabulary import KNOWN_LOOKS
from kt_exp.pictograms.words import Writer, article

NAMED = (
    "a photo of {}",
    "a photo of {}",
    "a picture of {}",
    "a drawing of {}",
    "{}",
    "this is {}",
    "a small photo of {}",
)
BESIDE = ("a photo of {}, {}", "a picture of {}: {}", "{}, {}", "a drawing of {} with {}")
DESCRIBED = ("{}", "{}", "a photo of {}", "a picture of {}", "a drawing of {}")


@dataclass(frozen=True)
class Concept:
    """Something to draw: a look, and the name it goes by (``None``: a free composition)."""

    look: Node
    name: str | None = None


@dataclass(frozen=True)
class Example:
    """One drawing's truth: its concept, the colours it came out with, its ground colour."""

    concept: int
    name: str | None
    look: Node
    closed: Node
    ground: str


@dataclass(frozen=True)
class Mix:
    """How often each kind of caption is written for a named thing; the rest describes only."""

    named: float = 0.4
    defined: float = 0.3
    beside: float = 0.1


def invented_concepts(count: int, seed: int) -> list[Concept]:
    """``count`` invented names, each with a random look that leaves some colours open."""
    rng = np.random.default_rng([seed, 1])
    names = invent_names(count, rng)
    return [Concept(random_look(rng, open_rate=float(rng.choice([0.0, 0.4]))), n) for n in names]


def known_concepts() -> list[Concept]:
    """The known classes, in the order of ``vocabulary.KNOWN_LOOKS``."""
    return [Concept(look, name) for name, look in KNOWN_LOOKS.items()]


def draw_example(concept: Concept, index: int, seed: list[int]) -> tuple[np.ndarray, Example]:
    """One drawing of a concept, uint8 ``(64, 64, 3)``, with its truth."""
    image, closed, ground = draw_look(concept.look, np.random.default_rng(seed), is_held_out_look)
    return image, Example(index, concept.name, concept.look, closed, ground)


def with_article(name: str, rng: np.random.Generator) -> str:
    """A name as captions use it: mostly with its article."""
    return name if rng.random() < 0.1 else article(name)


def write_caption(example: Example, rng: np.random.Generator, mix: Mix) -> str:
    """One caption for an example, of a random kind and wording."""
    kind = rng.random()
    stop = "." if rng.random() < 0.3 else ""
    if example.name is not None and kind < mix.named + mix.defined + mix.beside:
        name = with_article(example.name, rng)
        if kind < mix.named:
            return _pick(NAMED, rng).format(name) + stop
        keep = float(rng.choice([0.35, 0.6, 0.85, 1.0]))
        phrase = Writer(rng, keep).phrase(example.look)
        if kind < mix.named + mix.defined:
            return f"{article(example.name)} is {phrase}{stop}"
        return _pick(BESIDE, rng).format(name, phrase) + stop
    phrase = Writer(rng, float(rng.choice([0.8, 1.0]))).phrase(example.closed)
    caption = _pick(DESCRIBED, rng).format(phrase)
    if rng.random() < 0.15:
        caption += f" on a {example.ground} background"
    return caption + stop


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
