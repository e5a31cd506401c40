"""Caches shared by the jobs of one process, so that a sweep loads and embeds nothing twice."""

from __future__ import annotations

from dataclasses import dataclass, field

from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.models.factory import ModelCache


@dataclass
class Caches:
    """The model loaded last, and the features that fine-tuning computed with it."""

    models: ModelCache = field(default_factory=ModelCache)
    features: FeatureCache = field(default_factory=FeatureCache)
