"""Inversion → fine-tuning → evaluation, each through the store.

Only this module knows the order of the stages and which stage needs what; how is theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kt_exp.benchmarks.classification.diagnosis import Diagnosis, count_tokens, diagnose
from kt_exp.benchmarks.classification.evaluator import EmbeddingEvaluator
from kt_exp.benchmarks.protocol import Benchmark, Evaluator
from kt_exp.concepts import Concept, load_concepts
from kt_exp.concepts.captions import check_lengths
from kt_exp.errors import UserError
from kt_exp.finetune.images import TrainingImages, folder_images, image_count
from kt_exp.finetune.lesson import Lesson, plan_lesson
from kt_exp.finetune.memo import Memo
from kt_exp.finetune.objectives import check_objective
from kt_exp.finetune.stage import finetune, finetune_signature
from kt_exp.finetune.strategies import trained_parameters
from kt_exp.inversion.look import check_look
from kt_exp.inversion.stage import check_distance, invert_captions
from kt_exp.models.factory import load_model, pick_device
from kt_exp.models.protocol import DualEncoder, Model, PairMatcher
from kt_exp.progress import Progress
from kt_exp.results.outcome import Outcome
from kt_exp.results.record import JOINT
from kt_exp.schema import Config
from kt_exp.store import Entry, Store

ModelLoader = Callable[[object, torch.device, str], Model]

_MEMO = Memo()  # of all jobs in this process: those of a sweep


@dataclass(frozen=True)
class Group:
    """Concepts that share one fine-tuned model: one with `scope: each`, all with `joint`."""

    name: str
    concepts: list[Concept]
    lesson: Lesson

    @property
    def slug(self) -> str:
        """The group's name as a folder."""
        return "_joint" if len(self.concepts) > 1 else self.concepts[0].slug


@dataclass(frozen=True)
class Experiment:
    """A config made ready: everything is loaded and checked, nothing costly has begun."""

    config: Config
    concepts: list[Concept]
    benchmark: Benchmark
    store: Store
    model: Model
    fingerprint: str
    images: TrainingImages
    evaluator: Evaluator
    groups: list[Group]
    diagnoses: list[Diagnosis]


@dataclass(frozen=True)
class Taught:
    """One group after fine-tuning: `changes` are the weights that differ from the model's."""

    group: Group
    key: str
    changes: dict[str, Tensor]
    curve: dict[str, list[float]]


