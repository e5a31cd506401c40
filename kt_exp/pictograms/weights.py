"""PictoCLIP, the CLIP of the pictogram world, and a smaller one; both travel with the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from kt_exp.models.clip import OpenClip, OpenClipModel

FOLDER = Path(__file__).parent / "pictoclip"
SMALL = Path(__file__).parent / "pictoclip_small"


@dataclass
class PictoClip:
    """Config of the shipped model (`model=pictoclip`); it has no keys."""

    def load(self, device: torch.device, precision: str) -> OpenClipModel:
        """Return the model on `device`."""
        return OpenClip(f"local-dir:{FOLDER}", None).load(device, precision)


@dataclass
class SmallPictoClip:
    """Config of another training of it (`model=pictoclip_small`): other seed, width 96 for 128."""

    def load(self, device: torch.device, precision: str) -> OpenClipModel:
        """Return the model on `device`."""
        return OpenClip(f"local-dir:{SMALL}", None).load(device, precision)
