"""Chunks: how many images go through the model together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from kt_exp.errors import UserError
from kt_exp.models.protocol import Model

Image = tuple[str, int]  # store key of the caption, number of the image
_LARGEST = 256
_CPU_BUDGET = 4 * 2**30
_CUDA_SHARE = 0.6
# The outputs of leaf modules miss what autograd saves inside attention and element-wise steps.
_OVERHEAD = 3


def make_chunks(images: Sequence[Image], size: int, whole: int = 1) -> list[list[Image]]:
    """Split the images into chunks of at most `size`, in order, keeping groups of `whole` together.

    A group larger than `size` is its own chunk.
    """
    size = max(size // whole, 1) * whole
    return [list(images[at:at + size]) for at in range(0, len(images), size)]


def chunk_size(size: int | str, model: Model) -> int:
    """Return how many images go through the model at once: `size`, or what fits for `auto`."""
    return auto_chunk_size(model) if size == "auto" else int(size)


@contextmanager
def fitting_memory(images: int, device: torch.device) -> Iterator[None]:
    """Run a chunk of `images` in this block.

    Raises:
        UserError: the chunk does not fit the device's memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError("inversion.chunk_size", f"{images} images at once do not fit the memory of "
                        f"{device}", f"try {max(1, images // 2)}") from error


def auto_chunk_size(model: Model) -> int:
    """Return how many images' activations fit the device, estimated from one image's."""
    if model.device.type == "cuda":
        budget = _CUDA_SHARE * torch.cuda.mem_get_info(model.device)[0]
    else:
        budget = _CPU_BUDGET
    return int(max(1, min(_LARGEST, budget // (_OVERHEAD * _activation_bytes(model)))))


def _activation_bytes(model: Model) -> int:
    total = 0

    def count(module: torch.nn.Module, args: object, output: object) -> None:
        nonlocal total
        outputs = output if isinstance(output, (tuple, list)) else [output]
        total += sum(t.numel() * t.element_size() for t in outputs if isinstance(t, torch.Tensor))

    leaves = [module for module in model.module.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(count) for module in leaves]
    size = model.image_size
    try:
        with torch.no_grad():
            model.score(torch.full((1, 3, size, size), 0.5, device=model.device), ["a photo"])
    finally:
        for hook in hooks:
            hook.remove()
    return max(total, 1)
