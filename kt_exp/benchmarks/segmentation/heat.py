"""The colours of saliency maps: matplotlib's magma, which is perceptually uniform (CC0)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# At equal distances from 0 to 1; linear between them, which is off by less than 3 of 255.
_MAGMA = np.array([
    (0, 0, 4), (10, 8, 34), (29, 17, 71), (54, 16, 107), (81, 18, 124), (106, 28, 129),
    (131, 38, 129), (156, 46, 127), (183, 55, 121), (208, 65, 111), (231, 82, 99), (245, 107, 92),
    (252, 137, 97), (254, 167, 114), (254, 196, 136), (253, 226, 163), (252, 253, 191),
])


def heat(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Return values `(H, W)` as colours `(H, W, 3)`: black at `low`, pale yellow at `high`.

    Values beyond are clipped. If `low` equals `high`, all are black.
    """
    shares = (values - low) / max(high - low, 1e-12)
    places = np.linspace(0, 1, len(_MAGMA))
    channels = [np.interp(shares, places, _MAGMA[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
