"""Losses against loops over pairs."""

import math

import pytest
import torch
import torch.nn.functional as F

from kt_exp.finetune import losses

TEMPERATURE = 0.07


def unit(rows, seed):
    return F.normalize(torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


IMAGES, TEXTS = unit(5, 0), unit(5, 1)


def softmax_loss(anchor, positive, others):
    scores = [float(anchor @ other) / TEMPERATURE for other in others]
    return math.log(sum(map(math.exp, scores))) - float(anchor @ positive) / TEMPERATURE


def test_ntxent_takes_all_others_of_the_2b_as_negatives():
    stacked = [*IMAGES, *TEXTS]
    terms = [softmax_loss(stacked[i], stacked[(i + 5) % 10],
                          [stacked[j] for j in range(10) if j != i]) for i in range(10)]
    assert losses.ntxent(IMAGES, TEXTS, TEMPERATURE).item() == pytest.approx(sum(terms) / 10,
                                                                             rel=1e-4)


def test_clip_takes_the_other_pairs_both_ways():
    terms = [softmax_loss(IMAGES[i], TEXTS[i], TEXTS) + softmax_loss(TEXTS[i], IMAGES[i], IMAGES)
             for i in range(5)]
    assert losses.clip(IMAGES, TEXTS, TEMPERATURE).item() == pytest.approx(sum(terms) / 10,
                                                                           rel=1e-4)


def test_class_ce_takes_the_known_classes_as_negatives():
    known = unit(7, 2)
    terms = [softmax_loss(IMAGES[i], TEXTS[i], [TEXTS[i], *known]) for i in range(5)]
    found = losses.class_ce(IMAGES, TEXTS, TEMPERATURE, known).item()
    assert found == pytest.approx(sum(terms) / 5, rel=1e-4)


def image_gradient(loss, raw, texts):
    raw = raw.clone().requires_grad_()
    loss(F.normalize(raw, dim=-1), texts).backward()
    return raw.grad


def test_where_all_captions_are_the_same_only_ntxent_teaches_which_way_to_go():
    """CLIP's image→text half is log B whatever the images are, so it has no gradient; its other
    half falls silent, too, once the images agree with each other."""
    same = TEXTS[:1].expand(5, -1)
    labels = torch.arange(5)

    def image_to_text(images, texts):
        return F.cross_entropy(images @ texts.T / TEMPERATURE, labels)

    assert image_to_text(IMAGES, same).item() == pytest.approx(math.log(5))
    assert image_gradient(image_to_text, IMAGES, same).abs().max() < 1e-6
    agreeing = IMAGES[:1].repeat(5, 1)
    clip = image_gradient(lambda i, t: losses.clip(i, t, TEMPERATURE), agreeing, same)
    assert clip.abs().max() < 1e-5
    ntxent = image_gradient(lambda i, t: losses.ntxent(i, t, TEMPERATURE), agreeing, same)
    assert ntxent.abs().max() > 1e-2
    towards = F.cosine_similarity(agreeing - 0.01 * ntxent, same)
    assert (towards > F.cosine_similarity(agreeing, same)).all()


def test_a_single_pair_has_no_negatives_in_ntxent():
    gradient = image_gradient(lambda i, t: losses.ntxent(i, t, TEMPERATURE), IMAGES[:1], TEXTS[:1])
    assert gradient.abs().max() == 0
