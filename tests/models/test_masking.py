"""Whole-word masking: how much, which tokens, and what becomes of them."""

import pytest
import torch
from transformers import AutoTokenizer

from kt_exp.models.masking import IGNORED, mask_whole_words

LONG = "a photo of a house. wheel of a tower, tower of a wheel, a photo of a photo of a house"


@pytest.fixture(scope="module")
def tokenizer(vilt_folders):
    return AutoTokenizer.from_pretrained(vilt_folders["itm"])


def mask(tokenizer, captions, probability=0.15, seed=0):
    tokens = tokenizer(captions, padding=True, return_tensors="pt")
    ids = tokens["input_ids"]
    return ids, mask_whole_words(tokenizer, ids, tokens["attention_mask"], probability,
                                 torch.Generator().manual_seed(seed))


def test_labels_are_the_true_words_and_the_rest_is_untouched(tokenizer):
    ids, masked = mask(tokenizer, [LONG, "house"])
    chosen = masked.labels != IGNORED
    assert torch.equal(masked.labels[chosen], ids[chosen])
    assert torch.equal(masked.ids[~chosen], ids[~chosen])


def test_the_ends_and_the_padding_are_never_chosen(tokenizer):
    ids, masked = mask(tokenizer, ["house", LONG] * 50, 1.0)
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    assert torch.equal(masked.labels == IGNORED, special)


@pytest.mark.parametrize("probability", [0.15, 0.5])
def test_the_share_of_tokens(tokenizer, probability):
    ids, masked = mask(tokenizer, [LONG] * 20, probability)
    budget = round(probability * (ids.shape[1] - 2))
    assert (masked.labels != IGNORED).sum(dim=1).tolist() == [budget] * 20


def test_at_least_one_word_even_if_it_is_long(tokenizer):
    assert len(tokenizer.tokenize("zebra")) == 5
    for caption, tokens in (("house", 1), ("zebra", 5)):
        _, masked = mask(tokenizer, [caption])
        assert (masked.labels != IGNORED).sum() == tokens


def test_a_word_is_chosen_whole_or_not_at_all(tokenizer):
    ids, masked = mask(tokenizer, ["zebra gnu lynx zebra gnu lynx zebra gnu lynx"] * 50, 0.3)
    continues = [token.startswith("##") for token in tokenizer.convert_ids_to_tokens(ids[0])]
    chosen = masked.labels != IGNORED
    for position, inner in enumerate(continues):
        if inner:
            assert torch.equal(chosen[:, position], chosen[:, position - 1])
    assert chosen.any(dim=1).all()
    assert not chosen[:, 1:-1].all(dim=1).any()


def test_eighty_percent_are_masked_ten_random_ten_kept(tokenizer):
    ids, masked = mask(tokenizer, [LONG] * 400, 1.0)
    chosen = masked.labels != IGNORED
    hidden = (masked.ids == tokenizer.mask_token_id)[chosen].float().mean()
    kept = (masked.ids == ids)[chosen].float().mean()
    assert abs(hidden - 0.8) < 0.02
    assert abs(kept - 0.1) < 0.02


def test_a_seed_gives_the_same_masking_and_another_one_another(tokenizer):
    (_, one), (_, same), (_, other) = (mask(tokenizer, [LONG] * 4, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.ids, same.ids)
    assert not torch.equal(one.labels, other.labels)
    assert len({tuple(row) for row in one.labels.tolist()}) > 1
