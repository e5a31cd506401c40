"""The inversion stage: each caption's images are computed once and stored; killed runs resume."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from kt_exp import interrupts
from kt_exp.errors import UserError
from kt_exp.inversion.chunks import Image, chunk_size, fitting_memory, make_chunks
from kt_exp.inversion.image_scorer import to_model_size
from kt_exp.inversion.invert import State, Task, initial_state, invert
from kt_exp.inversion.settings import InversionSettings
from kt_exp.models.protocol import Model, PairMatcher
from kt_exp.progress import Bar, Progress
from kt_exp.store import Entry, Store, signature

log = logging.getLogger(__name__)

VERSION = 2
KIND, PARTIAL = "inversion", "inversion_partial"
# The keys of features have no effect on images; the model's fingerprint is in the signature.
_NOT_OUTCOME = ("model", "chunk_size", "checkpoint_seconds", "png", "layers", "feature_prior",
                "feature_weight", "statistics", "statistics_path")


def check_distance(model: Model, distance: str) -> None:
    """Check that the model supports the distance, before anything costly.

    Raises:
        UserError: it does not; the error names those that it supports.
    """
    known, preset = (("match",), "vilt") if isinstance(model, PairMatcher) \
        else (("cosine", "l2", "l2_unnormalized"), "paper")
    if distance not in known:
        raise UserError("inversion.distance", f"the model knows no '{distance}'",
                        f"choose one of: {', '.join(known)} (as in inversion={preset})")


def inversion_signature(model_fingerprint: str, device: torch.device, caption: str,
                        settings: InversionSettings, seed: int) -> str:
    """Return the store key of one caption's images: a hash of exactly what can change them."""
    decides = {k: v for k, v in asdict(settings).items() if k not in _NOT_OUTCOME}
    decides["speed"]["packed"] = False  # A former key: entries made without it are still valid.
    return signature([VERSION, model_fingerprint, device.type, caption, decides, seed])


def invert_captions(model: Model, captions: dict[str, str], settings: InversionSettings, seed: int,
                    store: Store, progress: Progress,
                    names: Mapping[str, str] | None = None) -> dict[str, Entry]:
    """Return the store entry of each key in `captions` (key → caption).

    `names` (key → concept) are for error messages; by default these quote the caption.

    An entry's tensors are `images` `(n, 3, H, W)`, as optimised. Its record has `distance`; the
    curve as `steps` and `score` (mean over the images); `start` and `end`, the mean scores of the
    noise and of the result without augmentation.

    Raises:
        UserError: pixels became NaN, or a chunk does not fit the device's memory.
        KeyboardInterrupt: the process was told to stop; its checkpoint is in the store.
    """
    with store.lock(KIND, captions):
        found = {key: store.fetch(KIND, key) for key in captions}
        missing = [key for key, entry in found.items() if entry is None]
        chunks = _chunks(model, missing, captions, settings, store)
        work = _Work(model, captions, names or captions, settings, seed, store)
        finished: dict[Image, _Inverted] = {}
        images = sum(len(chunk) for chunk in chunks)
        with progress(f"Inverting {images} images", settings.steps * len(chunks)) as bar:
            for chunk in chunks:
                finished |= work.run(chunk, bar)
                for key in missing:
                    parts = [finished.get((key, i)) for i in range(settings.images)]
                    if found[key] is None and all(parts):
                        found[key] = _commit(key, captions[key], parts, settings, store)
        _clear_partials(store)
    return {key: entry for key, entry in found.items() if entry is not None}


@dataclass(frozen=True)
class _Inverted:
    image: Tensor
    curve_steps: list[int]
    curve: Tensor
    start: float
    end: float


@dataclass(frozen=True)
class _Work:
    """What all chunks of a run share."""

    model: Model
    captions: dict[str, str]
    names: Mapping[str, str]
    settings: InversionSettings
    seed: int
    store: Store

    def run(self, chunk: list[Image], bar: Bar) -> dict[Image, _Inverted]:
        tasks = [Task(self.captions[key], index) for key, index in chunk]
        partial = _Partial(chunk, self.names, self.store)
        state = partial.load(self.model.device)
        if state:
            log.info("Going on with the inversion at step %d of %d.", state.step,
                     self.settings.steps)
            bar.advance(state.step, earlier=True)
        start = initial_state(tasks, self.settings, self.model, self.seed)
        with interrupts.deferred() as stop:
            with fitting_memory(len(chunk), self.model.device):
                final = invert(self.model, tasks, self.settings, self.seed,
                               state or _copy(start), _LoopHooks(partial, bar, stop))
            partial.save(final)
        scores = [self._clean_scores(tasks, images) for images in (start.images, final.images)]
        curve = torch.stack(final.curve, dim=1).cpu()
        return {image: _Inverted(final.images[i].cpu(), final.curve_steps, curve[i],
                                 float(scores[0][i]), float(scores[1][i]))
                for i, image in enumerate(chunk)}

    @torch.no_grad()
    def _clean_scores(self, tasks: Sequence[Task], images: Tensor) -> Tensor:
        scorer = self.model.scorer([task.caption for task in tasks], self.settings.distance)
        return scorer(to_model_size(images, self.model.image_size)).cpu()


