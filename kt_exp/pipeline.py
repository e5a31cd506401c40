"""Inversion → fine-tuning → evaluation, each through the store.

Only this module knows the order of the stages and the inputs of each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from kt_exp.benchmarks.classification.diagnosis import count_tokens, diagnose
from kt_exp.benchmarks.classification.evaluator import EmbeddingEvaluator
from kt_exp.caches import Caches
from kt_exp.calibration import Calibrator
from kt_exp.concepts import Concept, load_concepts, warn_of_names
from kt_exp.concepts.captions import check_lengths
from kt_exp.editing import Editor
from kt_exp.finetune.edit_stage import EditTexts
from kt_exp.finetune.images import TrainingImages, check_folders, check_inverted_model
from kt_exp.finetune.plan import TrainingPlan, plan_training
from kt_exp.finetune.settings import EDIT
from kt_exp.finetune.stage import finetune, finetune_signature
from kt_exp.memory import peak_gib, reset_peak
from kt_exp.model_checks import check_models
from kt_exp.models.factory import pick_device
from kt_exp.models.protocol import Model
from kt_exp.models.weights import FROZEN, Weights
from kt_exp.progress import Progress
from kt_exp.results.operating_point import Calibration
from kt_exp.results.outcome import JOINT, Diagnosis, Outcome
from kt_exp.schema import Config
from kt_exp.store import Entry, Store, signature
from kt_exp.training_inputs import judge_training_images, training_inputs


@dataclass(frozen=True)
class Group:
    """Concepts that share one fine-tuned model: one with `scope: each`, all with `joint`.

    Attributes:
        plan: of training; None if the weights are edited and not trained.
        edit: the texts of the closed-form edit, which comes before training; None without one.
    """

    name: str
    concepts: list[Concept]
    plan: TrainingPlan | None
    edit: EditTexts | None

    @property
    def slug(self) -> str:
        """The group's name as a folder."""
        return "_joint" if len(self.concepts) > 1 else self.concepts[0].slug


@dataclass(frozen=True)
class FinetunedModel:
    """The fine-tuned weights of one group.

    Attributes:
        curve: the losses of training; empty lists without training.
        strengths: of the closed-form edit, by concept; empty without one.
    """

    group: Group
    weights: Weights
    curve: dict[str, list[float]]
    strengths: dict[str, float]


@dataclass
class RunState:
    """The results of the stages so far; they survive a failure.

    Attributes:
        inverted: entries of the inversion stage, by concept.
        calibrations: by the name of the group, with `finetune.calibration`.
        signatures: the store keys of each stage; `model` is the model's fingerprint,
            `inversion_model` that of another model which images are inverted from.
        reused: number of each stage's results that came from the store.
        seconds: wall time of each stage.
        peak_gib: peak memory of each stage (`kt_exp.memory`), where the system tells it.
    """

    inverted: dict[str, Entry] = field(default_factory=dict)
    finetuned: list[FinetunedModel] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    signatures: dict[str, Any] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_gib: dict[str, float] = field(default_factory=dict)


