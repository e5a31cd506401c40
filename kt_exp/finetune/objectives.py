"""Objectives of fine-tuning: the loss of a batch; what stays constant is computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from kt_exp.errors import UserError
from kt_exp.finetune import losses
from kt_exp.finetune.feature_cache import FeatureCache, content
from kt_exp.finetune.plan import Batch, TrainingPlan
from kt_exp.finetune.settings import CONTRASTIVE, FinetuneSettings
from kt_exp.finetune.strategies import TRAINS_TEXT
from kt_exp.models.protocol import (
    Captioner,
    ClassPromptEncoder,
    DualEncoder,
    MaskedCaptions,
    Model,
    PairMatcher,
    ProjectedEncoder,
)

Objective = Callable[[Batch], Tensor]

_CHUNK = 64
_PAIR_LOSSES = ("itm", "mlm")


def check_objective(model: Model, settings: FinetuneSettings) -> None:
    """Check that the model can compute the loss.

    Raises:
        UserError: it cannot, or its checkpoint lacks the head for it. The error names the losses
            that it can compute, or the models that the loss is for.
    """
    possible, preset = (_PAIR_LOSSES, "vilt") if isinstance(model, PairMatcher) \
        else (CONTRASTIVE, "paper")
    if settings.loss not in possible:
        raise UserError("finetune.loss", f"the model cannot learn by '{settings.loss}'",
                        f"choose one of: {', '.join(possible)} (as in finetune={preset})")
    if settings.loss == "mlm":
        _mask(cast(PairMatcher, model), ["a word"], settings, seed=0)
    if settings.caption_weight and not isinstance(model, Captioner):
        raise UserError("finetune.caption_weight", "the model has no decoder of captions",
                        "set it to 0, or choose a captioner (model=coca)")


def objective(model: Model, images: Tensor, rehearsal: Tensor, plan: TrainingPlan,
              settings: FinetuneSettings, features: FeatureCache) -> Objective:
    """Return the loss of a batch, a scalar; call before training.

    `images` `(N, 3, H, W)` and `rehearsal` `(M, 3, H, W)` lie on the model's device. The model must
    pass `check_objective`; `features` caches what it computes before training.
    """
    if settings.loss == "itm":
        return _Matching(cast(PairMatcher, model), images, plan)
    if settings.loss == "mlm":
        return _MaskedWords(cast(PairMatcher, model), images, plan, settings)
    return _Contrastive(cast(DualEncoder, model), images, rehearsal, plan, settings, features)


class _Contrastive:
    """A contrastive loss, plus distillation, rehearsal and a captioner's own loss if enabled.

    λ1 · contrastive + λ2 · captioning (supplementary Eq. 4).
    """

    def __init__(self, model: DualEncoder, images: Tensor, rehearsal: Tensor, plan: TrainingPlan,
                 settings: FinetuneSettings, features: FeatureCache) -> None:
        self._model, self._images = model, images
        self._rehearsal = rehearsal if len(rehearsal) else images[:0]
        self._plan, self._settings = plan, settings
        self._encode: Callable[[Tensor], Tensor] = model.encode_image
        if isinstance(model, ProjectedEncoder) and _trunk_is_constant(settings):
            self._images = _trunk(model, images, features)
            self._rehearsal = _trunk(model, rehearsal, features) if len(rehearsal) \
                else self._images[:0]
            self._encode = model.project
        self._temperature = float(settings.temperature) if settings.temperature != "model" \
            else 1 / model.logit_scale.detach()
        with torch.no_grad():
            self._texts = model.encode_text(plan.captions)
            self._negatives = features.get(("classes", repr(plan.negatives)),
                                       lambda: _class_embeddings(model, plan.negatives))
        if settings.distillation:
            self._teacher = self._embedded(self._images, features)
        if settings.rehearsal:
            self._rehearsal_teacher = self._embedded(self._rehearsal, features)

    def __call__(self, batch: Batch) -> Tensor:
        device, settings = self._model.device, self._settings
        chosen, rehearsed = batch.images.to(device), batch.rehearsal.to(device)
        together = torch.cat([self._images[chosen], self._rehearsal[rehearsed]])
        images, memory = self._encode(together).split([len(chosen), len(rehearsed)])
        loss = settings.contrastive_weight * self._alignment(images, self._batch_texts(batch))
        if settings.distillation:
            distance = _distance(images, self._teacher[chosen])
            if settings.distillation_over == "mean":
                distance = distance / images.shape[1]
            loss = loss + settings.distillation * distance
        if settings.rehearsal:
            target = self._rehearsal_teacher[rehearsed]
            loss = loss + settings.rehearsal * _distance(memory, target)
        if settings.caption_weight:
            said = [self._plan.targets[i] for i in batch.targets.tolist()]
            captioner = cast(Captioner, self._model)
            loss = loss + settings.caption_weight * captioner.caption_loss(self._images[chosen],
                                                                           said)
        return loss

    def _embedded(self, shown: Tensor, features: FeatureCache) -> Tensor:
        """Return the embeddings of images, given as pixels or as trunk features.

        They are encoded as in training: pixels and features give differently rounded results.
        """
        return features.get(("embeddings", content(shown)), lambda: _in_chunks(self._encode, shown))

    def _alignment(self, images: Tensor, texts: Tensor) -> Tensor:
        if self._settings.loss == "class_ce":
            return losses.class_ce(images, texts, self._temperature, self._known_classes())
        return getattr(losses, self._settings.loss)(images, texts, self._temperature)

    def _batch_texts(self, batch: Batch) -> Tensor:
        if self._settings.strategy in TRAINS_TEXT \
                or self._settings.encode_captions == "each_step":
            return self._model.encode_text([self._plan.captions[i] for i in batch.captions])
        return self._texts[batch.captions.to(self._model.device)]

    def _known_classes(self) -> Tensor:
        if self._settings.strategy in TRAINS_TEXT:
            return _class_embeddings(self._model, self._plan.negatives)
        return self._negatives


class _Matching:
    """Image–text matching: cross-entropy of image–caption pairs as match or no match.

    Each image is paired with its caption, a match, and with its negative captions (supplementary
    C.3.1; Kim et al. 2021, section 3.2).
    """

    def __init__(self, model: PairMatcher, images: Tensor, plan: TrainingPlan) -> None:
        self._model, self._images, self._plan = model, images, plan

    def __call__(self, batch: Batch) -> Tensor:
        pictures = self._images[batch.images.to(self._model.device)]
        captions = [self._plan.captions[i] for i in batch.captions.tolist()]
        negatives = [self._plan.negative_captions[i] for i in batch.negatives.flatten().tolist()]
        per_image = batch.negatives.shape[1]
        pairs = torch.cat([pictures, pictures.repeat_interleave(per_image, dim=0)])
        logits = self._model.match(pairs, captions + negatives)
        matches = torch.zeros(len(pairs), dtype=torch.long, device=logits.device)
        matches[:len(captions)] = 1
        return F.cross_entropy(logits, matches)


class _MaskedWords:
    """Masked language modelling on image–caption pairs (supplementary D.3.1).

    Each caption is masked in several ways before training; each image gets one of these maskings.
    """

    def __init__(self, model: PairMatcher, images: Tensor, plan: TrainingPlan,
                 settings: FinetuneSettings) -> None:
        self._model, self._images, self._captions = model, images, len(plan.captions)
        self._masked = _mask(model, plan.captions * settings.maskings, settings, plan.seed)

    def __call__(self, batch: Batch) -> Tensor:
        rows = batch.maskings * self._captions + batch.captions
        masked = MaskedCaptions(*(part[rows.to(part.device)] for part in self._masked))
        return self._model.masked_lm_loss(self._images[batch.images.to(self._model.device)], masked)


def _mask(model: PairMatcher, captions: Sequence[str], settings: FinetuneSettings,
          seed: int) -> MaskedCaptions:
    generator = torch.Generator().manual_seed(seed)
    return model.mask_words(captions, settings.mask_probability, generator)


def _trunk(model: ProjectedEncoder, images: Tensor, features: FeatureCache) -> Tensor:
    return features.get(("trunk", content(images)), lambda: _in_chunks(model.encode_trunk, images))


def _class_embeddings(model: DualEncoder, prompts: Sequence[list[str]]) -> Tensor:
    if not prompts:
        return torch.empty(0, device=model.device)
    if isinstance(model, ClassPromptEncoder):
        per_class: Iterable[Tensor] = map(model.encode_class, prompts)
    else:
        embedded = model.encode_text([prompt for own in prompts for prompt in own])
        per_class = embedded.split([len(own) for own in prompts])
    means = [part.mean(dim=0) for part in per_class]
    return F.normalize(torch.stack(means), dim=-1)


def _distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared distance of unit-norm embeddings, in [0, 4], averaged over the batch."""
    return (student - teacher).square().sum(dim=-1).mean()


def _trunk_is_constant(settings: FinetuneSettings) -> bool:
    """Return whether the trunk's features stay the same throughout training.

    They do if only the projection is trained, dropout is off, and no decoder reads the trunk.
    """
    return settings.strategy == "projection" and settings.mode == "eval" \
        and not settings.caption_weight


@torch.no_grad()
def _in_chunks(encode: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([encode(chunk) for chunk in images.split(_CHUNK)])
