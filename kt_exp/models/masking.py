"""Whole-word masking for masked language modelling, as BERT and ViLT do it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kt_exp.models.protocol import MaskedCaptions

# Shares of the chosen tokens that become [MASK] and random tokens; the others stay (Devlin et al.
# 2019, 3.1; ViLT's collator).
MASKED, RANDOM = 0.8, 0.1
IGNORED = -100


def mask_whole_words(tokenizer: Any, ids: Tensor, mask: Tensor, probability: float,
                     generator: torch.Generator) -> MaskedCaptions:
    """Return token ids `(B, L)` with whole words masked, and the true ids of the masked tokens.

    Words are taken in random order as long as their tokens are no more than `probability` of the
    caption's (BERT's whole-word masking); at least one word is. A word is a token and the `##`
    tokens that follow it. ViLT's collator counts padding as words: the same share on average, but
    at times no word at all. `generator` is on the CPU.
    """
    chosen = torch.zeros(ids.shape, dtype=torch.bool)
    for row, caption in enumerate(ids.tolist()):
        chosen[row, _choose(_words(tokenizer, caption), probability, generator)] = True
    chances = torch.rand(ids.shape, generator=generator)
    random = torch.randint(len(tokenizer), ids.shape, generator=generator)
    original = ids.cpu()
    masked = torch.where(chosen & (chances < MASKED), tokenizer.mask_token_id, original)
    masked = torch.where(chosen & (chances >= 1 - RANDOM), random, masked)
    labels = torch.where(chosen, original, IGNORED)
    return MaskedCaptions(masked.to(ids.device), mask, labels.to(ids.device))


def _words(tokenizer: Any, ids: list[int]) -> list[list[int]]:
    """Return the positions of each word's tokens."""
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
    words: list[list[int]] = []
    for position, (number, token) in enumerate(
            zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True)):
        if number in special:
            continue
        if words and token.startswith("##"):
            words[-1].append(position)
        else:
            words.append([position])
    return words


def _choose(words: list[list[int]], probability: float, generator: torch.Generator) -> list[int]:
    budget = max(1, round(probability * sum(len(word) for word in words)))
    shuffled = [words[i] for i in torch.randperm(len(words), generator=generator)]
    chosen: list[int] = []
    for word in shuffled:
        if len(chosen) + len(word) <= budget:
            chosen += word
    return chosen or shuffled[0]
