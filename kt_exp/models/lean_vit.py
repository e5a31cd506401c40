"""A faster forward pass of open_clip's ViT: the same function of the pixels, up to rounding.

What makes it faster, for frozen weights and the class token's output alone:
- normalisation is folded into the patch embedding, which is one matrix product, not a convolution;
- tokens are laid out as (token, image, channel), and queries, keys and values are grouped by head,
  so that attention reads them in place; `nn.MultiheadAttention` copies them;
- in the last layer only the class token has a query and goes through the MLP.

It also takes images whose side is another multiple of the patch size, with interpolated position
embeddings (Dosovitskiy et al. 2021, 3.2), and subsets of an image's patches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from torch import Tensor

_QUICK = 1.702  # QuickGELU(x) = x · sigmoid(1.702 x)
# Up to so many tokens, matrix products are faster on a CPU than the fused attention kernel. In bf16
# they always are: the kernel's backward pass takes three times as long.
_FEW = 80


def can_run_lean(visual: torch.nn.Module) -> bool:
    """Return whether the tower is a plain ViT pooled at its class token, as most of open_clip's."""
    return isinstance(visual, VisionTransformer) and visual.attn_pool is None \
        and visual.pool_type == "tok" and visual.proj is not None \
        and len(set(visual.patch_size)) == 1 \
        and all(type(block) is ResidualAttentionBlock
                and isinstance(block.mlp.gelu, torch.nn.GELU | QuickGELU)
                for block in visual.transformer.resblocks)


class LeanViT:
    """A `VisionTransformer` that `can_run_lean`, with its current weights: rebuild after training.

    Args:
        mean, std: of the channels, by which the tower's input is normalised, each `(3,)`.
        half: compute in bf16, on a copy of the weights that is rounded once; autocast alone would
            round them at every step.
    """

    def __init__(self, visual: Any, mean: Tensor, std: Tensor, half: bool = False) -> None:
        self._visual, self._half = _rounded(visual) if half else visual, half
        self.patch_size = int(visual.patch_size[0])
        self.grid = int(visual.grid_size[0])
        std, mean = std.to(visual.conv1.weight), mean.to(visual.conv1.weight)
        kernel = visual.conv1.weight.detach() / std[None, :, None, None]
        bias = -(kernel * mean[None, :, None, None]).sum(dim=(1, 2, 3))
        self._patches = _linear(kernel.flatten(1), bias)
        *blocks, last = self._visual.transformer.resblocks
        self._blocks = [_Block(block) for block in blocks] + [_LastBlock(last)]

    def __call__(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return un-normalised embeddings `(B, D)`, fp32, of images `(B, 3, H, W)` in [0, 1].

        H = W is any multiple of the patch size. `kept` `(B, K)` are the indices of the patches to
        use, in row-major order; None: all of them.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._half):
            return self._encode(images, kept).float()

    def encode_top(self, tokens: Tensor, above: int) -> Tensor:
        """Return un-normalised embeddings `(B, D)`, fp32, of tokens `(B, N, C)`.

        The tokens are the input of the last `above` blocks.
        """
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self._half):
            return self._through(self._blocks[-above:], tokens.transpose(0, 1).contiguous()).float()

    def _encode(self, images: Tensor, kept: Tensor | None) -> Tensor:
        return self._through(self._blocks, self._embed(images, kept))

    def _through(self, blocks: Sequence[Callable[[Tensor], Tensor]], tokens: Tensor) -> Tensor:
        for block in blocks:
            tokens = block(tokens)
        return self._visual.ln_post(tokens[0]) @ self._visual.proj

    def _embed(self, images: Tensor, kept: Tensor | None) -> Tensor:
        visual, side = self._visual, images.shape[-1] // self.patch_size
        cut = images.unfold(2, self.patch_size, self.patch_size) \
            .unfold(3, self.patch_size, self.patch_size)  # (B, 3, h, w, p, p)
        patches = cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        places = self._positions(side).expand(len(images), -1, -1)
        if kept is not None:
            patches = patches.gather(1, kept[..., None].expand(-1, -1, patches.shape[-1]))
            places = places.gather(1, kept[..., None].expand(-1, -1, places.shape[-1]))
        tokens = self._patches(patches)
        first = (visual.class_embedding + visual.positional_embedding[0]).expand(
            len(images), 1, -1)
        joined = torch.cat([first.to(tokens.dtype), tokens + places], dim=1)
        return visual.ln_pre(joined.transpose(0, 1).contiguous())

    def _positions(self, side: int) -> Tensor:
        """Return the position embeddings of `side` × `side` patches, `(1, side², C)`."""
        whole = self._visual.positional_embedding[1:]
        if side != self.grid:
            square = whole.T.reshape(1, -1, self.grid, self.grid)
            square = F.interpolate(square, (side, side), mode="bicubic", antialias=True,
                                   align_corners=False)
            whole = square.flatten(2)[0].T
        return whole[None]


