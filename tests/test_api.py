"""kt_exp from Python: the same config, checks and folder as on the command line."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import kt_exp

QUICK = ["concepts.only=[madras]", "inversion.steps=2", "inversion.upsize_at=[1]",
         "inversion.images=2", "finetune.rehearsal=0", "benchmark.images_per_known_class=1",
         "benchmark.images_per_target=2", "benchmark.invented_names=0"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KT_EXP_STORE", raising=False)
    return tmp_path


def test_a_run_leaves_the_folder_of_the_command_line_and_returns_its_record(home) -> None:
    record = kt_exp.run(QUICK, folder="a run")
    assert record.status == "completed"
    assert kt_exp.read_run("a run") == record
    assert {"result.json", "report.html", "images", ".hydra"} <= {p.name for p in
                                                                  (home / "a run").iterdir()}
    before = record.metric("baseline", "madras", "target")
    assert before is not None
    assert before.total == 2
    assert kt_exp.run(QUICK, folder="a run") == record  # completed: not run again


def test_nothing_is_left_behind() -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    kt_exp.compose(["seed=3"])
    kt_exp.run(QUICK)
    assert (list(root.handlers), root.level) == (handlers, level)
    assert not GlobalHydra.instance().is_initialized()
    assert not HydraConfig.initialized()


def test_two_calls_do_not_meet() -> None:
    first = kt_exp.compose(["seed=1", "finetune.lr=1e-3"])
    second = kt_exp.compose(["inversion=paper"])
    assert (first.seed, second.seed) == (1, 0)
    assert first.inversion.steps != second.inversion.steps == 5000


@pytest.mark.parametrize(("overrides", "message"), [
    (["seed=-1"], "seed"), (["finetune.leraning_rate=1"], "finetune.leraning_rate"),
    (["model=clipp"], "clipp"), (["concepts.only=[nothing]"], "concepts.only"),
])
def test_bad_input_raises_one_line(overrides, message, home) -> None:
    with pytest.raises(kt_exp.UserError, match=message) as caught:
        kt_exp.run(overrides, folder="bad")
    assert "\n" not in str(caught.value)


def test_a_failed_run_leaves_its_record_and_may_be_repeated(home) -> None:
    with pytest.raises(kt_exp.UserError):
        kt_exp.run([*QUICK, "concepts.only=[nothing]"], folder="run")
    assert kt_exp.read_run("run").status == "failed"
    assert kt_exp.run(QUICK, folder="run").status == "completed"


def test_a_model_is_loaded_as_the_config_says() -> None:
    model = kt_exp.load_model(kt_exp.compose())
    assert model.image_size == 64
    assert not model.module.training


def test_runs_become_a_table(home) -> None:
    for seed in (0, 1):
        kt_exp.run([*QUICK, f"seed={seed}"], folder=f"sweep/{seed}")
    table = kt_exp.read_runs("sweep")
    after = table[(table.phase == "transferred") & (table.split == "target")]
    assert sorted(after.seed.unique()) == [0, 1]
    assert set(after["inversion.steps"]) == {2}
    assert after.value.between(0, 1).all()


def test_the_names_are_complete_and_cheap_to_import() -> None:
    assert set(kt_exp.__all__) <= set(dir(kt_exp))
    assert all(getattr(kt_exp, name) for name in kt_exp.__all__)
    code = "import sys, kt_exp; kt_exp.UserError; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cli_and_python_compose_the_same(home) -> None:
    shown = subprocess.run([sys.executable, "-m", "kt_exp.run", "seed=5", "--cfg", "job"],
                           capture_output=True, text=True, check=True).stdout
    assert "seed: 5" in shown
    record = kt_exp.run([*QUICK, "seed=5"], folder="run")
    assert json.loads(Path("run/result.json").read_text())["config"] == record.config
    assert record.config["seed"] == 5
