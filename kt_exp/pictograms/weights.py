"""PictoCLIP, the CLIP of the pictogram world, whose weights travel with the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from kt_exp.models.clip import OpenClip, OpenClipModel

FOLDER = Path(__file__).parent / "pictoclip"


@dataclass
class PictoClip:
    """Config of the shipped model (`model=pictoclip`); it has no keys."""

    def load(self, device: torch.device, precision: str) -> OpenClipModel:
        """Return the model on `device`."""
        return OpenClip(f"local-dir:{FOLDER}", None).load(device, precision)
