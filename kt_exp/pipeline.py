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
from kt_exp.benchmarks.feature_statistics import StatisticsSources
from kt_exp.caches import Caches
from kt_exp.concepts import Concept, load_concepts
from kt_exp.concepts.captions import check_lengths
from kt_exp.errors import UserError
from kt_exp.finetune.edit_stage import EditTexts, edit, edit_signature
from kt_exp.finetune.features import TrainingFeatures
from kt_exp.finetune.images import TrainingImages, check_folders
from kt_exp.finetune.objectives import check_objective
from kt_exp.finetune.plan import TrainingPlan, plan_training
from kt_exp.finetune.settings import EDIT
from kt_exp.finetune.stage import finetune, finetune_signature
from kt_exp.finetune.strategies import trained_parameters
from kt_exp.inversion.image_scorer import check_image_scorer
from kt_exp.inversion.stage import check_distance
from kt_exp.models.factory import pick_device
from kt_exp.models.last_map import last_map
from kt_exp.models.protocol import DualEncoder, Model, PairMatcher
from kt_exp.models.split import split
from kt_exp.models.weights import Weights
from kt_exp.progress import Progress
from kt_exp.results.outcome import JOINT, Diagnosis, Outcome, Phase
from kt_exp.schema import Config
from kt_exp.store import Entry, Store

# The texts that a name is to score like (`finetune.edit.target`): the prompts of a phase.
EDIT_TARGETS = {"description": Phase.description_prompt, "parts": Phase.parts_prompt,
                "name_and_description": Phase.name_and_description}


@dataclass(frozen=True)
class Group:
    """Concepts that share one fine-tuned model: one with `scope: each`, all with `joint`."""

    name: str
    concepts: list[Concept]
    plan: TrainingPlan | None  # None for an edit, which trains nothing
    edit: EditTexts | None = None

    @property
    def slug(self) -> str:
        """The group's name as a folder."""
        return "_joint" if len(self.concepts) > 1 else self.concepts[0].slug


@dataclass(frozen=True)
class FinetunedModel:
    """The fine-tuned weights of one group, and the curve of its losses."""

    group: Group
    weights: Weights
    curve: dict[str, list[float]]


