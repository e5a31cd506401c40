"""Typed settings of the fine-tuning stage (conf/finetune/*.yaml)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

from kt_exp.config.checks import choice, number

CONTRASTIVE = ("ntxent", "clip", "class_ce")


EDIT = "projection_edit"
BUDGET = "budget"  # the strength that is computed from known items


@dataclass(kw_only=True)
class EditSettings:
    """The closed-form edit of the image tower's last linear map (finetune.edit)."""

    target: str = choice("description", "parts", "name_and_description")
    strength: Any = number(above=0, words=(BUDGET,))
    budget: float = number(minimum=0, maximum=1)
    least: float = number(above=0)
    most: float = number(above=0)
    ridge: float = number(above=0)
    others: Optional[str]
    others_weight: float = number(minimum=0, maximum=1)
    protected: list[str]

    def problems(self) -> Iterator[tuple[str, str, str]]:
        if self.least > self.most:
            yield "least", f"{self.least:g} is above finetune.edit.most, {self.most:g}", \
                "lower it, or raise finetune.edit.most"


@dataclass(kw_only=True)
class LoraSettings:
    """Low-rank adapters in place of full updates (finetune.lora)."""

    rank: int = number(minimum=0)
    alpha: float = number(above=0)
    targets: list[str]

    def problems(self) -> Iterator[tuple[str, str, str]]:
        if self.rank and not self.targets:
            yield "targets", "empty, but finetune.lora.rank is not 0", \
                "give patterns of parameters' names, such as '*' for all linear layers"


@dataclass(kw_only=True)
class FinetuneSettings:
    """Everything that affects the fine-tuned weights, given the images, and their use."""

    strategy: str = choice("visual", "visual_trunk", "text", "both", "projection", "all",
                           "visual_decoder", EDIT)
    scope: str = choice("each", "joint")
    images: str = choice("inverted", "noise", "folder")
    images_as: str = choice("tensor", "png")
    folder: Optional[str]
    captions: str = choice("named", "description", "templates", "mixed")
    article: str = choice("fitted", "a")
    templates: list[str]
    loss: str = choice("ntxent", "clip", "class_ce", "itm", "mlm")
    encode_captions: str = choice("once", "each_step")
    temperature: Any = number(above=0, words=("model",))
    contrastive_weight: float = number(minimum=0)
    caption_weight: float = number(minimum=0)
    caption_targets: list[str]
    itm_negatives: str = choice("concepts", "known")
    itm_negatives_per_image: int = number(minimum=1, maximum=100_000)
    mask_probability: float = number(above=0, maximum=1)
    maskings: int = number(minimum=1, maximum=100_000)
    distillation: float = number(minimum=0)
    distillation_over: str = choice("sum", "mean")
    rehearsal: float = number(minimum=0)
    rehearsal_per_class: int = number(minimum=1)
    rehearsal_batch: int = number(minimum=1)
    lora: LoraSettings
    null_space: float = number(minimum=0, maximum=1)
    interpolation: float = number(minimum=0, maximum=1)
    optimizer: str = choice("adam", "adamw")
    lr: float = number(above=0)
    weight_decay: float = number(minimum=0)
    betas: list[float] = number(minimum=0, maximum=1)
    eps: float = number(above=0)
    batch_size: int = number(minimum=1, maximum=100_000)
    epochs: int = number(minimum=1)
    mode: str = choice("train", "eval")
    start: str = choice("pretrained", "closed_form")
    edit: EditSettings
    calibration: str = choice("none", "budget")
    budget: float = number(minimum=0, maximum=1)
    save_models: bool

    def problems(self) -> Iterator[tuple[str, str, str]]:
        if self.strategy == EDIT and self.start == "closed_form":
            yield "start", f"'closed_form', and finetune.strategy is '{EDIT}' itself", \
                "leave finetune.start as it is, or train on top by another strategy"
        if len(self.betas) != 2 or max(self.betas) >= 1:
            yield "betas", f"{self.betas} are not Adam's betas", "give two numbers below 1"
        if self.images == "folder" and not self.folder:
            yield "folder", "missing, but finetune.images is 'folder'", \
                "give the folder that holds one sub-folder of images for each concept"
        if self.captions in ("templates", "mixed") and not self.templates:
            yield "templates", f"empty, but finetune.captions is '{self.captions}'", \
                "give at least one template such as 'a photo of a {}.'"
        for key in ("templates", "caption_targets"):
            for template in getattr(self, key):
                if template.count("{}") != 1:
                    yield key, f"'{template}' has no single {{}}", "mark the name's place by {}"
        yield from self._weight_problems()
        yield from self._update_problems()

    def _weight_problems(self) -> Iterator[tuple[str, str, str]]:
        if self.caption_weight and not self.caption_targets:
            yield "caption_targets", "empty, but finetune.caption_weight is not 0", \
                "give at least one template such as 'a photo of a {}.'"
        if self.loss in CONTRASTIVE:
            if not self.contrastive_weight + self.caption_weight:
                yield "contrastive_weight", "0, and finetune.caption_weight too: nothing is " \
                    "learned", "give one of them a weight"
            return
        for key in ("distillation", "rehearsal", "null_space", "caption_weight"):
            if getattr(self, key):
                yield key, f"not possible with finetune.loss '{self.loss}'", \
                    f"set finetune.{key}=0, or choose one of: {', '.join(CONTRASTIVE)}"

    def _update_problems(self) -> Iterator[tuple[str, str, str]]:
        if self.null_space == 1:
            yield "null_space", "1 leaves nothing to train", "give a share below 1"
        if self.null_space and not self.rehearsal and self.strategy != EDIT:
            yield "null_space", "needs images of known classes, but finetune.rehearsal is 0", \
                "give finetune.rehearsal a weight, or set finetune.null_space=0"
        if self.strategy == EDIT:
            for key, on in (("lora.rank", self.lora.rank), ("null_space", self.null_space)):
                if on:
                    yield key, f"not possible with finetune.strategy '{EDIT}', which trains " \
                        "nothing", f"set finetune.{key}=0, or choose another strategy"
