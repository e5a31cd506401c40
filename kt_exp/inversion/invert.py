"""The inversion loop: from noise to images that a model matches to a caption (after Eq. 1).

Images are optimised independently: each has its own random stream and loss, and Adam works element
by element. They share a batch for speed only. One exception: `grad_clip: batch` couples the images
of a caption.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from kt_exp.inversion.augment import apply_affine, draw_affine
from kt_exp.inversion.image_scorer import ImageScorer, make_image_scorer, to_model_size
from kt_exp.inversion.regularize import total_variation
from kt_exp.inversion.schedule import learning_rate, size_at, stage_start
from kt_exp.inversion.settings import InversionSettings
from kt_exp.models.protocol import Model

_CURVE_POINTS = 100
# Saving many large images takes long. It is then done less often, to take a twentieth of the time,
# but at least once in fifteen times `checkpoint_seconds`.
_WORK_PER_SAVE, _RAREST = 20, 15


@dataclass(frozen=True)
class Task:
    """One image to optimise: its caption, and its index among the images of that caption."""

    caption: str
    index: int


@dataclass
class State:
    """State after `step` steps, on the model's device; resuming from it is bit-exact."""

    step: int
    images: Tensor
    moments: list[Tensor] = field(default_factory=list)
    moment_steps: int = 0
    curve_steps: list[int] = field(default_factory=list)
    curve: list[Tensor] = field(default_factory=list)


class Hooks(Protocol):
    """Callbacks that the loop calls between two steps."""

    def advance(self, score: Callable[[], float]) -> None:
        """Called after each step; `score` returns the mean score and waits for the device."""

    def stop(self) -> bool:
        """Return whether the loop has to save its state and stop."""
        ...

    def save(self, state: State) -> None:
        """Store `state`, from which `invert` can resume."""


def initial_state(tasks: Sequence[Task], settings: InversionSettings, model: Model,
                  seed: int) -> State:
    """Return the initial noise, uniform in [0, 1] or N(0, 1) (`inversion.init`)."""
    size = size_at(settings, 0, model.image_size)
    draw = torch.rand if settings.init == "uniform" else torch.randn
    noise = [draw(3, size, size, generator=random_stream("noise", task, seed)) for task in tasks]
    return State(0, torch.stack(noise).to(model.device))


def invert(model: Model, tasks: Sequence[Task], settings: InversionSettings, seed: int,
           state: State, hooks: Hooks) -> State:
    """Optimise the images of `state` until `settings.steps`; return the final state.

    The final images `(B, 3, H, W)` have the last of `settings.sizes`. The curve holds the scores
    `(B,)` of about a hundred steps. The model's weights get no gradients.

    Raises:
        KeyboardInterrupt: `hooks.stop()` returned True; the state was saved.
    """
    model.module.eval().requires_grad_(False)
    captions = [task.caption for task in tasks]
    patches = [random_stream("patches", task, seed) for task in tasks]
    scorer = make_image_scorer(model, captions, settings, patches)
    clip = _Clip(settings, captions, model.device)
    views = _views(tasks, settings, seed).to(model.device)
    optimizer = _optimizer(state)
    every = max(1, settings.steps // _CURVE_POINTS)
    saved, wait = time.monotonic(), settings.checkpoint_seconds
    for step in range(state.step, settings.steps):
        if stage_start(settings, step) == step > 0:
            optimizer = _grow(state, settings, model.image_size, optimizer)
        scores = _step(scorer, state, views[step], settings, clip, optimizer)
        if step % every == 0 or step == settings.steps - 1:
            state.curve_steps.append(step)
            state.curve.append(scores)
        state.step = step + 1
        hooks.advance(partial(_mean, scores))
        stopping = hooks.stop()
        if stopping or time.monotonic() - saved > wait:
            begun = time.monotonic()
            _keep_moments(state, optimizer)
            hooks.save(state)
            saved = time.monotonic()
            wait = max(settings.checkpoint_seconds,
                       min(_WORK_PER_SAVE * (saved - begun), _RAREST * settings.checkpoint_seconds))
        if stopping:
            raise KeyboardInterrupt
    state.images = state.images.detach()
    return state


def _step(scorer: ImageScorer, state: State, view: Tensor, settings: InversionSettings, clip: _Clip,
          optimizer: torch.optim.Adam) -> Tensor:
    images = state.images
    seen = apply_affine(images, view, settings.affine.padding) \
        if settings.affine.probability else images
    scores = scorer(seen, state.step)
    loss = (settings.tv_weight * total_variation(images, settings.tv_form) - scores).sum()
    images.grad = None
    loss.backward()
    assert images.grad is not None
    clip(images.grad)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, state.step)
    if settings.clamp == "before_step":
        images.data.clamp_(0, 1)
    optimizer.step()
    if settings.clamp == "after_step":
        images.data.clamp_(0, 1)
    return scores.detach()


