"""kt_exp from Python leaves the caller's Hydra, logging and threads alone."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fixtures.configs import QUICK_RUN as QUICK
from hydra import version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import kt_exp

pytestmark = pytest.mark.slow

STOPPING_TRACKER = """
from dataclasses import dataclass

from kt_exp.runs.trackers import NoTracker

ERRORS = {kind.__name__: kind for kind in (KeyboardInterrupt, RuntimeError, SystemExit)}

@dataclass
class Stops(NoTracker):
    error: str

    def start(self, record, folder, sweep):
        raise ERRORS[self.error]("stopped")
"""

APP = """
import logging
import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
import kt_exp

@hydra.main(version_base="1.2", config_path=None)
def app(cfg):
    own, settings = GlobalHydra.instance().hydra, HydraConfig.get()
    kt_exp.compose(["seed=3"])
    record = kt_exp.run(OVERRIDES, folder="result")
    assert GlobalHydra.instance().hydra is own
    assert HydraConfig.get() is settings
    assert OmegaConf.create({"name": "${hydra:job.name}"}).name == "app"
    logging.getLogger("app").info("still here: %s", record.status)

app()
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KT_EXP_STORE", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a completed run: the same call returns its record at once."""
    folder = tmp_path_factory.mktemp("done")
    kt_exp.run([*QUICK, f"store.root={folder}/store"], folder=folder / "run")
    return folder / "run"


def state() -> tuple[object, ...]:
    """What a call may not change, the objects themselves included."""
    root = logging.getLogger()
    resolvers = [OmegaConf.has_resolver(name) for name in ("hydra", "now", "python_version")]
    return (GlobalHydra.instance(), GlobalHydra.instance().hydra, HydraConfig.instance(),
            HydraConfig.instance().cfg, version.getbase(), resolvers, list(root.handlers),
            root.level)


def test_nothing_is_left_behind(done) -> None:
    before = state()
    kt_exp.compose(["seed=3"])
    kt_exp.run(QUICK, folder=done)
    with pytest.raises(kt_exp.UserError):
        kt_exp.compose(["seed=x"])
    with pytest.raises(kt_exp.UserError):
        kt_exp.run(["seed=-1"], folder="bad")
    with pytest.raises(kt_exp.UserError):
        kt_exp.run(["no such override"], folder="bad")
    assert state() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_nothing_is_left_behind_by_what_ends_a_run(error, home, monkeypatch) -> None:
    (home / "stopping_tracker.py").write_text(STOPPING_TRACKER)
    monkeypatch.syspath_prepend(home)
    before = state()
    with pytest.raises(error, match="stopped"):
        kt_exp.run([*QUICK, "tracker._target_=stopping_tracker.Stops",
                    f"+tracker.error={error.__name__}"], folder="run")
    assert state() == before
    ended = kt_exp.read_run("run").status
    assert ended == ("failed" if error is RuntimeError else "interrupted")


def test_log_files_of_the_caller_stay_open(home, done) -> None:
    own = logging.FileHandler("own.log", mode="w")  # closed once, such a handler writes no more
    log = logging.getLogger("own")
    log.addHandler(own)
    try:
        log.warning("before")
        kt_exp.run(QUICK, folder=done)
        log.warning("after")
    finally:
        log.removeHandler(own)
        own.close()
    assert (home / "own.log").read_text() == "before\nafter\n"
    assert f"Results: {done}" in (done / "kt_exp.log").read_text()


def test_a_hydra_app_may_call_it(home) -> None:
    (home / "app.py").write_text(APP.replace("OVERRIDES", repr(QUICK)))
    ended = subprocess.run([sys.executable, "app.py", "hydra.run.dir=app"], text=True,
                           capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "still here: completed" in (home / "app" / "app.log").read_text()
    assert kt_exp.read_run("result").status == "completed"


def test_it_works_inside_a_running_event_loop(done) -> None:
    async def cell() -> kt_exp.RunRecord:
        return kt_exp.run(QUICK, folder=done)

    assert asyncio.run(cell()).status == "completed"


def test_threads_take_turns(done) -> None:
    before = state()
    with ThreadPoolExecutor(4) as pool:
        configs = list(pool.map(lambda seed: kt_exp.compose([f"seed={seed}"]), range(8)))
        records = list(pool.map(lambda _: kt_exp.run(QUICK, folder=done), range(4)))
    assert [config.seed for config in configs] == list(range(8))
    assert {record.status for record in records} == {"completed"}
    assert state() == before


def test_command_line_and_python_share_the_store(home) -> None:
    subprocess.run([sys.executable, "-m", "kt_exp.run", *QUICK], check=True, capture_output=True)
    record = kt_exp.run(QUICK, folder="again")
    assert record.reused["inversion"] == 1
    assert record.reused["finetune"] == 1
