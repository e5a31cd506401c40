"""A classifier trained from scratch on inverted images, in seconds."""

from __future__ import annotations

import from_scratch
import pytest
import torch

pytestmark = pytest.mark.slow


def test_one_seed_gives_one_table(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("KT_EXP_STORE", str(tmp_path))
    small = ["--seeds", "0", "--per-class", "2", "--epochs", "1", "inversion.steps=1",
             "inversion.sizes=[16]", "inversion.upsize_at=[]", "benchmark.images_per_known_class=1"]
    tables = []
    for _ in range(2):
        from_scratch.main(small)
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]
    rows = [line.split(" | ")[0] for line in tables[0].splitlines()[2:]]
    assert rows == ["| real drawings", "| inverted images", "| noise", "| *chance*"]


def test_real_drawings_are_learned_and_noise_is_not() -> None:
    test, labels = from_scratch.drawings(4, seed=0)
    noise = torch.rand(test.shape, generator=torch.Generator().manual_seed(0))
    accuracy = {}
    for source, images in (("real", from_scratch.drawings(4, from_scratch.TRAINING)[0]),
                           ("noise", noise)):
        network = from_scratch.train(images, 8, 0, source)
        accuracy[source] = from_scratch.predict(network, test).eq(labels).float().mean().item()
    assert accuracy["real"] > 0.15 > accuracy["noise"]