def _rounded(visual: Any) -> Any:
    """Return a copy of the tower whose matrices are bf16; its norms stay fp32."""
    copy = deepcopy(visual)
    for part in copy.transformer.modules():
        if isinstance(part, torch.nn.Linear | torch.nn.MultiheadAttention):
            part.to(torch.bfloat16)
    return copy


def _linear(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    return partial(F.linear, weight=weight, bias=bias)


class _Block:
    """A `ResidualAttentionBlock`: tokens `(N, B, C)` → `(N, B, C)`."""

    def __init__(self, block: Any) -> None:
        attention = block.attn
        self._block, self._heads = block, attention.num_heads
        self._join = _linear(*_head_by_head(attention, slice(None)))
        self._out = _linear(attention.out_proj.weight, attention.out_proj.bias)
        self._mlp = _Mlp(block)

    def __call__(self, tokens: Tensor) -> Tensor:
        parts = _split(self._join(self._block.ln_1(tokens)), 3, self._heads)
        found = self._out(_attend(*parts).view_as(tokens))
        return self._mlp(tokens + self._block.ls_1(found))


class _LastBlock:
    """The last block, for the class token alone: `(N, B, C)` → `(1, B, C)`."""

    def __init__(self, block: Any) -> None:
        self._block, self._heads = block, block.attn.num_heads
        self._ask = _linear(*_head_by_head(block.attn, slice(1)))
        self._join = _linear(*_head_by_head(block.attn, slice(1, None)))
        self._mlp = _Mlp(block)

    def __call__(self, tokens: Tensor) -> Tensor:
        seen, first = self._block.ln_1(tokens), tokens[:1]
        (query,) = _split(self._ask(seen[:1]), 1, self._heads)
        key, value = _split(self._join(seen), 2, self._heads)
        found = self._block.attn.out_proj(_attend(query, key, value).view_as(first))
        return self._mlp(first + self._block.ls_1(found))


def _head_by_head(attention: Any, which: slice) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of the joint projection to `which` of queries, keys and values.

    Their rows are grouped by head, so that all heads of all images have one stride in `_split`. The
    scale of attention is part of the queries' rows.
    """
    weight, bias = attention.in_proj_weight.detach(), attention.in_proj_bias.detach()
    rows = torch.arange(len(weight)).view(3, attention.num_heads, -1)[which].transpose(0, 1)
    scale = torch.where(rows < weight.shape[1], attention.head_dim ** -0.5, 1.0).flatten().to(bias)
    return scale[:, None] * weight[rows.flatten()], scale * bias[rows.flatten()]


def _split(joined: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Split `(N, B, heads · parts · D)` into tensors `(B · heads, N, D)`."""
    apart = joined.view(joined.shape[0], joined.shape[1] * heads, parts, -1)
    return tuple(part.transpose(0, 1) for part in apart.unbind(2))


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return the attention `(queries, B · heads, D)` of `(B · heads, …, D)`, queries scaled."""
    half = query.dtype == torch.bfloat16
    if query.device.type == "cpu" and (half or key.shape[1] <= _FEW):
        found = (query @ key.mT).softmax(dim=-1) @ value
    else:
        found = F.scaled_dot_product_attention(query[None], key[None], value[None], scale=1.0)[0]
    return found.transpose(0, 1).contiguous()


class _Mlp:
    """The second half of a block: tokens + MLP(tokens)."""

    def __init__(self, block: Any) -> None:
        mlp, self._scale, self._norm, self._factor = block.mlp, block.ls_2, block.ln_2, 1.0
        self._bend: Callable[[Tensor], Tensor] = mlp.gelu
        if isinstance(mlp.gelu, QuickGELU):
            # x · sigmoid(a · x) = silu(a · x) / a: one kernel. The factor a is folded into the norm
            # and the bias before it, and into the bias and the sum after it.
            self._bend, self._factor = F.silu, _QUICK
            self._norm = partial(F.layer_norm, normalized_shape=block.ln_2.normalized_shape,
                                 weight=_QUICK * block.ln_2.weight, bias=_QUICK * block.ln_2.bias,
                                 eps=block.ln_2.eps)
        self._open = _linear(mlp.c_fc.weight, self._factor * mlp.c_fc.bias)
        self._close = _linear(mlp.c_proj.weight, self._factor * mlp.c_proj.bias)

    def __call__(self, tokens: Tensor) -> Tensor:
        found = self._scale(self._close(self._bend(self._open(self._norm(tokens)))))
        return torch.add(tokens, found, alpha=1 / self._factor)
