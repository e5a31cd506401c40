"""Renamed and removed names of earlier versions, in configs and on command lines.

A name is a config key (`inversion.speed.packed`), a value of one (`finetune.loss=bank`), an option
of a group (`model=old`) or a command-line option (`--across`).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from kt_exp.errors import UserError

CLASSES = {  # former path of a plug-in's class → current name
    "kt_exp.benchmarks.captioning.CaptioningBenchmark":
        "kt_exp.benchmarks.captioning.benchmark.CaptioningBenchmark",
    "kt_exp.benchmarks.class_set.ClassSetBenchmark":
        "kt_exp.benchmarks.classification.closed_set.ClassSetBenchmark",
    "kt_exp.benchmarks.folders.FolderBenchmark":
        "kt_exp.benchmarks.classification.folders.FolderBenchmark",
    "kt_exp.benchmarks.photos.PhotoBenchmark":
        "kt_exp.benchmarks.classification.photos.PhotoBenchmark",
    "kt_exp.benchmarks.rare_imagenet.RareImageNet":
        "kt_exp.benchmarks.classification.rare_imagenet.RareImageNet",
    "kt_exp.benchmarks.retrieval.RetrievalBenchmark":
        "kt_exp.benchmarks.retrieval.benchmark.RetrievalBenchmark",
    "kt_exp.pictograms.evaluation.PictogramBenchmark":
        "kt_exp.pictograms.benchmark.PictogramBenchmark",
    "kt_exp.report.trackers.NoTracker":
        "kt_exp.runs.trackers.NoTracker",
    "kt_exp.report.trackers.WandbTracker":
        "kt_exp.runs.trackers.WandbTracker",
}
RENAMED = {  # former name → current name
    "finetune.loss=bank": "finetune.loss=class_ce",
    "--across": "--pivot",
    "benchmark.prompts": "benchmark.templates",
    "model.padding=longest": "model.padding=class",
    **{f"{group}._target_={former}": f"{group}._target_={current}"
       for former, current in CLASSES.items() for group in ("benchmark", "tracker")},
}
REMOVED = {  # former name → why, and what to do instead
    "inversion.speed.packed": "it gained little, and on few CPUs; leave it out",
}
# Key that earlier versions lacked → the value under which a run is what it was then.
ADDED: dict[str, Any] = {
    "objective": {"metric": "target_at_2", "split": "target", "phase": "transferred"},
    "concepts.exchange": "none",
    "inversion.model": None,
    "inversion.layers": "all",
    "inversion.feature_prior": "mahalanobis",
    "inversion.feature_weight": 0.1,
    "inversion.statistics": "known",
    "inversion.statistics_path": None,
    "finetune.start": "pretrained",
    "finetune.article": "fitted",
    "finetune.distillation_over": "sum",
    "finetune.encode_captions": "once",
    "finetune.images_as": "tensor",
    "finetune.edit": {"target": "description", "strength": 1.0, "ridge": 0.001},
    "finetune.edit.budget": 0.005,
    "finetune.edit.least": 1.0,
    "finetune.edit.most": 2.0,
    "finetune.edit.others": None,
    "finetune.edit.others_weight": 0.1,
    "finetune.edit.protected": [],
    "finetune.calibration": "none",
    "finetune.budget": 0.01,
    "finetune.lora": {"rank": 0, "alpha": 16.0, "targets": ["*"]},
    "finetune.null_space": 0.0,
    "finetune.interpolation": 1.0,
}


ADDED_TO: dict[str, dict[str, Any]] = {  # class of a plug-in → the same for its own keys
    "kt_exp.pictograms.benchmark.PictogramBenchmark": {"calibration_per_known_class": 20},
    "kt_exp.benchmarks.classification.photos.PhotoBenchmark": {"calibration_csv": None},
    **{f"kt_exp.benchmarks.classification.{name}": {"calibration_root": None} for name in (
        "folders.FolderBenchmark", "closed_set.ClassSetBenchmark")},
    "kt_exp.benchmarks.classification.rare_imagenet.RareImageNet":
        {"calibration_root": None, "names": "openai", "names_file": None},
    "kt_exp.models.medclip.MedClip": {"resize": "bicubic"},
    "kt_exp.models.vilt.ViLT": {"rank_by": "log_odds"},
}


def former_name(name: str) -> UserError | None:
    """Return the error for a renamed or removed name; None for any other."""
    if name in RENAMED:
        return UserError(name, "was renamed", f"write {RENAMED[name]}")
    if name in REMOVED:
        return UserError(name, "was removed", REMOVED[name])
    return None


def with_current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of an earlier run with current keys and values, without removed keys."""
    updated = deepcopy(dict(config))
    for former, current in RENAMED.items():
        path, _, value = former.partition("=")
        section, key = _section(updated, path), path.rpartition(".")[2]
        if value and section.get(key) == value:
            section[key] = current.partition("=")[2]
        elif not value and key in section:
            _section(updated, current)[current.rpartition(".")[2]] = section.pop(key)
    for path in REMOVED:
        _section(updated, path).pop(path.rpartition(".")[2], None)
    for path, default in ADDED.items():
        if section := _section(updated, path):
            section.setdefault(path.rpartition(".")[2], deepcopy(default))
    plugins = [*updated.values(), _section(updated, "inversion.model.")]
    for section in filter(lambda value: isinstance(value, dict), plugins):
        for key, value in ADDED_TO.get(str(section.get("_target_", "")), {}).items():
            section.setdefault(key, deepcopy(value))
    return updated


def _section(config: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the section that holds the last key of `path`; an empty one if there is none."""
    for name in path.split(".")[:-1]:
        inner = config.get(name)
        config = inner if isinstance(inner, dict) else {}
    return config
