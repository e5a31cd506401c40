"""The fine-tuning loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from kt_exp.errors import UserError
from kt_exp.finetune import losses
from kt_exp.finetune.lesson import Batch, Lesson
from kt_exp.finetune.settings import FinetuneSettings
from kt_exp.finetune.strategies import TRAINS_TEXT, trained_parameters
from kt_exp.models.protocol import DualEncoder

_EMBED_CHUNK = 64


def train(
    model: DualEncoder, images: Tensor, rehearsal: Tensor, lesson: Lesson,
    settings: FinetuneSettings, advance: Callable[[Callable[[], float]], None],
) -> tuple[dict[str, Tensor], list[float]]:
    """Fine-tune `model` in place on `images` `(N, 3, H, W)`, which lie on its device.

    `rehearsal` `(M, 3, H, W)` are images of what is known; their embeddings are held to those of
    the frozen model. Returns the changed state `{name: tensor}` and the loss of each step.

    Only what the strategy names is trained; everything else stays bit-equal. The caller puts the
    model back with `restored`.

    Raises:
        UserError: the loss became NaN or infinite.
    """
    parameters = trained_parameters(model, settings.strategy)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    loss_of = _Loss(model, images, rehearsal, lesson, settings)
    optimizer = _optimizer(parameters, settings)
    model.module.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    _set_mode(model.module, settings.mode)
    history = []
    for batch in lesson.batches:
        loss = loss_of(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        history.append(loss.detach())
        advance(history[-1].item)
    model.module.eval().requires_grad_(False)
    values = torch.stack(history).tolist()
    _refuse_nan(values)
    after = model.module.state_dict()
    return {n: t.clone() for n, t in after.items() if not torch.equal(t, before[n])}, values


@contextmanager
def restored(model: DualEncoder, changes: dict[str, Tensor] | None = None) -> Iterator[None]:
    """Within it the model may change (it starts with `changes`); afterwards it is as before."""
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    try:
        model.module.load_state_dict({**before, **(changes or {})})
        yield
    finally:
        model.module.load_state_dict(before)
        model.module.eval().requires_grad_(False)


class _Loss:
    """The loss of a batch, with all that does not change computed once."""

    def __init__(self, model: DualEncoder, images: Tensor, rehearsal: Tensor, lesson: Lesson,
                 settings: FinetuneSettings) -> None:
        self._model, self._images, self._rehearsal = model, images, rehearsal
        self._lesson, self._settings = lesson, settings
        self._temperature = float(settings.temperature) if settings.temperature != "model" \
            else 1 / model.logit_scale.detach()
        with torch.no_grad():
            self._texts = model.encode_text(lesson.captions)
            self._negatives = _class_embeddings(model, lesson.negatives)
            self._teacher = _embed(model, images) if settings.distillation else images
            self._rehearsal_teacher = _embed(model, rehearsal) if settings.rehearsal else rehearsal

    def __call__(self, batch: Batch) -> Tensor:
        device = self._model.device
        chosen, rehearsed = batch.images.to(device), batch.rehearsal.to(device)
        together = torch.cat([self._images[chosen], self._rehearsal[rehearsed]])
        images, memory = self._model.encode_image(together).split([len(chosen), len(rehearsed)])
        texts = self._batch_texts(batch)
        if self._settings.loss == "bank":
            loss = losses.bank(images, texts, self._temperature, self._known_classes())
        else:
            loss = getattr(losses, self._settings.loss)(images, texts, self._temperature)
        if self._settings.distillation:
            loss = loss + self._settings.distillation * _distance(images, self._teacher[chosen])
        if self._settings.rehearsal:
            target = self._rehearsal_teacher[rehearsed]
            loss = loss + self._settings.rehearsal * _distance(memory, target)
        return loss

    def _batch_texts(self, batch: Batch) -> Tensor:
        if self._settings.strategy in TRAINS_TEXT:
            return self._model.encode_text([self._lesson.captions[i] for i in batch.captions])
        return self._texts[batch.captions.to(self._model.device)]

    def _known_classes(self) -> Tensor:
        if self._settings.strategy in TRAINS_TEXT:
            return _class_embeddings(self._model, self._lesson.negatives)
        return self._negatives


def _class_embeddings(model: DualEncoder, prompts: Sequence[list[str]]) -> Tensor:
    if not prompts:
        return torch.empty(0, device=model.device)
    embedded = model.encode_text([prompt for own in prompts for prompt in own])
    means = [part.mean(dim=0) for part in embedded.split([len(own) for own in prompts])]
    return F.normalize(torch.stack(means), dim=-1)


def _distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared distance of unit-norm embeddings, 0 to 4, averaged over the batch."""
    return (student - teacher).square().sum(dim=-1).mean()


def _embed(model: DualEncoder, images: Tensor) -> Tensor:
    return torch.cat([model.encode_image(chunk) for chunk in images.split(_EMBED_CHUNK)])


def _optimizer(parameters: dict[str, torch.nn.Parameter],
               settings: FinetuneSettings) -> torch.optim.Optimizer:
    # Adam adds the decay to the gradient, as in the paper's code; AdamW decouples it.
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    beta1, beta2 = settings.betas
    return kind(list(parameters.values()), lr=settings.lr, betas=(beta1, beta2), eps=settings.eps,
                weight_decay=settings.weight_decay)


def _set_mode(module: torch.nn.Module, mode: str) -> None:
    module.train(mode == "train")
    for part in module.modules():
        frozen = not any(p.requires_grad for p in part.parameters())
        if frozen and isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.eval()  # Its running statistics would change.


def _refuse_nan(values: list[float]) -> None:
    for step, value in enumerate(values, start=1):
        if not math.isfinite(value):
            raise UserError("finetune", f"the loss became {value} at step {step} of {len(values)}",
                            "lower finetune.lr")
