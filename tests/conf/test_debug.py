"""`debug=smoke`: three steps and two images, whatever the model and the benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.configs import composed

from kt_exp.schema import conf_folder

CONF = Path(conf_folder())
BENCHMARKS = sorted(path.stem for path in (CONF / "benchmark").glob("*.yaml"))
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
SEGMENTED = sorted(path.stem for path in (CONF / "experiment").glob("tab4_*.yaml"))
LIMITS = ("images", "images_per_known_class", "images_per_target")


@pytest.mark.parametrize("model", MODELS)
def test_any_model_takes_three_steps_on_two_images(model) -> None:
    config = composed(f"model={model}", "debug=smoke")
    assert (config.inversion.steps, config.inversion.images) == (3, 2)
    assert (config.finetune.epochs, config.finetune.rehearsal) == (1, 0)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_benchmark_that_can_reads_few_images(benchmark) -> None:
    config = composed(f"benchmark={benchmark}", "debug=smoke").benchmark
    limits = [config[key] for key in LIMITS if key in config]
    assert all(0 < limit <= 4 for limit in limits)
    assert bool(limits) == (benchmark not in ("flickr30k", "mscoco", "mscoco_captioning"))


def test_it_holds_in_experiments_and_yields_to_the_command_line() -> None:
    config = composed("experiment=tab1_pictograms", "debug=smoke", "inversion.steps=7")
    assert (config.inversion.steps, config.benchmark.images_per_target) == (7, 2)
    assert composed().inversion.steps > 3


@pytest.mark.parametrize("experiment", SEGMENTED)
def test_images_are_left_to_evaluate_where_some_are_tuned_on(experiment) -> None:
    config = composed(f"experiment={experiment}", "debug=smoke").benchmark
    assert config.images > config.tune_on > 0
