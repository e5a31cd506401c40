"""The closed-form edit of a run: its texts and known items come from the benchmark."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from kt_exp.benchmarks.classification.closed_set_evaluator import ClosedSetTask
from kt_exp.benchmarks.classification.evaluator import EmbeddingEvaluator
from kt_exp.benchmarks.protocol import Evaluator
from kt_exp.concepts import Concept, name_key
from kt_exp.data.class_lists import class_list
from kt_exp.errors import UserError
from kt_exp.finetune.edit_stage import Budget, EditTexts, Prompts, edit, edit_signature
from kt_exp.finetune.settings import BUDGET, EDIT, EditSettings
from kt_exp.finetune.strength import KnownItems
from kt_exp.models.weights import FROZEN
from kt_exp.results.outcome import Phase
from kt_exp.store import Entry, Store

log = logging.getLogger(__name__)

# The texts that a name is to score like (`finetune.edit.target`): the prompts of a phase.
TARGETS = {"description": Phase.description_prompt, "parts": Phase.parts_prompt,
           "name_and_description": Phase.name_and_description}


@dataclass(frozen=True)
class Editor:
    """Edits a model for groups of concepts, with the prompts of a benchmark that classifies."""

    evaluator: EmbeddingEvaluator
    settings: EditSettings

    @classmethod
    def of(cls, evaluator: Evaluator, settings: EditSettings) -> Editor:
        """Return the editor of a run.

        Raises:
            UserError: the benchmark does not classify by embeddings, or `others` is no list.
        """
        if not isinstance(evaluator, EmbeddingEvaluator):
            raise UserError("finetune.strategy", f"'{EDIT}' needs a benchmark that classifies by "
                            "embeddings, for the prompts of names", "choose one, such as "
                            "benchmark=folders, or another strategy")
        return cls(evaluator, settings)

    def texts(self, concepts: Sequence[Concept]) -> EditTexts:
        """Return the texts of the edit that teaches `concepts` to one model.

        Raises:
            UserError: `others` is no list of names.
        """
        task, settings = self.evaluator.task, self.settings
        names, targets = ([task.target_prompts(concept, phase) for concept in concepts]
                          for phase in (Phase.baseline, TARGETS[settings.target]))
        own = {name_key(name) for name in (*settings.protected, *(c.name for c in concepts))}
        others = class_list(settings.others, "finetune.edit.others") if settings.others else []
        known = [task.known_prompts[label] for label in self._known(concepts)]
        return EditTexts(names, targets, known,
                         self._named(name for name in others if name_key(name) not in own),
                         self._named(settings.protected))

    def key(self, concepts: Sequence[Concept], texts: EditTexts) -> str:
        """Return the store key of the weights that teach `concepts` by their `texts`."""
        evaluator = self.evaluator
        return edit_signature(evaluator.fingerprint, evaluator.model.device, texts, self.settings,
                              self._budget(concepts, texts))

    def edit(self, concepts: Sequence[Concept], texts: EditTexts, store: Store,
             ) -> tuple[str, Entry]:
        """Return the weights that teach `concepts` by their `texts`, and their key in the store."""
        evaluator, budget = self.evaluator, self._budget(concepts, texts)
        if budget and evaluator.task.calibration_images is None:
            log.info("finetune.edit.strength=budget: no calibration images; the texts of the known "
                     "classes stand in for them, and allow larger strengths than images would")
        key = self.key(concepts, texts)
        return key, edit(evaluator.model, key, texts, self.settings, store,
                         evaluator.class_embeddings, budget)

    def _budget(self, concepts: Sequence[Concept], texts: EditTexts) -> Budget | None:
        if self.settings.strength != BUDGET:
            return None
        images = self.evaluator.task.calibration_images
        if images is None:
            return Budget(lambda: KnownItems.from_texts(
                self.evaluator.class_embeddings(texts.known)), "texts")

        def items() -> KnownItems:
            found = self.evaluator.calibration_embeddings(FROZEN)
            known = torch.tensor(self._known(concepts))
            is_known, label = (found.labels[:, None] == known).max(dim=1)
            return KnownItems(found.embeddings[is_known], label[is_known],
                              self.evaluator.class_embeddings(texts.known))

        skips = self.evaluator.task.loader.on_bad_image
        return Budget(items, f"{images.fingerprint()} {skips}")

    def _known(self, concepts: Sequence[Concept]) -> list[int]:
        """Return the labels of the known classes; those of a set that are taught are none."""
        task = self.evaluator.task
        taught = [task.class_of(concept) for concept in concepts] \
            if isinstance(task, ClosedSetTask) else []
        return [label for label in range(len(task.known_names)) if label not in taught]

    def _named(self, names: Iterable[str]) -> Prompts:
        """Return the prompts of each name, as the benchmark asks for it."""
        return [self.evaluator.task.target_prompts(Concept(name, name), Phase.baseline)
                for name in names]
