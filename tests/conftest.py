"""What tests of several folders share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fixtures.classified import Classified
    from fixtures.records import Sweeps

pytest_plugins = ["fixtures.images", "fixtures.records"]

# Read when torch is imported. The test processes share the cores, as do those that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run a single file or test in this process; otherwise as many processes as xdist counts."""
    chosen = config.args
    return 0 if len(chosen) == 1 and ".py" in chosen[0] else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that all processes end at about one time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def classified(sweeps: Sweeps) -> Classified:
    from fixtures.classified import Classified  # imported here, as it needs torch

    return Classified(sweeps)


@dataclass
class OfflineRun:
    """A W&B run as its file holds it; `run` has project, group, tags and `config`."""

    run: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


@pytest.fixture
def offline_run() -> Callable[[Path], OfflineRun]:
    """Reads an offline W&B run, given its `.wandb` file, by wandb's own reader."""
    pytest.importorskip("wandb", "0.31", reason="the first to print the records of a file as JSON")
    return _read


def _read(path: Path) -> OfflineRun:
    # The service writes the last records a moment after `finish` returned: follow them to the end.
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", "--follow",
               "--idle-timeout", "20s", str(path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True,
                             env={**os.environ, "WANDB_ERROR_REPORTING": "false"}).stdout
    found = OfflineRun()
    for record in map(json.loads, printed.splitlines()):
        match record:
            case {"type": "run", "run": run}:
                found.run = {**run, "config": run["config"]["update"]}
            case {"type": "history", "history": history}:
                found.history.append(history["item"])
            case {"type": "summary", "summary": summary}:
                found.summary |= summary["update"]
            case {"type": "exit", "exit": ended}:
                found.exit_code = ended.get("exit_code", 0)
    return found
