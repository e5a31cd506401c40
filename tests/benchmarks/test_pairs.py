"""Scores of every pair, and classification by them, with a model that sees and reads colours."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from kt_exp.benchmarks import pairs
from kt_exp.benchmarks.datasets import ImageFiles
from kt_exp.benchmarks.pairs import KIND, score_pairs
from kt_exp.errors import UserError
from kt_exp.models.protocol import EmbeddedCaptions
from kt_exp.store import Store

RGB = {"red": (1.0, 0, 0), "green": (0, 1.0, 0), "blue": (0, 0, 1.0)}
CAPTIONS = ["a red thing, long since faded", "green", "blue sky", "red", "a green hill over there"]


class Matcher:
    """Matches an image with the colour that a caption names; a word is a token."""

    image_size, max_text_tokens = 4, 40

    def __init__(self, colour_model):
        self.device = torch.device("cpu")
        self.module = torch.nn.Linear(1, 1)
        self.to_tensor = colour_model.to_tensor
        self.embedded: list[int] = []
        self.pairs = 0

    def embed_images(self, images):
        self.embedded.append(len(images))
        return images.mean(dim=(2, 3))[:, None]

    def embed_captions(self, captions):
        lengths = torch.tensor([len(caption.split()) for caption in captions])
        mask = (torch.arange(10) < lengths[:, None]).long()
        colours = torch.tensor([next(rgb for word, rgb in RGB.items() if word in caption)
                                for caption in captions])
        return EmbeddedCaptions(colours[:, None] * mask[:, :, None], mask)

    def match_block(self, images, captions):
        self.pairs += len(images) * len(captions.tokens)
        assert captions.mask.shape[1] == captions.mask.sum(dim=1).max()
        means = captions.tokens.sum(dim=1) / captions.mask.sum(dim=1, keepdim=True)
        return images[:, 0] @ means.T * 8 - 4


@dataclass
class Settings:
    batch_size: int = 2
    workers: int = 0
    on_bad_image: str = "skip"


@pytest.fixture
def matcher(colour_model):
    return Matcher(colour_model)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def images(tmp_path, paint, truncated):
    files = [paint(tmp_path / f"{i}.png", colour) for i, colour in
             enumerate(("red", "green", "blue", "green", "red"))]
    files.insert(2, truncated(tmp_path / "cut.jpg"))
    return ImageFiles(tmp_path, files, [0, 1, 9, 2, 1, 0])


def score(matcher, images, store, progress, captions=CAPTIONS):
    return score_pairs(matcher, images, captions, Settings(), store, "k", progress, "Scoring")


def test_every_image_meets_every_caption_in_their_order(matcher, images, store, silent):
    found = score(matcher, images, store, silent)
    assert found.scores.shape == (5, 5)
    assert found.labels.tolist() == [0, 1, 2, 1, 0]
    assert [path.endswith("cut.jpg") for path in found.skipped] == [True]
    named = torch.tensor([0, 1, 2, 0, 1])
    assert torch.equal(found.scores > 0, found.labels[:, None] == named)
    assert sum(matcher.embedded) == 5
    assert matcher.pairs == 25


@pytest.mark.parametrize(("pairs_at_once", "captions_at_once"), [(1, 1), (3, 2), (7, 3), (99, 99)])
def test_blocks_change_nothing(matcher, images, store, silent, monkeypatch, pairs_at_once,
                               captions_at_once):
    whole = score(matcher, images, store, silent)
    store.discard(KIND, "k")
    monkeypatch.setattr(pairs, "PAIRS_AT_ONCE", pairs_at_once)
    monkeypatch.setattr(pairs, "CAPTIONS_AT_ONCE", captions_at_once)
    again = score(matcher, images, store, silent)
    torch.testing.assert_close(again.scores, whole.scores)
    assert (again.skipped, again.labels.tolist()) == (whole.skipped, whole.labels.tolist())


@pytest.mark.parametrize("dies_at", [0, 1, 2, 3, 4])
def test_a_killed_run_goes_on_where_it_was(matcher, images, store, silent, monkeypatch, tmp_path,
                                           dies_at):
    whole = score(matcher, images, Store(tmp_path / "other"), silent)
    monkeypatch.setattr(pairs, "SAVE_SECONDS", -1.0)
    monkeypatch.setattr(pairs, "PAIRS_AT_ONCE", 1)
    matcher.embedded, embed = [], matcher.embed_images

    def dying(some):
        if len(matcher.embedded) == dies_at:
            raise KeyboardInterrupt
        return embed(some)

    matcher.embed_images = dying
    with pytest.raises(KeyboardInterrupt):
        score(matcher, images, store, silent)
    matcher.embed_images = embed
    again = score(matcher, images, store, silent)
    assert sum(matcher.embedded) == 5
    assert torch.equal(again.scores, whole.scores)
    assert (again.skipped, again.labels.tolist()) == (whole.skipped, whole.labels.tolist())


def test_a_second_run_scores_nothing(matcher, images, store, silent):
    first = score(matcher, images, store, silent)
    matcher.pairs = 0
    assert torch.equal(score(matcher, images, store, silent).scores, first.scores)
    assert matcher.pairs == 0


def test_scores_that_are_not_finite_are_refused_and_not_kept(matcher, images, store, silent):
    matcher.match_block = lambda images, captions: torch.full((len(images), 5), torch.nan)
    with pytest.raises(UserError, match="not finite"):
        score(matcher, images, store, silent)
    assert not store.has(KIND, "k")


def test_progress_counts_pairs(matcher, images, store):
    seen = []

    class Bar:
        def __init__(self, total):
            self.total, self.done = total, 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            seen.append((self.done, self.total))

        def advance(self, n=1):
            self.done += n

    score(matcher, images, store, lambda description, total: Bar(total))
    assert seen == [(30, 30)]
