"""EfficientNet-Lite0 (Tan & Le 2019, in TensorFlow's "lite" form), as far as its pooled features.

Modules bear the names under which the packaged weights know them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 1280
# Blocks, kernel, stride of the first, expansion, channels out.
_STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)
_STEM = 32


class EfficientNetLite0(nn.Module):
    """The network without its classifier: images `(B, 3, H, W)` → features `(B, 1280)` in [0, 6].

    Images are normalised by the caller: mean 127/255 and standard deviation 128/255, which is not
    ImageNet's. H and W may be any; the weights were trained at 224.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, _STEM, 3, stride=2)
        self._bn0 = _norm(_STEM)
        self._blocks = nn.ModuleList(_blocks())
        self._conv_head = nn.Conv2d(_STAGES[-1][-1], FEATURES, 1, bias=False)
        self._bn1 = _norm(FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu6(_conv_norm(self._conv_stem, self._bn0, images))
        for block in self._blocks:
            hidden = block(hidden)
        return F.relu6(_conv_norm(self._conv_head, self._bn1, hidden)).mean(dim=(2, 3))

    @torch.no_grad()
    def mean_features(self) -> Tensor:
        """Return what the features are on average, `(1280,)`, from the weights alone.

        Before its ReLU6, a channel of the last batch norm has the mean β and the standard
        deviation |γ| over the training images; for a normal distribution the mean after clipping
        to [0, 6] follows in closed form.
        """
        normal = torch.distributions.Normal(0.0, 1.0)
        beta, gamma = self._bn1.bias, self._bn1.weight.abs().clamp(min=1e-6)
        low, high = -beta / gamma, (6 - beta) / gamma
        inside = normal.cdf(high) - normal.cdf(low)
        density = (torch.exp(normal.log_prob(low)) - torch.exp(normal.log_prob(high)))
        return beta * inside + gamma * density + 6 * (1 - normal.cdf(high))


class _Block(nn.Module):
    """Inverted residual: widen, filter each channel, narrow."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self._adds = stride == 1 and channels == out
        self._widens = expansion != 1
        if self._widens:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _SameConv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = _norm(out)

    def forward(self, hidden: Tensor) -> Tensor:
        wide = hidden
        if self._widens:
            wide = F.relu6(_conv_norm(self._expand_conv, self._bn0, hidden))
        wide = F.relu6(_conv_norm(self._depthwise_conv, self._bn1, wide))
        narrow = _conv_norm(self._project_conv, self._bn2, wide)
        return hidden + narrow if self._adds else narrow


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME": with stride 2, more at the lower right."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, groups=groups, bias=False)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        left, right = self._padding(input.shape[3])
        top, bottom = self._padding(input.shape[2])
        if (left, top) != (right, bottom):
            input, top, left = F.pad(input, (left, right, top, bottom)), 0, 0
        return F.conv2d(input, weight, bias, self.stride, (top, left), 1, self.groups)

    def _padding(self, length: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        outputs = -(-length // stride)
        total = max((outputs - 1) * stride + kernel - length, 0)
        return total // 2, total - total // 2


def _conv_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d, images: Tensor) -> Tensor:
    """Return `norm(conv(images))`; in evaluation mode as one convolution, which spares a third of
    the time of inversion (docs/photos.md)."""
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return norm(conv(images))
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    return conv._conv_forward(images, conv.weight * scale.view(-1, 1, 1, 1), bias)


def _blocks() -> list[_Block]:
    blocks, channels = [], _STEM
    for repeats, kernel, stride, expansion, out in _STAGES:
        for nth in range(repeats):
            blocks.append(_Block(channels, out, kernel, stride if nth == 0 else 1, expansion))
            channels = out
    return blocks


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