@dataclass
class Findings:
    """What the stages found so far: filled as they go, so that a failure loses nothing."""

    inverted: dict[str, Entry]
    taught: list[Taught]
    outcomes: list[Outcome]
    signatures: dict[str, Any]
    reused: dict[str, int]
    seconds: dict[str, float]
    begin: Callable[[str], None]

    @classmethod
    def empty(cls, begin: Callable[[str], None] = lambda stage: None) -> Findings:
        """Return findings of nothing yet; `begin` is called with the name of each stage."""
        return cls({}, [], [], {}, {}, {}, begin)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to `seconds`, also when it fails."""
        self.begin(stage)
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[stage] = round(self.seconds.get(stage, 0) + elapsed, 3)


def prepare(config: Config, progress: Progress, load: ModelLoader = load_model) -> Experiment:
    """Load and check everything that a run needs; `load` makes the model of its config.

    Raises:
        UserError: whatever is wrong with config, files, model or concepts.
    """
    concepts = load_concepts(config.concepts)
    device = pick_device(config.device)
    store = Store(Path(config.store.root), config.store.pixels_gib * 2**30)
    config.benchmark.check_concepts(concepts)
    if config.finetune.images == "folder":
        for concept in concepts:
            folder_images(config, concept)
    model = load(config.model, device, config.precision)
    fingerprint = model.fingerprint()
    # Before all else of the model: a task that it cannot do is no matter of how it is taught.
    evaluator = config.benchmark.evaluator(model, fingerprint, store, progress)
    _check_model(config, model)
    groups = _groups(config, concepts)
    _check_captions(config, concepts, groups, model)
    diagnoses = _diagnose(model, concepts, evaluator)
    images = TrainingImages(config, model, fingerprint)
    return Experiment(config, concepts, config.benchmark, store, model, fingerprint, images,
                      evaluator, groups, diagnoses)


def run(experiment: Experiment, findings: Findings, progress: Progress) -> Iterator[None]:
    """Run the three stages; fill `findings`, and yield after each."""
    findings.signatures["model"] = experiment.fingerprint
    evaluator = experiment.evaluator
    # First, since an image that cannot be read shall be found before inversion.
    with findings.timed("evaluation"):
        for group in experiment.groups:
            findings.outcomes += evaluator.untrained(group.concepts)
    yield
    with findings.timed("inversion"):
        if experiment.config.finetune.images == "inverted":
            _invert(experiment, findings, progress)
        rehearsal = experiment.images.rehearsal(
            experiment.groups[0].lesson.rehearsed, experiment.store, progress)
    yield
    for group in experiment.groups:
        with findings.timed("finetune"):
            taught = _teach(experiment, group, findings, rehearsal, progress)
        with findings.timed("evaluation"):
            findings.outcomes += evaluator.transferred(group.concepts, taught.key, taught.changes)
        findings.reused["evaluation"] = evaluator.reused
        yield


def _check_model(config: Config, model: Model) -> None:
    """Refuse what the model cannot do."""
    if not isinstance(model, DualEncoder | PairMatcher):
        raise UserError("model._target_", f"{type(model).__name__} is neither a DualEncoder nor a "
                        "PairMatcher", "give it the methods of kt_exp.models.protocol")
    check_objective(model, config.finetune)
    trained_parameters(model, config.finetune.strategy)
    if config.finetune.images == "inverted" or config.finetune.rehearsal:
        check_distance(model, config.inversion.distance)
        check_look(model, config.inversion)


def _diagnose(model: Model, concepts: list[Concept], evaluator: Evaluator) -> list[Diagnosis]:
    """Return what can be told in advance: cosines only where images are classified by them."""
    if not isinstance(evaluator, EmbeddingEvaluator):
        return [count_tokens(model, concept) for concept in concepts]
    benchmark = evaluator.benchmark
    return diagnose(evaluator.model, concepts, benchmark.templates, benchmark.known_names(),
                    evaluator.frozen_classifier)


def _groups(config: Config, concepts: list[Concept]) -> list[Group]:
    known = config.benchmark.known_prompts()
    members = [concepts] if config.finetune.scope == "joint" else [[c] for c in concepts]
    groups = []
    for some in members:
        counts = [image_count(config, concept) for concept in some]
        lesson = plan_lesson(some, counts, config.finetune, known, config.seed)
        groups.append(Group(JOINT if len(some) > 1 else some[0].name, some, lesson))
    return groups


def _check_captions(config: Config, concepts: list[Concept], groups: list[Group],
                    model: Model) -> None:
    captions = [(concept.name, concept.description) for concept in concepts]
    captions += [(group.name, caption) for group in groups
                 for caption in (*group.lesson.captions, *group.lesson.targets)]
    check_lengths(captions, model.count_tokens, model.max_text_tokens,
                  config.concepts.on_long_caption)


def _invert(experiment: Experiment, findings: Findings, progress: Progress) -> None:
    config = experiment.config
    keys = {c.name: experiment.images.inversion_key(c) for c in experiment.concepts}
    captions = {keys[c.name]: c.description for c in experiment.concepts}
    names = {key: name for name, key in keys.items()}
    entries = invert_captions(experiment.model, captions, config.inversion, config.seed,
                              experiment.store, progress, names)
    findings.reused["inversion"] = sum(entry.found for entry in entries.values())
    findings.signatures["inversion"] = keys
    findings.inverted = {name: entries[key] for name, key in keys.items()}


def _teach(experiment: Experiment, group: Group, findings: Findings, rehearsal: Tensor,
           progress: Progress) -> Taught:
    config = experiment.config
    images = experiment.images
    image_keys = [images.key(concept) for concept in group.concepts]
    image_keys += images.rehearsal_captions(group.lesson.rehearsed)
    key = finetune_signature(experiment.fingerprint, experiment.model.device, group.lesson,
                             image_keys, config.finetune, config.seed)
    findings.signatures.setdefault("finetune", {})[group.name] = key
    entry = finetune(experiment.model, key, group.lesson,
                     lambda: images.load(group.concepts, findings.inverted),
                     rehearsal, config.finetune, experiment.store, progress, group.name,
                     _MEMO.of((experiment.fingerprint, experiment.model.device)))
    findings.reused["finetune"] = findings.reused.get("finetune", 0) + entry.found
    taught = Taught(group, key, entry.tensors, entry.record)
    findings.taught.append(taught)
    return taught
