"""Caches shared by the jobs of one process, so that a sweep loads and embeds nothing twice."""

from __future__ import annotations

from dataclasses import dataclass, field

from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.models.factory import ModelCache


@dataclass
class Caches:
    """The models loaded last, and the features that fine-tuning computed with the one taught.

    `inverted_models` has the model of `inversion.model`, where that is another one.
    """

    models: ModelCache = field(default_factory=ModelCache)
    inverted_models: ModelCache = field(default_factory=ModelCache)
    features: FeatureCache = field(default_factory=FeatureCache)

    def clear_models(self) -> None:
        """Forget the models: a failed job may have left them in any state."""
        self.models.clear()
        self.inverted_models.clear()
