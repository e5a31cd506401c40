from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kt_exp.benchmarks.classification.margins import embedding_margins, score_margins

# Two known classes, then two concepts.
SCORES = torch.tensor([[0.5, 0.25, 0.75, 0.0],
                       [0.5, 0.25, 0.0, 0.75],
                       [0.25, 0.5, 0.25, 0.0]])
CONCEPTS = (2, 3)


def test_a_margin_is_the_concepts_score_above_the_best_other():
    margins = score_margins(SCORES, own=[2], concepts=CONCEPTS)
    assert margins.values.tolist() == pytest.approx([0.25, -0.75, -0.25])
    assert margins.best_other.tolist() == [0, 3, 1]
    assert margins.best_known.tolist() == [0, 0, 1]
    assert margins.known_classes == 2


def test_concepts_that_share_a_constant_are_one_side():
    margins = score_margins(SCORES, own=CONCEPTS, concepts=CONCEPTS)
    assert margins.values.tolist() == [0.25, 0.25, -0.25]
    assert margins.taken_for().tolist() == [2, 3, 1]
    assert margins.taken_for(0.3).tolist() == [2, 3, 2]
    assert margins.taken_for(-0.3).tolist() == [0, 0, 1]


@pytest.mark.parametrize("own", range(5))
def test_images_are_taken_for_the_first_of_the_best_candidates(own):
    # Few values make many ties, also between a concept and what stands before and after it.
    scores = torch.randint(0, 3, (500, 5), generator=torch.Generator().manual_seed(own)).float()
    concepts = {own, 4}
    margins = score_margins(scores, [own], sorted(concepts))
    assert torch.equal(margins.taken_for(), scores.argmax(dim=1))
    raised = scores.clone()
    raised[:, own] += 1
    assert torch.equal(margins.taken_for(1.0), raised.argmax(dim=1))


def test_embeddings_are_taken_for_what_plain_prediction_says(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    images, classes = (torch.nn.functional.normalize(torch.randn(n, 16, generator=generator))
                       for n in (300, 12))
    monkeypatch.setattr("kt_exp.benchmarks.classification.margins.ROWS_AT_ONCE", 128)
    margins = embedding_margins(images, classes, own=[11], concepts=[10, 11])
    assert torch.equal(margins.taken_for(), (images @ classes.T).argmax(dim=1))


def test_some_images_of_all():
    margins = score_margins(SCORES, own=[3], concepts=CONCEPTS)
    some = margins[torch.tensor([False, True, True])]
    assert some.values.tolist() == [0.25, -0.5]
    assert (some.best_known.tolist(), some.known_classes) == ([0, 1], 2)


@pytest.mark.parametrize(("own", "concepts"), [([2], [3]), ([], [3]), ([0], [0, 1, 2, 3])])
def test_a_concept_needs_known_classes_beside_it(own, concepts):
    with pytest.raises(ValueError, match="candidates"):
        score_margins(SCORES, own, concepts)


def test_probabilities_are_of_all_candidates_at_the_logit_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(4, 8, generator=generator), dim=1)
    classes = F.normalize(torch.randn(9, 8, generator=generator), dim=1)
    ranking = embedding_margins(images, classes, own=[8], concepts=[8], scale=20.0).ranking
    assert ranking is not None
    whole = (20 * images @ classes.T).softmax(dim=1)
    assert torch.allclose(ranking.probabilities, whole.sort(descending=True).values[:, :5])
    assert (ranking.probabilities.sum(dim=1) < 1).all()
