"""Inversion of the top of the image encoder into features (supplementary B.2.1, Eq. 2).

Each caption's features are computed once and stored. A killed run resumes after the chunk of
captions that it stored last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from kt_exp import interrupts
from kt_exp.errors import UserError
from kt_exp.inversion.chunks import chunk_size, fitting_memory, make_chunks
from kt_exp.inversion.conditional import LinearGaussian
from kt_exp.inversion.feature_prior import FeaturePrior
from kt_exp.inversion.invert import Task, random_stream
from kt_exp.inversion.schedule import learning_rate
from kt_exp.inversion.settings import InversionSettings
from kt_exp.inversion.statistics import FeatureStatistics, from_positions
from kt_exp.models.split import PROJECTION, TopEncoder
from kt_exp.progress import Bar, Progress
from kt_exp.store import Entry, Store, signature

VERSION = 1
KIND = "features"
_CURVE_POINTS = 100
_DECIDES = ("layers", "feature_prior", "feature_weight", "images")
_DECIDES_STEPS = ("distance", "steps", "lr", "lr_schedule")


def feature_signature(model_fingerprint: str, device: torch.device, caption: str,
                      settings: InversionSettings, seed: int, statistics: str) -> str:
    """Return the store key of one caption's features: a hash of exactly what can change them.

    `statistics` is the key of the natural features' statistics.
    """
    names = _DECIDES if settings.layers == PROJECTION else (*_DECIDES, *_DECIDES_STEPS)
    decides = {name: getattr(settings, name) for name in names}
    if settings.layers != PROJECTION:
        decides["tower"] = settings.speed.tower
        # Without changes of size, a stage is the whole run.
        decides["lr_period"] = str(settings.lr_period).replace("stage", "run")
    return signature([VERSION, model_fingerprint, device.type, caption, decides, seed, statistics])


def invert_features(top: TopEncoder, captions: dict[str, str], settings: InversionSettings,
                    seed: int, statistics: Callable[[], FeatureStatistics], store: Store,
                    progress: Progress, names: Mapping[str, str] | None = None) -> dict[str, Entry]:
    """Return the store entry of each key in `captions` (key → caption).

    `names` (key → concept) are for error messages; by default these quote the caption.
    `statistics` is called only if an entry is missing.

    An entry's tensors are `features` `(n, …)`, at the cut of `top`. Its record has the cut as
    `layers` and one image's `shape`, and all that a record of `invert_captions` has; where features
    have a closed form, the curve is empty. There the first image is the conditional mean, the
    others are samples of the conditional distribution.

    Raises:
        UserError: features became NaN, or a chunk does not fit the device's memory.
        KeyboardInterrupt: the process was told to stop; finished chunks are in the store.
    """
    with store.lock(KIND, captions):
        found = {key: store.fetch(KIND, key) for key in captions}
        missing = [(key, i) for key, entry in found.items() if entry is None
                   for i in range(settings.images)]
        if missing:
            top.module.eval().requires_grad_(False)
            inversion = _Inversion(top, _without_pixels(settings), seed, statistics())
            # The top alone takes less memory than the whole model.
            size = chunk_size(settings.chunk_size, top.model)
            chunks = make_chunks(missing, size, settings.images)
            with progress(f"Inverting features of {len(missing)} images",
                          inversion.steps * len(chunks)) as bar, interrupts.deferred() as stop:
                for chunk in chunks:
                    tasks = [Task(captions[key], i) for key, i in chunk]
                    inverted = inversion.run(tasks, bar, stop)
                    for at in range(0, len(chunk), settings.images):
                        key, own = chunk[at][0], inverted.part(at, at + settings.images)
                        _refuse_nan(own.features, (names or captions)[key])
                        found[key] = store.commit(KIND, key, inversion.record(captions[key], own),
                                                  {"features": own.features})
    return {key: entry for key, entry in found.items() if entry is not None}


def starting_features(tasks: Sequence[Task], settings: InversionSettings,
                      statistics: FeatureStatistics, seed: int, device: torch.device) -> Tensor:
    """Return the random features that inversion starts from, `(B, …)`, one for each task."""
    prior = FeaturePrior(statistics, settings.feature_prior, device)
    return from_positions(prior.start([random_stream("noise", task, seed) for task in tasks]),
                          statistics.shape)


@dataclass(frozen=True)
class _Inverted:
    """Features `(B, …)`, the curve of their scores `(S, B)`, and the first and the last scores."""

    features: Tensor
    curve_steps: list[int]
    curve: Tensor
    start: Tensor
    end: Tensor

    def part(self, first: int, last: int) -> _Inverted:
        return _Inverted(self.features[first:last], self.curve_steps, self.curve[:, first:last],
                         self.start[first:last], self.end[first:last])


@dataclass(frozen=True)
class _Inversion:
    top: TopEncoder
    settings: InversionSettings
    seed: int
    statistics: FeatureStatistics

    @property
    def _closed(self) -> bool:
        return self.settings.layers == PROJECTION

    @property
    def steps(self) -> int:
        return 1 if self._closed else self.settings.steps

    def run(self, tasks: Sequence[Task], bar: Bar, stop: Callable[[], bool]) -> _Inverted:
        streams = [random_stream("noise", task, self.seed) for task in tasks]
        if self._closed:
            return self._conditional(tasks, streams, bar)
        with fitting_memory(len(tasks), self.top.device):
            return self._optimised(tasks, streams, bar, stop)

    def record(self, caption: str, inverted: _Inverted) -> dict[str, object]:
        return {
            "caption": caption, "layers": self.settings.layers,
            "shape": list(self.statistics.shape), "distance": self.settings.distance,
            "steps": inverted.curve_steps,
            "score": [round(value, 6) for value in inverted.curve.mean(dim=1).tolist()],
            "start": float(inverted.start.mean()), "end": float(inverted.end.mean()),
        }

    @torch.no_grad()
    def _conditional(self, tasks: Sequence[Task], streams: Sequence[torch.Generator],
                     bar: Bar) -> _Inverted:
        gaussian = _gaussian(self.top, self.statistics, self.settings.feature_prior)
        captions = [task.caption for task in tasks]
        distinct = list(dict.fromkeys(captions))
        encoded = self.top.encode_text(distinct).double().cpu()
        texts = encoded[[distinct.index(caption) for caption in captions]]
        weight = self.settings.feature_weight
        means = gaussian.given(texts, weight)
        samples = gaussian.samples_given(texts, weight, streams)
        is_mean = torch.tensor([task.index == 0 for task in tasks])[:, None]
        features = torch.where(is_mean, means, samples).float()
        start = gaussian.mean.float().expand_as(features)
        score = self.top.scorer(captions, self.settings.distance)
        bar.advance(1)
        return _Inverted(features, [], torch.empty(0, len(tasks)), score(start).cpu(),
                         score(features).cpu())

    def _optimised(self, tasks: Sequence[Task], streams: Sequence[torch.Generator], bar: Bar,
                   stop: Callable[[], bool]) -> _Inverted:
        settings, shape = self.settings, self.statistics.shape
        prior = FeaturePrior(self.statistics, settings.feature_prior, self.top.device)
        lean = settings.speed.tower == "lean"
        scorer = self.top.lean_scorer if lean else self.top.scorer
        score = scorer([task.caption for task in tasks], settings.distance)
        start = prior.start(streams)
        # In units of each channel's standard deviation, so that one rate fits all cuts.
        change = torch.zeros_like(start, requires_grad=True)
        optimizer = torch.optim.Adam([change])
        every, curve_steps, curve = max(1, settings.steps // _CURVE_POINTS), [], []
        for step in range(settings.steps):
            features = start + prior.scale * change
            scores = score(from_positions(features, shape))
            loss = (settings.feature_weight * prior.distance(features) - scores).sum()
            change.grad = None
            loss.backward()
            optimizer.param_groups[0]["lr"] = learning_rate(settings, step)
            optimizer.step()
            if step % every == 0 or step == settings.steps - 1:
                curve_steps.append(step)
                curve.append(scores.detach())
            bar.advance(1, score=partial(_mean, scores.detach()))
            if stop():
                raise KeyboardInterrupt
        features = from_positions((start + prior.scale * change).detach(), shape).contiguous()
        with torch.no_grad():
            end = score(features)
        return _Inverted(features.cpu(), curve_steps, torch.stack(curve).cpu(), curve[0].cpu(),
                         end.cpu())


def _gaussian(top: TopEncoder, statistics: FeatureStatistics, form: str) -> LinearGaussian:
    """Return the features' Gaussian, with a diagonal covariance for the form `channel`."""
    mean, covariance = statistics.mean[0].double(), statistics.covariance.double()
    if form == "channel":
        covariance = covariance.diagonal().diag()
    # An affine map is known by its values at the origin and at the unit vectors.
    points = torch.cat([torch.zeros(1, len(mean)), torch.eye(len(mean))])
    values = top.encode_image(points, normalize=False).double().cpu()
    return LinearGaussian(mean, covariance, (values[1:] - values[0]).T, values[0])


def _without_pixels(settings: InversionSettings) -> InversionSettings:
    """Return the settings without a ladder of image sizes, at which rates would start anew."""
    return replace(settings, sizes=[], upsize_at=[])


def _mean(scores: Tensor) -> float:
    return float(scores.mean())


def _refuse_nan(features: Tensor, name: str) -> None:
    if not features.isfinite().all():
        raise UserError(f"inversion ('{name[:60]}')", "features became NaN",
                        "lower inversion.lr or raise inversion.feature_weight")
