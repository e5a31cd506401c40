"""Known classes that share a name, as ImageNet's two missiles and two pairs of sunglasses."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_classes_of_one_name_are_rehearsed_by_the_same_images(kt_exp, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "plugins"))
    ended = kt_exp(
        "inversion=fast", "finetune=pictograms", "concepts.only=[gyroscope]",
        "benchmark._target_=shared_names.SharedNames", "benchmark.images_per_known_class=1",
        "benchmark.images_per_target=2", "benchmark.invented_names=0", "inversion.steps=1",
        "inversion.sizes=[]", "inversion.upsize_at=[]", "inversion.images=2", "finetune.epochs=1",
        "finetune.rehearsal_batch=1000")
    assert ended.code == 0, ended.stderr
    assert ended.record.status == "completed"
