"""The three stages with segmentation as the task, from a composed config."""

from __future__ import annotations

import pytest

from kt_exp import compose
from kt_exp.pipeline import Experiment


@pytest.fixture
def config(pairs, tiny_sam, tmp_path):
    return compose([
        "benchmark=brats", f"benchmark.root={pairs}", f"benchmark.sam={tiny_sam}",
        "benchmark.prompt='a photo of a {}'", "benchmark.m2ib.layer=2",
        "benchmark.m2ib.steps=2", "benchmark.m2ib.draws=2",
        "concepts=segmentation", "concepts.only=[brain tumor]",
        "concepts.on_long_caption=truncate", "inversion=fast", "inversion.steps=2",
        "inversion.upsize_at=[1]",
        "inversion.images=2",
        "finetune=authors", "finetune.lr=0.01", "finetune.batch_size=2",
        f"store.root={tmp_path / 'store'}",
    ])


def run(config, silent) -> Experiment:
    experiment = Experiment(config, silent)
    assert list(experiment.run()) == ["evaluation", "inversion", "finetune"]
    return experiment


def test_a_model_is_taught_and_segments_before_and_after(config, silent, tmp_path):
    experiment = run(config, silent)
    before, after = experiment.state.outcomes
    assert [row.metric for row in before.metrics] == ["DSC", "NSD", "IoU"]
    assert {row.phase for row in before.metrics} == {"baseline"}
    assert {row.phase for row in after.metrics} == {"transferred"}
    assert [score.value for score in before.per_image] != [s.value for s in after.per_image]
    assert len(experiment.evaluator.panels(experiment.state.outcomes, tmp_path)) == 2

    again = run(config, silent)
    assert again.state.outcomes == experiment.state.outcomes
    assert again.state.reused["evaluation"] == 2
