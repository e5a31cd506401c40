"""kt_exp from Python: the same config, checks and folder as on the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.configs import QUICK_RUN as QUICK
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

import kt_exp
from kt_exp.cli import main
from kt_exp.schema import parse

pytestmark = pytest.mark.slow


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


def test_two_calls_do_not_meet() -> None:
    first = kt_exp.compose(["seed=1", "inversion=fast", "finetune.lr=1e-3"])
    second = kt_exp.compose(["inversion=paper"])
    assert (first.seed, second.seed) == (1, 0)
    assert first.inversion.steps != second.inversion.steps == 5000


@pytest.mark.parametrize(("overrides", "message"), [
    (["seed=-1"], "seed"), (["finetune.leraning_rate=1"], "finetune.leraning_rate"),
    (["model=clipp"], "clipp"), (["concepts.only=[nothing]"], "concepts.only"),
    (["seed=1,2"], "seed: several values.* a loop in Python"),
    (["seed=range(1,3)"], "seed: several values"),
    (["-m", "seed=1,2"], "-m: an option of the command line"),
    (["--cfg=job"], "--cfg=job: an option of the command line"),
    (["hydra.run.dir=out"], "hydra.run.dir: cannot be set from Python; .*`folder`"),
    (["+hydra.mode=MULTIRUN"], "hydra.mode: cannot be set"),
    (["hydra/launcher=slurm_gpu"], "hydra/launcher: cannot be set"),
    ("seed=1", r'overrides: one string .*give \["seed=1"\]'), ([1], "overrides: 1 is not a string"),
])
def test_bad_input_raises_one_line(overrides, message, home) -> None:
    with pytest.raises(kt_exp.UserError, match=message) as caught:
        kt_exp.run(overrides, folder="bad")
    assert "\n" not in str(caught.value)


FOLDERS = ["two words", "it's", 'so "called"', "lr=1,2", "$HOME", "[a]{b}(c)", "-m", "~", "%s #1",
           r"back\slash", r"back\'quote", "at the end\\", "müß", "deep/er"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_may_have_any_name(folder, home) -> None:
    with pytest.raises(kt_exp.UserError, match="seed"):
        kt_exp.run(["seed=-1"], folder=folder)
    assert kt_exp.read_run(home / folder).status == "failed"
    assert (home / folder / "kt_exp.log").exists()


def test_a_folder_that_cannot_be_made_is_named(home) -> None:
    (home / "file").touch()
    with pytest.raises(kt_exp.UserError, match=r"folder: cannot write to '.*file"):
        kt_exp.run(QUICK, folder="file/run")
    with pytest.raises(kt_exp.UserError, match=r"folder: .* starts a reference; name another"):
        kt_exp.run(QUICK, folder="${seed}")


def test_runs_without_a_folder_get_one_each(home) -> None:
    for seed in ("-1", "-2"):
        with pytest.raises(kt_exp.UserError):
            kt_exp.run([f"seed={seed}"])
    assert len(list((home / "outputs").glob("*/*/result.json"))) == 2


def test_options_of_ones_own_are_found(home) -> None:
    (home / "presets" / "inversion").mkdir(parents=True)
    (home / "presets" / "inversion" / "short.yaml").write_text("defaults: [fast]\nsteps: 70\n")
    own = [f"hydra.searchpath=[file://{home}/presets]", "inversion=short"]
    assert kt_exp.compose(own).inversion.steps == 70


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


PRESETS = [
    [], ["seed=5", "precision=bf16"], ["control=nameless", "tracker=wandb"],
    ["inversion=paper", "finetune=paper", "model=clip_vit_b32"],
    ["experiment=main2_pictograms"], ["experiment=tab2_pictograms", "concepts.only=[madras]"],
]


@pytest.mark.parametrize("overrides", PRESETS, ids=" ".join)
def test_cli_and_python_compose_the_same(overrides, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["kt-exp", *overrides, "--cfg", "job"])
    with pytest.raises(SystemExit):
        main()
    printed = OmegaConf.create(capsys.readouterr().out)
    GlobalHydra.instance().clear()
    assert isinstance(printed, DictConfig)
    assert parse(printed) == kt_exp.compose(overrides)
