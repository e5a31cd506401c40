"""The Segment Anything Model, prompted by boxes, through transformers."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kt_exp.benchmarks.segmentation.postprocess import Box, Mask
from kt_exp.errors import UserError
from kt_exp.models.digest import digest_of
from kt_exp.offline import fails_fast_offline
from kt_exp.remote_code import loading

WHERE = "benchmark.sam"


class Sam:
    """SAM from the hub (`facebook/sam-vit-huge`) or a folder in the same format.

    Raises:
        UserError: the model is neither on this machine nor reachable, or it is no SAM.
    """

    def __init__(self, source: str, device: torch.device) -> None:
        from transformers import SamModel, SamProcessor

        self.source, self._device = source, device
        with fails_fast_offline(not Path(source).is_dir()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with loading(source, WHERE, f"'{source}' is no folder with a SAM in it, nor is such "
                         "a model on this machine or to be reached",
                         "give a folder with config, preprocessor and weights, or null for coarse "
                         "masks"):
                self._processor: Any = SamProcessor.from_pretrained(source,
                                                                    trust_remote_code=False)
                loaded: Any = SamModel.from_pretrained(source, output_loading_info=True,
                                                       trust_remote_code=False)
        model, report = loaded
        if missing := sorted(report["missing_keys"]):
            raise UserError(WHERE, f"'{source}' is not a SAM: it lacks '{missing[0]}'",
                            "give facebook/sam-vit-huge or another SAM")
        self._model: Any = model.to(device).eval().requires_grad_(False)

    def segment(self, image: Image.Image, boxes: Sequence[Box]) -> Mask:
        """Return the union of SAM's masks for the boxes (at least one), `(H, W)`.

        SAM returns one mask per box (`multimask_output` off), at the image's size.
        """
        prompt = [[list(map(float, box)) for box in boxes]]
        inputs = self._processor(image, input_boxes=prompt, return_tensors="pt")
        with torch.no_grad():
            output = self._model(pixel_values=inputs["pixel_values"].to(self._device),
                                 input_boxes=inputs["input_boxes"].float().to(self._device),
                                 multimask_output=False)
        masks = self._processor.post_process_masks(
            output.pred_masks.float().cpu(), inputs["original_sizes"],
            inputs["reshaped_input_sizes"])
        union: Mask = masks[0].any(dim=0).any(dim=0).numpy().astype(np.bool_)
        return union

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights and of the image preprocessing."""
        prepared = self._processor.image_processor.to_json_string()
        return hashlib.sha256(f"{prepared}{digest_of(self._model)}".encode()).hexdigest()
