"""The command line, called in this process as `kt-exp` would be."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from kt_exp.results.record import RunRecord, read_record


@dataclass
class Ended:
    """How a call ended."""

    code: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def record(self) -> RunRecord:
        return read_record(self.folder)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the user stands; the store is there too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KT_EXP_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.fixture(autouse=True)
def left_alone() -> Iterator[None]:
    """Give back the process's logging and signals, which a run sets up for itself."""
    handlers, level = logging.root.handlers[:], logging.root.level
    handled = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    for number, handler in handled.items():
        signal.signal(number, handler)


@pytest.fixture
def kt_exp(home: Path, monkeypatch: pytest.MonkeyPatch,
           capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ended]]:
    """Call the entrypoint with overrides; its output folder is `home/run`, replaced each time."""
    from kt_exp import progress
    from kt_exp.cli import main

    def call(*arguments: str) -> Ended:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["kt-exp", "hydra.run.dir=run", "on_existing=rerun",
                                         *arguments])
        monkeypatch.setattr(progress._console, "_file", sys.stderr)
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capfd.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err, home / "run")

    yield call
    GlobalHydra.instance().clear()