class Experiment:
    """A run that is ready to start: everything is loaded and checked.

    Args:
        config: the checked config.
        progress: shows the progress of long loops.
        caches: shared with the other jobs of this process.
        begin: called with the name of each stage when it starts.

    Raises:
        UserError: something is wrong with the config, files, model or concepts.
    """

    def __init__(self, config: Config, progress: Progress, caches: Caches | None = None,
                 begin: Callable[[str], None] = lambda stage: None) -> None:
        self.config, self.progress, self.state = config, progress, RunState()
        self.benchmark = config.benchmark
        self._caches, self._begin = caches or Caches(), begin
        self.concepts = load_concepts(config.concepts)
        warn_of_names(self.concepts)
        device = pick_device(config.device)
        self.store = Store(Path(config.store.root), config.store.pixels_gib * 2**30,
                           create=not config.dry_run)
        self.benchmark.check_concepts(self.concepts)
        check_folders(config.finetune, self.concepts)
        check_inverted_model(config.finetune, config.inversion)
        self.model: Model = self._caches.models.load(config.model, device, config.precision)
        self.fingerprint = self.model.fingerprint()
        # Before the other checks: whether the model can do the task is the first thing to know.
        self.evaluator = self.benchmark.evaluator(self.model, self.fingerprint, self.store,
                                                  progress)
        images = TrainingImages(self.model, *self._inverted_model(), config.finetune,
                                config.inversion, config.seed)
        known_prompts = self.benchmark.known_prompts()
        self.images = training_inputs(images, self.evaluator, known_prompts, self.benchmark,
                                      self.store, progress) if self.trains else images
        check_models(self.images, self._edits)
        self.editor = Editor.of(self.evaluator, config.finetune.edit) if self._edits else None
        self.calibrator = Calibrator.of(self.evaluator, known_prompts, images.of_pixels())
        self.groups = self._groups(known_prompts)
        self._check_captions()

    def run(self) -> Iterator[str]:
        """Run the stages; yield the name of each when done. The results are in `state`."""
        self.state.signatures["model"] = self.fingerprint
        if self.images.inverted_model is not self.model:
            self.state.signatures["inversion_model"] = self.images.fingerprint
        with self._measured("evaluation"):  # first, to find unreadable images before inversion
            self._evaluate_untrained()
        yield "evaluation"
        with self._measured("inversion"):
            rehearsal = self._invert()
            if self.calibrator:
                self.calibrator.invert(self.store, self.progress)
        with self._measured("evaluation"):
            self.state.outcomes += judge_training_images(
                self.evaluator, self.images, [group.concepts for group in self.groups],
                self.state.inverted)
        yield "inversion"
        for group in self.groups:
            with self._measured("finetune"):
                model = self._finetune(group, rehearsal)
            with self._measured("evaluation"):
                self._evaluate(model)
            yield "finetune"

    @property
    def trains(self) -> bool:
        """Whether weights are trained; an edit alone needs no images and no training."""
        return self.config.finetune.strategy != EDIT

    @cached_property
    def diagnoses(self) -> list[Diagnosis]:
        """Diagnosis of each concept before the run; with cosines only for embedding classifiers."""
        if not isinstance(self.evaluator, EmbeddingEvaluator):
            return [count_tokens(self.model, concept) for concept in self.concepts]
        task = self.evaluator.task
        return diagnose(self.evaluator.model, self.concepts, task.templates, task.known_names,
                        self.evaluator.frozen_classifier,
                        self.config.finetune.captions if self.trains else None)

    def _evaluate_untrained(self) -> None:
        for group in self.groups:
            self.state.outcomes += self.evaluator.untrained(group.concepts)

    def _invert(self) -> Tensor:
        """Invert the concepts' descriptions; return the rehearsal images, `(M, 3, H, W)`."""
        config, images, state = self.config, self.images, self.state
        if config.finetune.images == "inverted" and self.trains:
            state.inverted = images.invert(self.concepts, self.store, self.progress)
            state.reused["inversion"] = sum(entry.found for entry in state.inverted.values())
            state.signatures["inversion"] = {c.name: images.inversion_key(c)
                                             for c in self.concepts}
        plan = self.groups[0].plan
        rehearsed = plan.rehearsed if plan else []
        if rehearsed:
            state.signatures["rehearsal"] = list(images.rehearsal_captions(rehearsed))
        return images.rehearsal(rehearsed, self.store, self.progress)

    def _finetune(self, group: Group, rehearsal: Tensor) -> FinetunedModel:
        """Edit the weights, train them, or both, in this order; then interpolate."""
        weights, start, curve, strengths, found = FROZEN, FROZEN, {}, {}, True
        if group.edit:
            assert self.editor
            key, entry = self.editor.edit(group.concepts, group.edit, self.store)
            weights, curve, found = Weights(key, entry.tensors), entry.record, entry.found
            strengths = dict(zip((concept.name for concept in group.concepts),
                                 entry.record["strengths"], strict=True))
        if group.plan:
            start = weights
            key, entry = self._train(group, start, rehearsal)
            weights = Weights(key, start.changes | entry.tensors)
            curve, found = entry.record, entry.found
        state = self.state
        state.signatures.setdefault("finetune", {})[group.name] = weights.key
        state.reused["finetune"] = state.reused.get("finetune", 0) + found
        with start.applied(self.model):
            weights = weights.interpolated(self.model, self.config.finetune.interpolation)
        model = FinetunedModel(group, weights, {name: curve[name] for name in ("steps", "loss")},
                               strengths)
        state.finetuned.append(model)
        return model

    def _train(self, group: Group, start: Weights, rehearsal: Tensor) -> tuple[str, Entry]:
        """Train from the weights `start`; return what that changes, and its key in the store."""
        config, images = self.config, self.images
        assert group.plan
        key = self.training_key(group, start.key)
        features = self._caches.features.of((self._start_fingerprint(start.key), self.model.device,
                                             config.inversion.layers))
        with start.applied(self.model):
            entry = finetune(images.learner, key, group.plan,
                             lambda: images.load(group.concepts, self.state.inverted), rehearsal,
                             config.finetune, self.store, self.progress, group.name, features)
        return key, entry

    def training_key(self, group: Group, start: str) -> str:
        """Return the store key of a group's training from the weights with the key `start`."""
        assert group.plan
        image_keys = [self.images.key(concept) for concept in group.concepts]
        image_keys += self.images.rehearsal_captions(group.plan.rehearsed)
        return finetune_signature(self._start_fingerprint(start), self.model.device, group.plan,
                                  image_keys, self.config.finetune, self.config.seed)

    def _start_fingerprint(self, start: str) -> str:
        return self.fingerprint if start == FROZEN.key else signature([self.fingerprint, start])

    def _evaluate(self, model: FinetunedModel) -> None:
        concepts, state = model.group.concepts, self.state
        if self.calibrator:
            calibration, outcomes = self.calibrator.evaluate(concepts, model.weights)
            state.calibrations[model.group.name] = calibration
        else:
            outcomes = self.evaluator.transferred(concepts, model.weights)
        state.outcomes += outcomes
        state.reused["evaluation"] = self.evaluator.reused

    def _groups(self, known: list[list[str]]) -> list[Group]:
        joint = self.config.finetune.scope == "joint"
        groups = []
        for members in [self.concepts] if joint else [[concept] for concept in self.concepts]:
            name = JOINT if len(members) > 1 else members[0].name
            edit = self.editor.texts(members) if self.editor else None
            plan = self._plan(members, known) if self.trains else None
            groups.append(Group(name, members, plan, edit))
        return groups

    def _plan(self, members: list[Concept], known: list[list[str]]) -> TrainingPlan:
        counts = [self.images.count(concept) for concept in members]
        return plan_training(members, counts, self.config.finetune, known, self.config.seed)

    @property
    def _edits(self) -> bool:
        """Whether weights are edited in closed form."""
        return not self.trains or self.config.finetune.start == "closed_form"

    def _inverted_model(self) -> tuple[Model, str]:
        """Return the model that images are inverted from, and its fingerprint."""
        config = self.config
        if config.inversion.model in (None, config.model):
            return self.model, self.fingerprint
        model = self._caches.inverted_models.load(config.inversion.model, self.model.device,
                                                  config.precision)
        return model, model.fingerprint()

    def _check_captions(self) -> None:
        captions = [(concept.name, concept.description) for concept in self.concepts]
        captions += [(group.name, caption) for group in self.groups if group.plan
                     for caption in (*group.plan.captions, *group.plan.targets)]
        captions += [(group.name, caption) for group in self.groups if group.edit
                     for prompts in group.edit.targets for caption in prompts]
        check_lengths(captions, self.model.count_tokens, self.model.max_text_tokens,
                      self.config.concepts.on_long_caption)
        inverted, on_long = self.images.inverted_model, self.config.concepts.on_long_caption
        if inverted is not self.model:
            check_lengths(captions[:len(self.concepts)], inverted.count_tokens,
                          inverted.max_text_tokens, on_long)

    @contextmanager
    def _measured(self, stage: str) -> Iterator[None]:
        """Add the wall time of the block to the stage's, and note its peak memory."""
        self._begin(stage)
        told, start = reset_peak(self.model.device), time.perf_counter()
        seconds, peaks = self.state.seconds, self.state.peak_gib
        try:
            yield
        finally:  # also if the block fails
            seconds[stage] = round(seconds.get(stage, 0) + time.perf_counter() - start, 3)
            if told:
                peak = round(peak_gib(self.model.device), 4)
                peaks[stage] = max(peaks.get(stage, 0.0), peak)
