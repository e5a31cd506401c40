"""Products with frozen matrices that lie ready for a CPU's kernels.

MKL lays a matrix out anew for each product with it. While weights are frozen once is enough, once
for the way there and once, transposed, for the way back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def can_pack(weight: Tensor) -> bool:
    """Whether this torch packs such a matrix: in fp32, on a CPU, with MKL."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 \
        and torch.backends.mkl.is_available() and hasattr(torch.ops.mkl, "_mkl_linear")


class PackedLinear:
    """`F.linear` with a weight `(out, in)` that gets no gradient and that `can_pack`.

    Keeps two copies of the weight, packed for the number of rows that it met last. MKL takes more
    room for one than the weight has.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight, self._bias = weight.detach(), bias.detach()
        self._rows = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return `(…, out)` of inputs `(…, in)`, with the gradient to the inputs alone."""
        rows = inputs.numel() // inputs.shape[-1]
        if rows != self._rows:
            pack = torch.ops.mkl._mkl_reorder_linear_weight
            self._there = pack(self._weight.contiguous(), rows)
            self._back = pack(self._weight.T.contiguous(), rows)
            self._rows = rows
        output = _Product.apply(inputs, self)
        assert isinstance(output, Tensor)
        return output

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.ops.mkl._mkl_linear(inputs, self._there, self._weight, self._bias, self._rows)

    def backward(self, gradient: Tensor) -> Tensor:
        return torch.ops.mkl._mkl_linear(gradient, self._back, self._weight.T, None, self._rows)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, linear: PackedLinear) -> Tensor:
        ctx.linear = linear
        return linear.forward(inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.linear.backward(gradient), None
