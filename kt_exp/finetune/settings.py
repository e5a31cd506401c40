"""Typed settings of the fine-tuning stage (conf/finetune/*.yaml)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

from kt_exp.checks import choice, number


@dataclass(kw_only=True)
class FinetuneSettings:
    """Everything that decides the fine-tuned weights, given the images."""

    strategy: str = choice("visual", "visual_trunk", "text", "both", "projection")
    scope: str = choice("each", "joint")
    images: str = choice("inverted", "noise", "folder")
    folder: Optional[str]
    captions: str = choice("named", "description", "templates", "mixed")
    templates: list[str]
    loss: str = choice("ntxent", "clip", "bank")
    temperature: Any = number(above=0, words=("model",))
    distillation: float = number(minimum=0)
    rehearsal: float = number(minimum=0)
    rehearsal_per_class: int = number(minimum=1)
    rehearsal_batch: int = number(minimum=1)
    optimizer: str = choice("adam", "adamw")
    lr: float = number(above=0)
    weight_decay: float = number(minimum=0)
    betas: list[float] = number(minimum=0, maximum=1)
    eps: float = number(above=0)
    batch_size: int = number(minimum=1)
    epochs: int = number(minimum=1)
    mode: str = choice("train", "eval")
    save_models: bool

    def problems(self) -> Iterator[tuple[str, str, str]]:
        if len(self.betas) != 2 or max(self.betas) >= 1:
            yield "betas", f"{self.betas} are not Adam's betas", "give two numbers below 1"
        if self.images == "folder" and not self.folder:
            yield "folder", "missing, but finetune.images is 'folder'", \
                "give the folder that holds one sub-folder of images for each concept"
        if self.captions in ("templates", "mixed") and not self.templates:
            yield "templates", f"empty, but finetune.captions is '{self.captions}'", \
                "give at least one template such as 'a photo of a {}.'"
        for template in self.templates:
            if template.count("{}") != 1:
                yield "templates", f"'{template}' has no single {{}}", "mark the name's place by {}"
