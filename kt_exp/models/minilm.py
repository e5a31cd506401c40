"""Sentence embeddings of a BERT such as all-MiniLM-L6-v2 (Reimers & Gurevych 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertModel

MAX_TOKENS = 256  # as all-MiniLM-L6-v2 was trained
_CHUNK = 128


def read_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of a `tokenizer.json`, with padding and truncation off."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def embed_sentences(text: BertModel, tokenizer: Tokenizer, captions: Sequence[str]) -> Tensor:
    """Return sentence embeddings `(T, D)` of unit norm: the mean over the tokens' last states."""
    device = text.embeddings.word_embeddings.weight.device
    tokens = [_cut(tokenizer.encode(caption).ids) for caption in captions]
    # In chunks of similar length, which need little padding.
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    embedded: list[Tensor] = []
    for start in range(0, len(order), _CHUNK):
        chunk = [torch.tensor(tokens[i]) for i in order[start:start + _CHUNK]]
        ids = nn.utils.rnn.pad_sequence(chunk, batch_first=True).to(device)
        lengths = torch.tensor([len(caption) for caption in chunk], device=device)
        mask = torch.arange(ids.shape[1], device=device) < lengths[:, None]
        states = text(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        embedded.append((states * mask[..., None]).sum(dim=1) / lengths[:, None])
    back = torch.tensor(order).argsort().to(device)
    return F.normalize(torch.cat(embedded).float(), dim=-1)[back]


def _cut(ids: list[int]) -> list[int]:
    return ids if len(ids) <= MAX_TOKENS else [*ids[:MAX_TOKENS - 1], ids[-1]]
