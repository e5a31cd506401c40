"""Retrieval on the command line: concepts taught together, before and after."""

from __future__ import annotations

from pathlib import Path

import pytest

from kt_exp.results.outcome import JOINT

pytestmark = pytest.mark.slow

COCO = Path(__file__).parents[1] / "data" / "coco"
RETRIEVAL = ["benchmark=mscoco", f"benchmark.captions={COCO / 'dataset_coco.json'}",
             f"benchmark.image_root={COCO}", "benchmark.workers=0", "benchmark.ks=[1,3]",
             "concepts=mscoco", "concepts.only=[dog,bench]"]
TAUGHT = ["inversion=fast", "inversion.steps=2", "inversion.upsize_at=[1]", "inversion.images=2",
          "finetune=pictograms",
          "finetune.scope=joint", "finetune.loss=ntxent", "finetune.rehearsal=0"]


def test_a_run_measures_recall_before_and_after(kt_exp):
    ended = kt_exp(*RETRIEVAL, *TAUGHT)
    assert ended.code == 0, ended.stderr
    rows = {(row.phase, row.metric): row for row in ended.record.metrics}
    assert {row.concept for row in rows.values()} == {JOINT}
    for phase in ("baseline", "transferred"):
        for metric, queries in (("text_R@1", 6), ("text_R@3", 6), ("image_R@1", 30),
                                ("image_R@3", 30)):
            row = rows[phase, metric]
            assert row.total == queries
            assert row.value == row.count / queries
    assert len(rows) == 8
    again = kt_exp(*RETRIEVAL, *TAUGHT)
    assert again.record.reused == {"inversion": 2, "finetune": 1, "evaluation": 2}
    assert again.record.metrics == ended.record.metrics


def test_bad_input_is_one_line_before_anything_costly(kt_exp):
    for changed, said in (
        ("benchmark.split=dev", "no split 'dev'; known: all, restval, test, val"),
        ("benchmark.image_root=.", "6 of 6 images are not in ."),
        ("finetune.loss=class_ce", "finetune.loss: 'class_ce' needs known classes"),
        ("benchmark.captions=none.json", "benchmark.captions: no such file: none.json"),
    ):
        ended = kt_exp(*RETRIEVAL, *TAUGHT, changed)
        assert ended.code == 2
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr
        assert not (ended.folder / "images").exists()