@dataclass(frozen=True)
class _Partial:
    """Checkpoint of an unfinished chunk; resuming is bit-exact."""

    chunk: list[Image]
    names: Mapping[str, str]
    store: Store

    @property
    def key(self) -> str:
        return signature(self.chunk)

    def load(self, device: torch.device) -> State | None:
        entry = self.store.fetch(PARTIAL, self.key)
        if entry is None:
            return None
        tensors = {name: tensor.to(device) for name, tensor in entry.tensors.items()}
        moments = [tensors[name] for name in ("exp_avg", "exp_avg_sq") if name in tensors]
        return State(entry.record["step"], tensors["images"], moments,
                     entry.record["moment_steps"], entry.record["curve_steps"],
                     list(tensors["curve"]))

    def save(self, state: State) -> None:
        self._refuse_nan(state)
        record = {"chunk": self.chunk, "step": state.step, "moment_steps": state.moment_steps,
                  "curve_steps": state.curve_steps}
        moments = zip(("exp_avg", "exp_avg_sq"), state.moments, strict=False)
        tensors = {"images": state.images, "curve": torch.stack(state.curve), **dict(moments)}
        self.store.commit(PARTIAL, self.key, record, tensors)

    def _refuse_nan(self, state: State) -> None:
        finite = state.images.isfinite().flatten(1).all(dim=1).tolist()
        for (key, _), good in zip(self.chunk, finite, strict=True):
            if not good:
                raise UserError(f"inversion ('{self.names[key][:60]}')",
                                f"pixels became NaN within {state.step} steps",
                                "lower inversion.lr, or clip gradients (inversion.grad_clip)")


@dataclass(frozen=True)
class _LoopHooks:
    partial: _Partial
    bar: Bar
    stop: Callable[[], bool]

    def advance(self, score: Callable[[], float]) -> None:
        self.bar.advance(1, score=score)

    def save(self, state: State) -> None:
        self.partial.save(state)


def _chunks(model: Model, missing: list[str], captions: dict[str, str],
            settings: InversionSettings, store: Store) -> list[list[Image]]:
    """Return the unfinished chunks of killed runs, then chunks of the remaining images."""
    left: list[list[Image]] = []
    covered: set[Image] = set()
    for chunk in _left_over(store):
        keys = {key for key, _ in chunk}
        if keys <= captions.keys() and keys & set(missing) and not covered & set(chunk):
            left.append(chunk)
            covered |= set(chunk)
    rest = [(key, i) for key in missing for i in range(settings.images)
            if (key, i) not in covered]
    if not rest:
        return left
    # Batch clipping couples the images of a caption: they must share a chunk.
    whole = settings.images if settings.grad_clip == "batch" else 1
    return left + make_chunks(rest, chunk_size(settings.chunk_size, model), whole)


def _left_over(store: Store) -> list[list[Image]]:
    entries = [store.fetch(PARTIAL, key) for key in store.keys(PARTIAL)]
    return [[(key, index) for key, index in entry.record["chunk"]]
            for entry in entries if entry is not None]


def _clear_partials(store: Store) -> None:
    for chunk in _left_over(store):
        if all(store.has(KIND, key) for key, _ in chunk):
            store.discard(PARTIAL, signature(chunk))


def _commit(key: str, caption: str, parts: list[Any], settings: InversionSettings,
            store: Store) -> Entry:
    mean = torch.stack([part.curve for part in parts]).mean(dim=0)
    record = {
        "caption": caption,
        "distance": settings.distance,
        "steps": parts[0].curve_steps,
        "score": [round(value, 6) for value in mean.tolist()],
        "start": sum(part.start for part in parts) / len(parts),
        "end": sum(part.end for part in parts) / len(parts),
    }
    return store.commit(KIND, key, record, {"images": torch.stack([p.image for p in parts])})


def _copy(state: State) -> State:
    return State(state.step, state.images.clone())
