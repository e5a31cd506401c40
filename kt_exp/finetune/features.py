"""Training on features at a cut of the image encoder, in place of images (supplementary Eq. 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kt_exp.concepts import Concept
from kt_exp.finetune.images import TrainingImages
from kt_exp.inversion.feature_stage import (
    KIND,
    feature_signature,
    invert_features,
    starting_features,
)
from kt_exp.inversion.invert import Task
from kt_exp.inversion.settings import InversionSettings
from kt_exp.inversion.statistics import FeatureStatistics
from kt_exp.models.protocol import Model
from kt_exp.models.split import TopEncoder
from kt_exp.progress import Progress
from kt_exp.store import Entry, Store, signature

_CHUNK = 64


@dataclass(frozen=True)
class Statistics:
    """Statistics of natural images' features that are measured when first needed.

    Attributes:
        key: a hash of all that can change them.
    """

    key: str
    measured: Callable[[], FeatureStatistics]


@dataclass(frozen=True)
class TrainingFeatures(TrainingImages):
    """The training features of a run: of inverted features, of noise, or of images in a folder.

    `load` and `rehearsal` return features at the cut of `top`; what learns from them is `top`.
    """

    top: TopEncoder
    statistics: Statistics

    @property
    def learner(self) -> Model:
        return self.top

    @property
    def kind(self) -> str:
        return KIND

    def key(self, concept: Concept) -> str:
        return signature([self.inversion.layers, super().key(concept)])

    def load(self, concepts: Sequence[Concept], inverted: Mapping[str, Entry]) -> Tensor:
        loaded = super().load(concepts, inverted)
        if self.finetune.images != "folder":
            return loaded
        return torch.cat([self.top.features_of(chunk) for chunk in loaded.split(_CHUNK)])

    def _inverted(self, captions: dict[str, str], settings: InversionSettings, store: Store,
                  progress: Progress, names: Mapping[str, str] | None = None) -> dict[str, Entry]:
        return invert_features(self.top, captions, settings, self.seed, self.statistics.measured,
                               store, progress, names)

    def _inputs(self, entry: Entry, images_as: str = "tensor") -> Tensor:
        return entry.tensors["features"].to(self.top.device)

    def _noise(self, concepts: Sequence[Concept]) -> Tensor:
        tasks = [Task(concept.description, index) for concept in concepts
                 for index in range(self.inversion.images)]
        return starting_features(tasks, self.inversion, self.statistics.measured(), self.seed,
                                 self.top.device)

    def _inversion_key(self, caption: str, settings: InversionSettings) -> str:
        return feature_signature(self.fingerprint, self.model.device, caption, settings, self.seed,
                                 self.statistics.key)