def _mean(scores: Tensor) -> float:
    return float(scores.mean())


class _Clip:
    """Clips gradients in place, per image or over all images of a caption.

    The authors clip the gradient of the mean loss over their batch: the images of one caption.
    """

    def __init__(self, settings: InversionSettings, captions: Sequence[str],
                 device: torch.device) -> None:
        self._on, self._limit = settings.grad_clip != "none", settings.grad_clip_norm
        names = captions if settings.grad_clip == "batch" else range(len(captions))
        self._together = torch.tensor([[a == b for b in names] for a in names], device=device)
        self._sizes = self._together.sum(dim=1)

    def __call__(self, grad: Tensor) -> None:
        if not self._on:
            return
        squares = grad.square().flatten(1).sum(dim=1)
        norms = torch.where(self._together, squares, 0.0).sum(dim=1).sqrt() / self._sizes
        factors = (self._limit / norms.clamp(min=1e-12)).clamp(max=1) / self._sizes
        grad.mul_(factors.view(-1, 1, 1, 1))


def _views(tasks: Sequence[Task], settings: InversionSettings, seed: int) -> Tensor:
    if settings.affine.per_sample:
        streams = [random_stream("affine", task, seed) for task in tasks]
        return draw_affine(settings.affine, settings.steps, streams)
    shared = random_stream("affine", Task("", 0), seed)
    return draw_affine(settings.affine, settings.steps, [shared]).expand(-1, len(tasks), 2, 3)


def random_stream(purpose: str, task: Task, seed: int) -> torch.Generator:
    """Return the random stream of one image for one purpose, the same on every machine."""
    words = f"{seed}/{purpose}/{task.caption}/{task.index}".encode()
    number = int.from_bytes(hashlib.sha256(words).digest()[:8], "big")
    return torch.Generator().manual_seed(number)


def _optimizer(state: State) -> torch.optim.Adam:
    state.images = state.images.detach().requires_grad_()
    # The fused kernel is faster on CUDA only. On the CPU it rounds differently for no gain.
    optimizer = torch.optim.Adam([state.images], fused=state.images.is_cuda)
    if state.moments:
        first, second = (moment.clone() for moment in state.moments)
        optimizer.state[state.images] = {
            "step": torch.tensor(float(state.moment_steps), device=_step_device(state.images)),
            "exp_avg": first,
            "exp_avg_sq": second,
        }
    return optimizer


def _step_device(images: Tensor) -> torch.device:
    """Return the device of Adam's step count: that of the images if fused, else the CPU."""
    return images.device if images.is_cuda else torch.device("cpu")


def _keep_moments(state: State, optimizer: torch.optim.Adam) -> None:
    moments = optimizer.state[state.images]
    state.moments = [moments["exp_avg"], moments["exp_avg_sq"]]
    state.moment_steps = int(moments["step"])


def _grow(state: State, settings: InversionSettings, model_size: int,
          optimizer: torch.optim.Adam) -> torch.optim.Adam:
    """Upsize the images; restart the optimiser, or upsize its moments as well."""
    size = size_at(settings, state.step, model_size)
    if settings.restart_optimizer:
        state.moments, state.moment_steps = [], 0
    else:
        _keep_moments(state, optimizer)
        # Bilinear: bicubic could make second moments negative.
        state.moments = [F.interpolate(m, size=(size, size), mode="bilinear")
                         for m in state.moments]
    state.images = to_model_size(state.images.detach(), size)
    return _optimizer(state)
