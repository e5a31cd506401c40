from __future__ import annotations

import pytest
import torch

from kt_exp.benchmarks.retrieval import metrics as recall
from kt_exp.benchmarks.retrieval.metrics import find_ranks
from kt_exp.errors import UserError


@pytest.fixture
def text_and_image_ranks(silent):
    """Ranks of both directions from a score matrix `(I, T)` and the owner of each caption."""

    def find(scores, owners):
        images = torch.arange(len(scores))
        text = find_ranks(lambda block: scores[block], images, owners, silent, "text")
        image = find_ranks(lambda block: scores.T[block], owners, images, silent, "image")
        return text, image

    return find


def naive_rank(scores: list[float], positives: list[bool]) -> int:
    """Sort one query's candidates, negatives before positives of the same score; count."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], positives[i]))
    return 1 + next(place for place, i in enumerate(order) if positives[i])


def test_an_image_is_found_by_any_of_its_captions_and_a_caption_by_its_image(
        text_and_image_ranks):
    owners = torch.tensor([0, 0, 1, 1])
    scores = torch.tensor([[0.1, 0.9, 0.2, 0.3],
                           [0.8, 0.7, 0.4, 0.6]])
    text, image = text_and_image_ranks(scores, owners)
    assert text.rank.tolist() == [1, 3]  # image 1: two captions of image 0 come first
    assert image.rank.tolist() == [2, 1, 1, 1]
    assert [text.hits(k) for k in (1, 2, 3)] == [1, 1, 2]
    assert [image.hits(k) for k in (1, 2)] == [3, 4]


@pytest.mark.parametrize("queries_at_once", [1, 7, 256])
@pytest.mark.parametrize("levels", [2, 20, 10_000])
def test_blocks_find_what_sorting_the_whole_matrix_finds(
        text_and_image_ranks, monkeypatch, queries_at_once, levels):
    monkeypatch.setattr(recall, "QUERIES_AT_ONCE", queries_at_once)
    generator = torch.Generator().manual_seed(levels)
    owners = torch.randint(12, (40,), generator=generator)
    owners[:12] = torch.randperm(12, generator=generator)  # each image has a caption
    scores = torch.randint(levels, (12, 40), generator=generator) / levels  # few levels, many ties
    text, image = text_and_image_ranks(scores, owners)
    assert text.rank.tolist() == [
        naive_rank(scores[i].tolist(), (owners == i).tolist()) for i in range(12)]
    assert image.rank.tolist() == [
        naive_rank(scores[:, t].tolist(), [i == owners[t] for i in range(12)]) for t in range(40)]


def test_scores_that_are_all_alike_find_nothing(text_and_image_ranks):
    text, image = text_and_image_ranks(torch.zeros(20, 100), torch.arange(100) // 5)
    assert text.hits(95) == image.hits(19) == 0
    assert text.hits(96) == 20
    assert text.tied.all()


def test_ties_between_positives_cost_nothing(text_and_image_ranks):
    text, _ = text_and_image_ranks(torch.tensor([[0.5, 0.5, 0.1], [0.0, 0.2, 0.2]]),
                                   torch.tensor([0, 0, 1]))
    assert text.rank.tolist() == [1, 2]
    assert text.tied.tolist() == [False, True]


def test_the_order_of_the_data_changes_no_rank(text_and_image_ranks):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(3, (8, 24), generator=generator).float()
    owners = torch.arange(24) // 3
    order = torch.randperm(24, generator=generator)
    text, image = text_and_image_ranks(scores, owners)
    other_text, other_image = text_and_image_ranks(scores[:, order], owners[order])
    assert other_text.rank.equal(text.rank)
    assert other_image.rank.equal(image.rank[order])


def test_scores_that_are_not_finite_are_refused(text_and_image_ranks):
    scores = torch.tensor([[0.1, float("nan")], [0.2, 0.3]])
    with pytest.raises(UserError, match="not finite"):
        text_and_image_ranks(scores, torch.tensor([0, 1]))
