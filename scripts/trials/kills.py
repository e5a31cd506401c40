"""Runs that are killed at a file operation or at a moment, and then repeated."""

from __future__ import annotations

import os
import random
import signal
from functools import partial
from pathlib import Path
from shutil import rmtree

from trials.small_run import KILLED, Tally, incomplete, left_behind, outcome_of, run_small
from trials.undisturbed import Undisturbed, at_operation


def kill_trials(count: int, good: Undisturbed, work: Path, chance: random.Random) -> Tally:
    """Kill `count` runs, every third at a moment, the others just before a file operation.

    Then the same command has to complete with the result of the undisturbed run, and to leave no
    lock, draft or damaged entry.
    """
    tally = Tally("kills")
    for number in range(count):
        home = work / f"kill-{number}"
        if number % 3 == 2:
            moment = chance.uniform(0.05, good.seconds)
            where, ended = f"after {moment:.2f} s", run_small(home, kill_after=moment)
        else:
            operation = chance.randint(1, good.operations)
            where = f"at file operation {operation}"
            ended = run_small(home, before=partial(at_operation, home, operation, _kill))
        tally.trials += 1
        tally.count("killed" if ended.code == KILLED else "ended before")
        if problem := ended.problem({KILLED, 0}) or _repeated(home, good.outcome):
            tally.problems.append(f"killed {where}: {problem}")
        rmtree(home)
    return tally


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _repeated(home: Path, expected: str) -> str | None:
    """Run the command of `home` again; return what is wrong with that, or None."""
    ended = run_small(home)
    if problem := ended.problem({0}) or incomplete(home / "run"):
        return problem
    if outcome_of(home / "run") != expected:
        return "another result than without the kill"
    if left := left_behind(home):
        return f"left behind: {', '.join(left)}"
    return None