@dataclass
class RunState:
    """The results of the stages so far; they survive a failure.

    Attributes:
        inverted: entries of the inversion stage, by concept.
        signatures: the store keys of each stage; `model` is the model's fingerprint.
        reused: number of each stage's results that came from the store.
        seconds: wall time of each stage.
    """

    inverted: dict[str, Entry] = field(default_factory=dict)
    finetuned: list[FinetunedModel] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    signatures: dict[str, Any] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


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
        device = pick_device(config.device)
        self.store = Store(Path(config.store.root), config.store.pixels_gib * 2**30)
        self.benchmark.check_concepts(self.concepts)
        check_folders(config.finetune, self.concepts)
        self.model: Model = self._caches.models.load(config.model, device, config.precision)
        self.fingerprint = self.model.fingerprint()
        # Before the other checks: whether the model can do the task is the first thing to know.
        self.evaluator = self.benchmark.evaluator(self.model, self.fingerprint, self.store,
                                                  progress)
        self._check_is_supported()
        self.images = self._training_images()
        self._check_model()
        self.groups = self._groups()
        self._check_captions()

    def run(self) -> Iterator[str]:
        """Run the stages; yield the name of each when done. The results are in `state`."""
        self.state.signatures["model"] = self.fingerprint
        with self._timed("evaluation"):  # first, to find unreadable images before inversion
            self._evaluate_untrained()
        yield "evaluation"
        with self._timed("inversion"):
            rehearsal = self._invert()
        yield "inversion"
        for group in self.groups:
            with self._timed("finetune"):
                model = self._finetune(group, rehearsal)
            with self._timed("evaluation"):
                self._evaluate(model)
            yield "finetune"

    @cached_property
    def diagnoses(self) -> list[Diagnosis]:
        """Diagnosis of each concept before the run; with cosines only for embedding classifiers."""
        if not isinstance(self.evaluator, EmbeddingEvaluator):
            return [count_tokens(self.model, concept) for concept in self.concepts]
        task = self.evaluator.task
        return diagnose(self.evaluator.model, self.concepts, task.templates, task.known_names,
                        self.evaluator.frozen_classifier)

    def _evaluate_untrained(self) -> None:
        for group in self.groups:
            self.state.outcomes += self.evaluator.untrained(group.concepts)

    def _invert(self) -> Tensor:
        """Invert the concepts' descriptions; return the rehearsal images, `(M, 3, H, W)`."""
        config, images, state = self.config, self.images, self.state
        if config.finetune.images == "inverted" and not self._edits:
            state.inverted = images.invert(self.concepts, self.store, self.progress)
            state.reused["inversion"] = sum(entry.found for entry in state.inverted.values())
            state.signatures["inversion"] = {c.name: images.inversion_key(c)
                                             for c in self.concepts}
        plan = self.groups[0].plan
        return images.rehearsal(plan.rehearsed if plan else [], self.store, self.progress)

    def _finetune(self, group: Group, rehearsal: Tensor) -> FinetunedModel:
        key, entry = self._train(group, rehearsal) if group.plan else self._edit(group)
        state = self.state
        state.signatures.setdefault("finetune", {})[group.name] = key
        state.reused["finetune"] = state.reused.get("finetune", 0) + entry.found
        model = FinetunedModel(group, Weights(key, entry.tensors), entry.record)
        state.finetuned.append(model)
        return model

    def _edit(self, group: Group) -> tuple[str, Entry]:
        settings, texts = self.config.finetune.edit, group.edit
        assert isinstance(self.evaluator, EmbeddingEvaluator)
        assert texts
        key = edit_signature(self.fingerprint, self.model.device, texts, settings)
        return key, edit(self.evaluator.model, key, texts, settings, self.store,
                         self.evaluator.frozen_classifier)

    def _train(self, group: Group, rehearsal: Tensor) -> tuple[str, Entry]:
        config, images = self.config, self.images
        assert group.plan
        image_keys = [images.key(concept) for concept in group.concepts]
        image_keys += images.rehearsal_captions(group.plan.rehearsed)
        key = finetune_signature(self.fingerprint, self.model.device, group.plan, image_keys,
                                 config.finetune, config.seed)
        features = self._caches.features.of((self.fingerprint, self.model.device,
                                             config.inversion.layers))
        entry = finetune(images.learner, key, group.plan,
                         lambda: images.load(group.concepts, self.state.inverted), rehearsal,
                         config.finetune, self.store, self.progress, group.name, features)
        return key, entry

    def _evaluate(self, model: FinetunedModel) -> None:
        self.state.outcomes += self.evaluator.transferred(model.group.concepts, model.weights)
        self.state.reused["evaluation"] = self.evaluator.reused

    def _groups(self) -> list[Group]:
        known, joint = self.benchmark.known_prompts(), self.config.finetune.scope == "joint"
        groups = []
        for members in [self.concepts] if joint else [[concept] for concept in self.concepts]:
            name = JOINT if len(members) > 1 else members[0].name
            if self._edits:
                groups.append(Group(name, members, None, self._edit_texts(members)))
                continue
            counts = [self.images.count(concept) for concept in members]
            plan = plan_training(members, counts, self.config.finetune, known, self.config.seed)
            groups.append(Group(name, members, plan))
        return groups

    @property
    def _edits(self) -> bool:
        """Whether weights are edited in closed form: no images, no training."""
        return self.config.finetune.strategy == EDIT

    def _edit_texts(self, concepts: list[Concept]) -> EditTexts:
        if not isinstance(self.evaluator, EmbeddingEvaluator):
            raise UserError("finetune.strategy", f"'{EDIT}' needs a benchmark that classifies by "
                            "embeddings, for the prompts of names", "choose one, such as "
                            "benchmark=folders, or another strategy")
        task = self.evaluator.task
        target = EDIT_TARGETS[self.config.finetune.edit.target]
        names, targets = ([task.target_prompts(concept, phase) for concept in concepts]
                          for phase in (Phase.baseline, target))
        return EditTexts(names, targets, task.known_prompts)

    def _training_images(self) -> TrainingImages:
        """Return the training images, or features at the cut that `inversion.layers` names."""
        config = self.config
        images = TrainingImages(self.model, self.fingerprint, config.finetune, config.inversion,
                                config.seed)
        if config.inversion.layers == "all" or self._edits:
            return images
        top = split(self.model, config.inversion.layers)
        known = self.evaluator.task.known_images \
            if isinstance(self.evaluator, EmbeddingEvaluator) else None
        prompts = [prompts[0] for prompts in self.benchmark.known_prompts()]
        sources = StatisticsSources(top, images, known, prompts, self.benchmark, self.store,
                                    self.progress)
        return TrainingFeatures(**vars(images), top=top, statistics=sources.find())

    def _check_is_supported(self) -> None:
        if not isinstance(self.model, DualEncoder | PairMatcher):
            raise UserError("model._target_", f"{type(self.model).__name__} is neither a "
                            "DualEncoder nor a PairMatcher",
                            "give it the methods of kt_exp.models.protocol")

    def _check_model(self) -> None:
        """Check that the model supports the objective, the strategy and the inversion."""
        learner, config = self.images.learner, self.config
        if self._edits:
            last_map(self.model)
            return
        check_objective(learner, config.finetune)
        trained_parameters(learner, config.finetune.strategy)
        if config.finetune.images == "inverted" or config.finetune.rehearsal:
            check_distance(learner, config.inversion.distance)
            if config.inversion.layers == "all" or config.inversion.statistics == "prompts":
                check_image_scorer(self.model, config.inversion)

    def _check_captions(self) -> None:
        captions = [(concept.name, concept.description) for concept in self.concepts]
        captions += [(group.name, caption) for group in self.groups if group.plan
                     for caption in (*group.plan.captions, *group.plan.targets)]
        captions += [(group.name, caption) for group in self.groups if group.edit
                     for prompts in group.edit.targets for caption in prompts]
        check_lengths(captions, self.model.count_tokens, self.model.max_text_tokens,
                      self.config.concepts.on_long_caption)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Add the wall time of the block to `state.seconds`, even if it fails."""
        self._begin(stage)
        start, seconds = time.perf_counter(), self.state.seconds
        try:
            yield
        finally:
            seconds[stage] = round(seconds.get(stage, 0) + time.perf_counter() - start, 3)
