from __future__ import annotations

import pytest
from PIL import Image

from kt_exp.report.record import Metric, RunRecord

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
def pictures() -> dict[str, list[Image.Image]]:
    return {name: [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
            for name in COUNTS}


def _metric(phase, concept, split, count, total) -> Metric:
    return Metric(phase=phase, concept=concept, split=split, metric="accuracy",
                  value=count / total, count=count, total=total)
