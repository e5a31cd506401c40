from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from kt_exp.report.record import ConceptEntry, Metric, RunRecord, write_record

COUNTS = {  # concept: target before, target after of 20; known before, known after of 200
    "moongate": (0, 18, 198, 195),
    "umbrella": (4, 0, 198, 200),
}


@pytest.fixture
def record() -> RunRecord:
    """A completed run of two concepts: one that gained, one that ended at 0 of 20."""
    record = RunRecord(
        command=["python", "-m", "kt_exp.run", "concepts.only=[moongate, umbrella]"],
        config={"seed": 3, "inversion": {"lr": 0.1, "sizes": [32, 64]}},
        overrides=["concepts.only=[moongate, umbrella]"], seed=3, device="cpu (2 threads)",
        started="2026-03-01T10:00:00+00:00", seconds={"inversion": 61.0},
        reused={"inversion": 2, "finetune": 0}, versions={"python": "3.12.1"},
        files={"report": "report.html"}, warnings=["umbrella: the similarity did not rise"],
    )
    for name, (before, after, known_before, known_after) in COUNTS.items():
        record.concepts.append({
            "name": name, "description": f"what a {name} looks like", "caption": f"A {name}",
            "diagnosis": {"tokens": 9, "token_limit": 32, "cosine": 0.5,
                          "nearest": [["wheel", 0.61]], "warning": None},
        })
        record.metrics += [
            _metric("baseline", name, "target", before, 20),
            _metric("transferred", name, "target", after, 20),
            _metric("baseline", name, "known", known_before, 200),
            _metric("transferred", name, "known", known_after, 200),
            _metric("name_prompt", name, "target", before, 20),
            _metric("description_prompt", name, "target", 5, 20),
        ]
        record.confusions += [
            {"phase": "baseline", "concept": name, "predicted": "dice", "count": 3},
            {"phase": "baseline", "concept": name, "predicted": "wheel", "count": 13},
        ]
    record.curves = {
        "inversion": {"moongate": {"steps": [0, 10, 20], "score": [0.1, 0.6, 0.7],
                                   "distance": "cosine"}},
        "finetune": {"moongate": {"steps": [0, 1], "loss": [3.0, 1.5]}},
    }
    record.close("completed")
    record.finished = "2026-03-01T10:01:14+00:00"
    return record


@pytest.fixture
def retrieval(record) -> RunRecord:
    """The run of two concepts in one model on a task that has no target images."""
    record.metrics = [
        Metric(phase=phase, concept="all concepts", split="all", metric=metric, value=value,
               count=None, total=5000)
        for phase, values in (("baseline", (0.732, 0.55)), ("transferred", (0.745, 0.549)))
        for metric, value in zip(("text_R@1", "image_R@1"), values, strict=True)
    ]
    record.confusions, record.notes = [], ["of 5 captions per image the first were used"]
    for concept in record.concepts:
        concept["diagnosis"] |= {"cosine": None, "nearest": []}
    return record


@pytest.fixture
def segmentation(record) -> RunRecord:
    """The run of two concepts, each with a model of its own, scored by the masks it finds."""
    values = {"moongate": {"DSC": (0.132, 0.187), "NSD": (0.03, 0.05)},
              "umbrella": {"DSC": (0.42, 0.4), "NSD": (0.1, 0.1)}}
    record.metrics = [
        Metric(phase=phase, concept=name, split="target", metric=metric, value=value, count=None,
               total=164)
        for name, metrics in values.items() for metric, pair in metrics.items()
        for phase, value in zip(("baseline", "transferred"), pair, strict=True)
    ]
    record.confusions, record.notes = [], ["nsd: surface2d, tolerance 2 px"]
    return record


@pytest.fixture
def pictures() -> dict[str, list[Image.Image]]:
    return {name: [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
            for name in COUNTS}


def _metric(phase, concept, split, count, total) -> Metric:
    return Metric(phase=phase, concept=concept, split=split, metric="accuracy",
                  value=count / total, count=count, total=total)


class Sweeps:
    """Sweeps on disk as runs leave them, made without running any."""

    # What the paper's Tab. 1 prints for CLIP ViT-B/32 and the moongate, by learning rate: target
    # and known accuracy, each before and after.
    MOONGATE: Mapping[float, tuple[float, ...]] = {1e-5: (0, 10, 58.10, 57.78),
                                                   2e-5: (0, 60, 58.10, 56.43)}

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def config(**changes: Any) -> dict[str, Any]:
        """A resolved config; changes are `section__key=value`."""
        config: dict[str, Any] = {
            "model": {"_target_": "kt_exp.models.clip.OpenClip", "name": "ViT-B-32-quickgelu"},
            "concepts": {"name": "rare", "only": [], "items": [
                {"name": name, "description": "…"} for name in ("moongate", "tonometer")]},
            "inversion": {"steps": 5000, "tv_weight": 0.005, "affine": {"probability": 0.5}},
            "finetune": {"strategy": "visual", "scope": "each", "images": "inverted",
                         "captions": "named", "loss": "ntxent", "lr": 2e-5, "batch_size": 4},
            "store": {"root": "outputs/store"}, "seed": 0,
        }
        for path, value in changes.items():
            *sections, key = path.split("__")
            section = config
            for name in sections:
                section = section[name]
            section[key] = value
        return config

    def run(self, name: str, accuracies: Mapping[str, Sequence[float]], *overrides: str,
            **changes: Any) -> Path:
        """A completed run that measured `accuracies`: percent as in `MOONGATE`, by concept."""
        config = self.config(**{"concepts__only": list(accuracies), **changes})
        record = RunRecord(command=["kt-exp", *overrides], config=config, seed=config["seed"],
                           overrides=list(overrides))
        for concept, values in accuracies.items():
            record.concepts.append(ConceptEntry(name=concept, description="…", caption="…",
                                                diagnosis=None))
            kinds = [(phase, split) for split in ("target", "known")
                     for phase in ("baseline", "transferred")]
            record.metrics += [
                Metric(phase=phase, concept=concept, split=split, metric="accuracy",
                       value=value / 100, count=None, total=10)
                for (phase, split), value in zip(kinds, values, strict=True)]
        record.close("completed")
        return self.save(name, record)

    def failed(self, name: str, message: str, *overrides: str, **changes: Any) -> Path:
        record = RunRecord(command=["kt-exp"], config=self.config(**changes),
                           overrides=list(overrides))
        record.close("failed", RuntimeError(message))
        return self.save(name, record)

    def save(self, name: str, record: RunRecord) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        write_record(record, folder)
        return folder

    def multirun(self, name: str, *overrides: str, subdir: str = "${hydra.job.num}",
                 **params: str) -> Path:
        """The multirun.yaml that Hydra's basic sweeper leaves for `overrides`."""
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        content = {"hydra": {
            "sweep": {"dir": str(folder), "subdir": subdir},
            "sweeper": {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
                        "max_batch_size": None, "params": params or None},
            "overrides": {"task": list(overrides)},
        }}
        (folder / "multirun.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return folder

    def lr_sweep(self, name: str = "lr") -> Path:
        """Two learning rates of ViT-B/32 that measured what the paper prints for the moongate."""
        for number, (lr, accuracies) in enumerate(self.MOONGATE.items()):
            self.run(f"{name}/{number}", {"moongate": accuracies}, f"finetune.lr={lr}",
                     finetune__lr=lr)
        return self.multirun(name, "finetune.lr=1e-05,2e-05")


@pytest.fixture
def sweeps(tmp_path: Path) -> Sweeps:
    return Sweeps(tmp_path)
