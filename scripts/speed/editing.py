"""Rows of the closed form: from descriptions to taught weights, without an image."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median

import torch
from torch.nn.functional import normalize

from kt_exp.finetune.edit_stage import EditTexts, edit
from kt_exp.store import Store
from speed.common import Bench
from speed.measure import Row, alternate

KNOWN = 1000  # classes
TOGETHER = (1, 100)  # concepts taught to one model


def editing(bench: Bench) -> Iterator[Row]:
    """Milliseconds of an edit, against those of encoding its texts alone.

    The known classes' embeddings are at hand, as in every run but the first with a model; here they
    are random. The time contains writing the weights into the store.
    """
    model, keys = bench.model, count()
    settings = replace(bench.config.finetune.edit, strength=1.0, others=None, protected=[])
    with torch.no_grad():
        dimensions = model.encode_text(["a"]).shape[1]
    generator = torch.Generator().manual_seed(0)
    known = normalize(torch.randn(KNOWN, dimensions, generator=generator), dim=-1)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for concepts in TOGETHER:
            texts = _texts(concepts)
            prompts = [text for group in (*texts.names, *texts.targets) for text in group]

            @torch.no_grad()
            def encode(prompts: list[str] = prompts) -> None:
                for start in range(0, len(prompts), 64):
                    model.encode_text(prompts[start:start + 64])

            def teach(texts: EditTexts = texts) -> None:
                edit(model, f"edit {next(keys)}", texts, settings, store, lambda _: known, None)

            taken = alternate(bench.clock, bench.repeats, {"ours": teach, "plain": encode})
            ours, plain = (1000 * median(taken[way]) for way in ("ours", "plain"))
            plural = "" if concepts == 1 else "s"
            yield Row(f"closed form, {concepts} concept{plural} at once", "ms", ours, plain,
                      against=f"encoding the texts; {KNOWN} known classes")


def _texts(concepts: int) -> EditTexts:
    colours, shapes = ("red", "green", "blue", "white", "black"), ("ring", "star", "cross", "heart")
    described = [f"a {colours[n % 5]} {shapes[n % 4]} inside {n} circles" for n in range(concepts)]
    names = [[f"a photo of a {_word(n)}."] for n in range(concepts)]
    return EditTexts(names, [[text] for text in described], [[]], [], [])


def _word(number: int) -> str:
    syllables = ("ba", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "vu")
    return syllables[number % 10] + syllables[number // 10 % 10] + "zor"
