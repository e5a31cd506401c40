"""open_clip's ViT run by hand: the same function of the pixels, with less work.

What it spares while the weights are frozen and only the class token is read:
- normalisation is folded into the patch embedding, which is one matrix product, not a convolution;
- queries, keys and values stay where they are: `nn.MultiheadAttention` transposes the batch to and
  fro, and its linear map then becomes a batch of small products;
- in the last layer only the class token asks, and only it goes on through the MLP.

It also takes images of any multiple of the patch, with position embeddings interpolated
(Dosovitskiy et al. 2021, 3.2), and only some of an image's patches.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from torch import Tensor

_QUICK = 1.702  # of QuickGELU


def can_run_lean(visual: torch.nn.Module) -> bool:
    """Whether the tower is a plain ViT read at its class token: OpenAI's, and most of open_clip."""
    return isinstance(visual, VisionTransformer) and visual.attn_pool is None \
        and visual.pool_type == "tok" and visual.proj is not None \
        and len(set(visual.patch_size)) == 1 \
        and all(type(block) is ResidualAttentionBlock and block.attn.batch_first
                and isinstance(block.mlp.gelu, torch.nn.GELU | QuickGELU)
                for block in visual.transformer.resblocks)


class LeanViT:
    """A frozen `VisionTransformer` that `can_run_lean`, as it is now: make it anew after training.

    Args:
        mean, std: of the channels, with which the tower's input is normalised, each `(3,)`.
        half: compute in bf16, on a copy of the weights that is rounded once (autocast rounds frozen
            weights at every step).
    """

    def __init__(self, visual: Any, mean: Tensor, std: Tensor, half: bool = False) -> None:
        self._visual, self._half = _rounded(visual) if half else visual, half
        self.patch_size = int(visual.patch_size[0])
        self.grid = int(visual.grid_size[0])
        std, mean = std.to(visual.conv1.weight), mean.to(visual.conv1.weight)
        kernel = visual.conv1.weight.detach() / std[None, :, None, None]
        self._kernel = kernel.flatten(1)
        self._bias = -(kernel * mean[None, :, None, None]).sum(dim=(1, 2, 3))

    def __call__(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return un-normalised embeddings `(B, D)`, fp32, of images `(B, 3, H, W)` in [0, 1].

        H = W is any multiple of the patch. `kept` `(B, K)` are the numbers of the patches that are
        looked at, row by row; None: all of them.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._half):
            return self._encode(images, kept).float()

    def _encode(self, images: Tensor, kept: Tensor | None) -> Tensor:
        tokens = self._embed(images, kept)
        *blocks, last = self._visual.transformer.resblocks
        for block in blocks:
            tokens = _mlp(block, tokens + block.ls_1(_attend(block, tokens)))
        first = _mlp(last, tokens[:, :1] + last.ls_1(_attend(last, tokens, queries=1)))
        return self._visual.ln_post(first[:, 0]) @ self._visual.proj

    def _embed(self, images: Tensor, kept: Tensor | None) -> Tensor:
        visual, side = self._visual, images.shape[-1] // self.patch_size
        cut = images.unfold(2, self.patch_size, self.patch_size) \
            .unfold(3, self.patch_size, self.patch_size)  # (B, 3, h, w, p, p)
        patches = cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        places = self._positions(side).expand(len(images), -1, -1)
        if kept is not None:
            patches = patches.gather(1, kept[..., None].expand(-1, -1, patches.shape[-1]))
            places = places.gather(1, kept[..., None].expand(-1, -1, places.shape[-1]))
        tokens = F.linear(patches, self._kernel, self._bias)
        first = (visual.class_embedding + visual.positional_embedding[0]).expand(
            len(images), 1, -1)
        return visual.ln_pre(torch.cat([first.to(tokens.dtype), tokens + places], dim=1))

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


def _attend(block: Any, tokens: Tensor, queries: int | None = None) -> Tensor:
    """Return what the first `queries` tokens (None: all) find by attention, `(B, queries, C)`."""
    attention, seen = block.attn, block.ln_1(tokens)
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    width, heads = tokens.shape[-1], attention.num_heads
    if queries is None:
        query, key, value = _heads(F.linear(seen, weight, bias), 3, heads)
    else:
        asking = F.linear(seen[:, :queries], weight[:width], bias[:width])
        (query,) = _heads(asking, 1, heads)
        key, value = _heads(F.linear(seen, weight[width:], bias[width:]), 2, heads)
    found = _weighted(query, key, value)
    return attention.out_proj(found.transpose(1, 2).flatten(2))


def _weighted(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return the attention of `(B, heads, queries, C)` to `(B, heads, N, C)`."""
    if query.dtype == torch.bfloat16 and query.device.type == "cpu":
        # On CPUs the fused kernel goes back through bf16 three times slower than products do.
        return (query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value)


def _heads(joined: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Split `(B, N, parts · C)` into tensors `(B, heads, N, C / heads)`."""
    return joined.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _mlp(block: Any, tokens: Tensor) -> Tensor:
    mlp, seen = block.mlp, block.ln_2(tokens)
    if not isinstance(mlp.gelu, QuickGELU):
        return tokens + block.ls_2(mlp.c_proj(mlp.gelu(mlp.c_fc(seen))))
    # x · sigmoid(a · x) is silu(a · x) / a: one step, and a goes into the product before it and
    # into the sum after it.
    hidden = torch.addmm(mlp.c_fc.bias, seen.flatten(0, 1), mlp.c_fc.weight.T,
                         beta=_QUICK, alpha=_QUICK)
    found = F.linear(F.silu(hidden), mlp.c_proj.weight, _QUICK * mlp.c_proj.bias)
    return torch.add(tokens, block.ls_2(found).view_as(tokens), alpha=1 / _QUICK)
