"""The fine-tuning stage: the changed weights of a training plan are computed once and stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.finetune.plan import TrainingPlan
from kt_exp.finetune.settings import FinetuneSettings
from kt_exp.finetune.train import train
from kt_exp.models.protocol import Model
from kt_exp.models.weights import restored
from kt_exp.progress import Progress
from kt_exp.store import Entry, Store, signature

VERSION = 5
KIND = "finetune"
# What these decide is in the plan and in the signatures of the images.
_NOT_OUTCOME = ("scope", "images", "images_as", "folder", "captions", "article", "templates",
                "caption_targets", "itm_negatives", "itm_negatives_per_image", "maskings", "start",
                "edit", "calibration", "budget", "interpolation", "save_models")
# Left out at these values, so that entries made before there were these keys stay valid.
_AS_BEFORE = {"encode_captions": "once", "distillation_over": "sum", "null_space": 0.0}


def finetune_signature(model_fingerprint: str, device: torch.device, plan: TrainingPlan,
                       image_keys: Sequence[str], settings: FinetuneSettings, seed: int) -> str:
    """Return the store key of the weights: a hash of everything that can change them."""
    decides = {k: v for k, v in asdict(settings).items() if k not in _NOT_OUTCOME}
    for key, value in _AS_BEFORE.items():
        if decides[key] == value:
            del decides[key]
    if not settings.lora.rank:
        del decides["lora"]
    if settings.loss == "class_ce":
        decides["loss"] = "bank"  # Its former name: entries made under it are still valid.
    batches = [[part.tolist() for part in batch] for batch in plan.batches]
    return signature([VERSION, model_fingerprint, device.type, plan.captions, plan.negatives,
                      plan.rehearsed, plan.targets, plan.negative_captions, batches,
                      list(image_keys), decides, seed])


def finetune(model: Model, key: str, plan: TrainingPlan, images: Callable[[], Tensor],
             rehearsal: Tensor, settings: FinetuneSettings, store: Store, progress: Progress,
             name: str, features: FeatureCache) -> Entry:
    """Return the entry of `key`: its tensors are the changed weights, its record has the losses.

    The model is restored afterwards; `features` is its cache. `images` returns the training images,
    and is called only if there is no entry yet.

    Raises:
        UserError: the loss became NaN or infinite.
    """
    def compute() -> Entry:
        steps = len(plan.batches)
        with progress(f"Fine-tuning {name}", steps) as bar, restored(model):
            changed, losses = train(model, images(), rehearsal, plan, settings,
                                    lambda loss: bar.advance(1, loss=loss), features)
        return Entry({"steps": list(range(1, steps + 1)), "loss": losses}, changed)

    return store.get_or_compute(KIND, key, compute)
