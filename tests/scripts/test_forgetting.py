"""`scripts/forgetting.py`: a row for each number of concepts."""

from __future__ import annotations

import forgetting
import pytest

pytestmark = pytest.mark.slow


def test_a_row_for_each_number_of_concepts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KT_EXP_STORE", str(tmp_path / "store"))
    forgetting.main(["--concepts", "1", "3", "--draws", "2", "benchmark.images_per_target=2",
                     "benchmark.images_per_known_class=1", "finetune.edit.strength=1"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[:2] for line in lines[1:]] == [["| 1", "2"], ["| 3", "2"]]
