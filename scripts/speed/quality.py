"""How long inversion has to be: steps against accuracy, forgetting and similarity.

Only the inversion of the concepts' descriptions changes: fine-tuning is the config's, and rehearsed
images are those of one inversion for all points. No steps at all are the control: noise. Each point
is appended to a file of JSON lines, from which a run goes on.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kt_exp.caches import Caches
from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.finetune.images import TrainingImages
from kt_exp.finetune.plan import TrainingPlan
from kt_exp.finetune.stage import finetune, finetune_signature
from kt_exp.inversion.settings import InversionSettings
from kt_exp.inversion.stage import invert_captions
from kt_exp.models.protocol import Model
from kt_exp.models.weights import Weights
from kt_exp.pipeline import Experiment, Group
from kt_exp.report.plots import Chart, Panel, PanelRow, draw_curves, x_axis
from kt_exp.report.plots import Curve as Line
from kt_exp.report.plots import Point as Mark
from kt_exp.results.outcome import Outcome, Phase
from kt_exp.runs.console import progress
from kt_exp.schema import Config
from kt_exp.store import Entry
from speed.common import Loaded
from speed.measure import Clock, Row

Point = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """The points of a curve: the config's inversion with other numbers of steps and other seeds.

    Attributes:
        rehearsed: how the images of known classes are inverted, whatever the config's inversion.
        name: of the config, in the file.
        file: where the points of all configs are kept.
    """

    config: Config
    rehearsed: InversionSettings
    model: Model
    clock: Clock
    name: str
    steps: Sequence[int]
    seeds: Sequence[int]
    file: Path

    def points(self) -> Iterator[Point]:
        """Yield each point, measured now or earlier."""
        kept = [json.loads(line) for line in self.file.read_text().splitlines()] \
            if self.file.exists() else []
        for seed in self.seeds:
            found = {point["steps"]: point for point in kept
                     if (point["name"], point["seed"]) == (self.name, seed)}
            yield from (found[steps] for steps in self.steps if steps in found)
            if missing := [steps for steps in self.steps if steps not in found]:
                for point in self._measure(seed, missing):
                    with self.file.open("a") as lines:
                        lines.write(json.dumps(point) + "\n")
                    yield point

    def _measure(self, seed: int, wanted: Sequence[int]) -> Iterator[Point]:
        with tempfile.TemporaryDirectory() as folder:
            config = replace(self.config, seed=seed, store=replace(self.config.store, root=folder))
            experiment = Experiment(config, progress, Caches(Loaded(self.model)))
            rehearsal = _images(experiment, self.rehearsed).rehearsal(
                _plan(experiment.groups[0]).rehearsed, experiment.store, progress)
            before = [outcome for group in experiment.groups
                      for outcome in experiment.evaluator.untrained(group.concepts)]
            for steps in wanted:
                images = _images(experiment, _of_length(config.inversion, steps)) if steps \
                    else _noise(experiment)
                begun = self.clock()
                inverted = _invert(experiment, images) if steps else {}
                seconds = self.clock() - begun
                after = _teach(experiment, images, inverted, rehearsal)
                yield {"name": self.name, "steps": steps, "seed": seed, "seconds": seconds,
                       "target": 100 * _mean(after, "target", Phase.transferred),
                       "known": 100 * (_mean(after, "known", Phase.transferred)
                                       - _mean(before, "known", Phase.baseline)),
                       "similarity": _similarity(experiment, images, inverted)}


def summary(points: Sequence[Point]) -> Iterator[Row]:
    """Yield a row for each length: seconds, and means over the seeds with their range."""
    for steps in dict.fromkeys(p["steps"] for p in points):
        own = [p for p in points if p["steps"] == steps]
        said = ", ".join(_with_range(name, [p[name] for p in own], digits)
                         for name, digits in (("target", 1), ("known", 2), ("similarity", 3)))
        yield Row(f"{own[0]['name']}, {steps} steps", "s",
                  statistics.median(p["seconds"] for p in own),
                  against=f"{said} ({len(own)} seeds)")


def picture(points: Sequence[Point]) -> Chart:
    """Return the plot of all configs that have three lengths or more: means over the seeds.

    Raises:
        UserError: matplotlib is not installed.
    """
    lengths: dict[str, set[int]] = {}
    for point in points:
        lengths.setdefault(point["name"], set()).add(point["steps"])
    names = [name for name, steps in lengths.items() if len(steps) > 2]

    def panel(key: str, factor: float) -> Panel:
        lines = []
        for number, name in enumerate(names):
            found = {steps: [factor * p[key] for p in points
                             if (p["name"], p["steps"]) == (name, steps)]
                     for steps in sorted(lengths[name])}
            lines.append(Line(name, number, [
                Mark(steps, statistics.mean(values),
                     statistics.stdev(values) if values[1:] else 0.0, len(values))
                for steps, values in found.items()]))
        return Panel("", lines)

    steps = set().union(*(lengths[name] for name in names))
    return draw_curves([PanelRow("Target accuracy (%)", [panel("target", 1)]),
                        PanelRow("Mean cosine (× 100)", [panel("similarity", 100)])],
                       x_axis(steps, "steps of inversion"),
                       "Target accuracy and similarity against steps of inversion")


def _with_range(name: str, values: list[float], digits: int) -> str:
    return f"{name} {statistics.mean(values):.{digits}f} " \
           f"({min(values):.{digits}f}…{max(values):.{digits}f})"


def _of_length(settings: InversionSettings, steps: int) -> InversionSettings:
    """Return the settings with another number of steps, the ladder stretched along."""
    grown = [max(i, round(at * steps / settings.steps))
             for i, at in enumerate(settings.upsize_at, start=1)]
    return replace(settings, steps=steps, upsize_at=grown)


def _images(experiment: Experiment, settings: InversionSettings) -> TrainingImages:
    return replace(experiment.images, inversion=settings)


def _noise(experiment: Experiment) -> TrainingImages:
    return replace(experiment.images,
                   finetune=replace(experiment.config.finetune, images="noise"))


def _invert(experiment: Experiment, images: TrainingImages) -> dict[str, Entry]:
    keys = {concept.name: images.inversion_key(concept) for concept in experiment.concepts}
    captions = {keys[concept.name]: concept.description for concept in experiment.concepts}
    entries = invert_captions(experiment.model, captions, images.inversion,
                              experiment.config.seed, experiment.store, progress)
    return {name: entries[key] for name, key in keys.items()}


def _teach(experiment: Experiment, images: TrainingImages, inverted: dict[str, Entry],
           rehearsal: Tensor) -> list[Outcome]:
    config, model = experiment.config, experiment.model
    outcomes = []
    for group in experiment.groups:
        signed = [images.key(concept) for concept in group.concepts]
        key = finetune_signature(experiment.fingerprint, model.device, _plan(group), signed,
                                 config.finetune, config.seed)
        load = partial(images.load, group.concepts, inverted)
        taught = finetune(model, key, _plan(group), load, rehearsal, config.finetune,
                          experiment.store, progress, group.name, FeatureCache())
        outcomes += experiment.evaluator.transferred(group.concepts, Weights(key, taught.tensors))
    return outcomes


def _plan(group: Group) -> TrainingPlan:
    assert group.plan, "quality is measured of presets that train"
    return group.plan


@torch.no_grad()
def _similarity(experiment: Experiment, images: TrainingImages,
                inverted: dict[str, Entry]) -> float:
    """Return the mean cosine of images and descriptions, without augmentation."""
    found = []
    for concept in experiment.concepts:
        pictures = images.load([concept], inverted)
        found.append(experiment.model.score(pictures, [concept.description] * len(pictures)).mean())
    return float(torch.stack(found).mean())


def _mean(outcomes: Sequence[Outcome], split: str, phase: Phase) -> float:
    return statistics.mean(row.value or 0.0 for outcome in outcomes for row in outcome.metrics
                           if (row.split, row.phase, row.metric) == (split, phase, "accuracy"))
