"""What evaluation asks of the world: class names, prompt templates, fresh drawings."""

from __future__ import annotations

import re
import zlib

import numpy as np

from kt_exp.pictograms.composition import random_look
from kt_exp.pictograms.held_out import DEVELOPMENT, REPORTED, is_held_out_look
from kt_exp.pictograms.naming import invent_names
from kt_exp.pictograms.scene import Node, draw_look
from kt_exp.pictograms.vocabulary import KNOWN_LOOKS

TRAINING_SEED = 0  # of the shipped PictoCLIP
COMPOSITION, COMPOSITIONS_SEED = re.compile(r"composition (\d+)"), 20
KNOWN: tuple[str, ...] = tuple(KNOWN_LOOKS)
HELD_OUT: tuple[str, ...] = (*REPORTED, *DEVELOPMENT)
TEMPLATES: tuple[str, ...] = (
    "a photo of a {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
)


def invented_names(count: int) -> list[str]:
    """Names of the first `count` invented things that PictoCLIP was trained on."""
    return invent_names(count, np.random.default_rng([TRAINING_SEED, 1]))


def composition(number: int) -> Node:
    """Random look number ``number``, always the same: a class of its own, without a name."""
    return random_look(np.random.default_rng([TRAINING_SEED, COMPOSITIONS_SEED, number]))


def look_of(name: str) -> Node:
    """The look of a known or held-out class, or of "composition 17".

    Raises ``KeyError`` with the names there are.
    """
    if numbered := COMPOSITION.fullmatch(name):
        return composition(int(numbered[1]))
    for looks in (KNOWN_LOOKS, REPORTED, DEVELOPMENT):
        if name in looks:
            return looks[name]
    raise KeyError(f"no pictogram class {name!r}; known: {KNOWN}; held out: {HELD_OUT}")


def draw_class(name: str, count: int, seed: int) -> np.ndarray:
    """``count`` drawings of a class: uint8 ``(count, 64, 64, 3)``.

    Image ``i`` depends on ``(name, seed, i)`` only, so asking for more keeps the first ones.
    """
    look = look_of(name)
    key = zlib.crc32(name.encode())
    streams = (np.random.default_rng([seed, key, i]) for i in range(count))
    # Open colours of a known class must not happen to close into a held-out look.
    avoid = is_held_out_look if name in KNOWN_LOOKS else None
    images = [draw_look(look, rng, avoid)[0] for rng in streams]
    return np.stack(images) if images else np.empty((0, 64, 64, 3), np.uint8)
