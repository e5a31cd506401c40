"""The fine-tuning loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kt_exp.errors import UserError
from kt_exp.finetune import losses
from kt_exp.finetune.batches import Batch
from kt_exp.finetune.settings import FinetuneSettings
from kt_exp.finetune.strategies import TRAINS_TEXT, trained_parameters
from kt_exp.models.protocol import DualEncoder

_TEACHER_CHUNK = 64


@dataclass(frozen=True)
class Lesson:
    """What is taught: images `(N, 3, H, W)`, all captions, and the planned batches.

    `negatives` are the prompts of known classes, one list a class, for the `bank` loss.
    """

    images: Tensor
    captions: list[str]
    batches: list[Batch]
    negatives: list[list[str]]


def train(model: DualEncoder, lesson: Lesson, settings: FinetuneSettings,
          advance: Callable[[Callable[[], float]], None]) -> tuple[dict[str, Tensor], list[float]]:
    """Fine-tune `model` in place; return the changed state `{name: tensor}` and the losses.

    Only what the strategy names is trained; everything else stays bit-equal. The caller puts the
    model back with `restored`.

    Raises:
        UserError: the loss became NaN.
    """
    parameters = trained_parameters(model, settings.strategy)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    loss_of = _Loss(model, lesson, settings)
    optimizer = _optimizer(parameters, settings)
    model.module.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    model.module.train(settings.mode == "train")
    history = []
    for batch in lesson.batches:
        loss = loss_of(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        history.append(loss.detach())
        advance(lambda loss=history[-1]: float(loss))
    model.module.eval().requires_grad_(False)
    values = torch.stack(history).tolist()
    _refuse_nan(values)
    after = model.module.state_dict()
    return {n: t.clone() for n, t in after.items() if not torch.equal(t, before[n])}, values


class restored:
    """Context in which a model may be changed; afterwards its state is what it was."""

    def __init__(self, model: DualEncoder, changes: dict[str, Tensor] | None = None) -> None:
        self._module, self._changes = model.module, changes or {}

    def __enter__(self) -> None:
        state = self._module.state_dict()
        self._before = {name: tensor.clone() for name, tensor in state.items()}
        self._module.load_state_dict({**state, **self._changes})

    def __exit__(self, *_: Any) -> None:
        self._module.load_state_dict(self._before)
        self._module.eval().requires_grad_(False)


class _Loss:
    """The loss of a batch, with all that does not change computed once."""

    def __init__(self, model: DualEncoder, lesson: Lesson, settings: FinetuneSettings) -> None:
        self._model, self._lesson, self._settings = model, lesson, settings
        self._temperature = float(settings.temperature) if settings.temperature != "model" \
            else 1 / model.logit_scale.detach()
        with torch.no_grad():
            self._texts = model.encode_text(lesson.captions)
            self._negatives = _class_embeddings(model, lesson.negatives)
            self._teacher = _teacher(model, lesson.images) if settings.distillation else None

    def __call__(self, batch: Batch) -> Tensor:
        chosen = batch.images.to(self._model.device)
        images = self._model.encode_image(self._lesson.images[chosen])
        texts = self._batch_texts(batch)
        if self._settings.loss == "bank":
            loss = losses.bank(images, texts, self._temperature, self._negatives)
        else:
            loss = getattr(losses, self._settings.loss)(images, texts, self._temperature)
        if self._teacher is not None:
            loss = loss + self._settings.distillation * F.mse_loss(images, self._teacher[chosen])
        return loss

    def _batch_texts(self, batch: Batch) -> Tensor:
        if self._settings.strategy in TRAINS_TEXT:
            return self._model.encode_text([self._lesson.captions[i] for i in batch.captions])
        return self._texts[batch.captions.to(self._model.device)]


def _class_embeddings(model: DualEncoder, prompts: Sequence[list[str]]) -> Tensor:
    if not prompts:
        return torch.empty(0, device=model.device)
    embedded = model.encode_text([prompt for own in prompts for prompt in own])
    means = [part.mean(dim=0) for part in embedded.split([len(own) for own in prompts])]
    return F.normalize(torch.stack(means), dim=-1)


def _teacher(model: DualEncoder, images: Tensor) -> Tensor:
    return torch.cat([model.encode_image(chunk) for chunk in images.split(_TEACHER_CHUNK)])


def _optimizer(parameters: dict[str, torch.nn.Parameter],
               settings: FinetuneSettings) -> torch.optim.Optimizer:
    # Adam adds the decay to the gradient, as in the paper's code; AdamW decouples it.
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    beta1, beta2 = settings.betas
    return kind(list(parameters.values()), lr=settings.lr, betas=(beta1, beta2), eps=settings.eps,
                weight_decay=settings.weight_decay)


def _refuse_nan(values: list[float]) -> None:
    for step, value in enumerate(values, start=1):
        if value != value:
            raise UserError("finetune", f"the loss became NaN at step {step} of {len(values)}",
                            "lower finetune.lr")
