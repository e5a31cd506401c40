"""A hash of a network's weights: what tells one state of a model from another."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def digest_of(network: nn.Module, settings: str = "") -> str:
    """Return a hash of `settings` and of the names, shapes, types and values of a network's state.

    The same values hash alike in any memory order (channels last, transposed). It is part of the
    store's keys: a change of what is hashed, or how, makes all entries of the model useless.
    """
    digest = hashlib.sha256(settings.encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()
