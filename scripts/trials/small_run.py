"""A small run of kt-exp in a forked process, which may be made to die or to run out of space."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

OVERRIDES = [
    "model=pictoclip", "concepts=pictograms", "concepts.only=[gyroscope]", "benchmark=pictograms",
    "benchmark.images_per_known_class=1", "benchmark.images_per_target=2", "inversion=fast",
    "inversion.steps=4", "inversion.images=2", "inversion.sizes=[]", "inversion.upsize_at=[]",
    "inversion.checkpoint_seconds=1e-6", "finetune=pictograms", "finetune.epochs=1",
    "finetune.batch_size=2", "finetune.rehearsal=0", "finetune.save_models=false", "device=cpu",
]
KILLED = -signal.SIGKILL
_LIMIT_SECONDS = 300.0


@dataclass
class Tally:
    """What a kind of trial found: `problems` has a line for each trial that went wrong."""

    name: str
    trials: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, or minus the signal that killed it, and what it said."""

    code: int
    output: str

    def problem(self, allowed: set[int]) -> str | None:
        """Return what is wrong with such an end, or None."""
        if "Traceback" in self.output:
            return f"a traceback: {self.output.strip().splitlines()[-1]}"
        if self.code not in allowed:
            return f"exit code {self.code}: {self.output.strip()[-300:]}"
        if self.code == 2 and self.output.count("kt-exp: error:") != 1:
            return f"no single line of error: {self.output.strip()[-300:]}"
        return None


def run_small(home: Path, *overrides: str, store: Path | None = None, folder: Path | None = None,
              before: Callable[[], object] = lambda: None, kill_after: float = 0) -> Ended:
    """Run the small job below `home`; return how it ended.

    Args:
        store: default: `home/store`.
        folder: the run folder; default: `home/run`.
        before: called in the new process before the run.
        kill_after: seconds until the process is killed; 0: it is not, if it ends in five minutes.
    """
    _import_all()
    home.mkdir(parents=True, exist_ok=True)
    arguments = [*OVERRIDES, f"store.root={store or home / 'store'}",
                 f"hydra.run.dir={folder or home / 'run'}", *overrides]
    said = home / "output.txt"
    pid = os.fork()
    if pid == 0:
        _become(home, said, arguments, before)
    return Ended(_wait(pid, kill_after), said.read_text(encoding="utf-8", errors="replace"))


def outcome_of(folder: Path) -> str:
    """Return a hash of what a completed run found: its metrics and its inverted images."""
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(json.dumps(record["metrics"]).encode())
    for path in sorted(folder.glob("images/*/images.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def incomplete(folder: Path) -> str | None:
    """Return what a run that calls itself completed lacks, or None."""
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    absent = [path for path in record["files"].values() if not (folder / path).exists()]
    if record["status"] != "completed":
        return f"exit code 0, but {record['status']}"
    return f"completed without {', '.join(absent)}" if absent else None


def left_behind(home: Path) -> list[str]:
    """Return the locks, drafts and damaged entries below `home`."""
    return [str(path.relative_to(home)) for pattern in ("*.lease", "*.draft", "damaged/*")
            for path in home.rglob(pattern)]


def _import_all() -> None:
    """Import what a run needs, once for all processes that are forked: it takes longer than a run.
    """
    for name in ("kt_exp.cli", "kt_exp.runs.job", "kt_exp.pictograms.weights",
                 "kt_exp.pictograms.benchmark", "kt_exp.report.plots", "kt_exp.runs.trackers",
                 "hydra.main", "hydra._internal.core_plugins.basic_sweeper"):
        import_module(name)


def _become(home: Path, said: Path, arguments: list[str], before: Callable[[], object]) -> None:
    """Turn this process into `kt-exp`; does not return."""
    code = 1
    try:
        output = os.open(said, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o666)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        os.chdir(home)
        sys.argv = ["kt-exp", *arguments]
        from hydra.core.global_hydra import GlobalHydra

        from kt_exp import progress
        from kt_exp.cli import main

        GlobalHydra.instance().clear()
        progress._console._file = sys.stderr
        before()
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _wait(pid: int, kill_after: float) -> int:
    end = time.monotonic() + (kill_after or _LIMIT_SECONDS)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return code if kill_after else signal.SIGALRM * -1
        time.sleep(0.005)
