"""Stores and run folders on disks that are too small."""

from __future__ import annotations

import os
import random
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

from trials.small_run import Tally, incomplete, outcome_of, run_small
from trials.undisturbed import Undisturbed

_LARGEST_KIB = 1500  # The small run needs about this much in its folder, and less in its store.


def disk_trials(count: int, good: Undisturbed, work: Path, chance: random.Random,
                mount: bool) -> Tally:
    """Run `count` times with too little space, in turn for the store and for the run folder.

    The run has to end in one line, or to complete with all its files. With enough space the same
    command has to complete with the result of the undisturbed run.

    Args:
        mount: on file systems of their own in memory, which only root may make; otherwise the
            size of files is limited.
    """
    tally = Tally("full disks" if mount else "limited files")
    for number in range(count):
        home, kib = work / f"disk-{number}", chance.randint(4, _LARGEST_KIB)
        which = "store" if number % 2 else "run"
        problem = _on_a_small_disk(home, which, kib, good.outcome, tally) if mount else \
            _with_a_small_limit(home, kib, good.outcome, tally)
        tally.trials += 1
        if problem:
            tally.problems.append(f"{which} in {kib} KiB: {problem}")
        rmtree(home)
    return tally


def _on_a_small_disk(home: Path, which: str, kib: int, expected: str, tally: Tally) -> str | None:
    place = home / "disk"
    place.mkdir(parents=True)
    paths = {"store": home / "store", "run": home / "run", which: place / which}
    with _tmpfs(place, kib):
        ended = run_small(home, store=paths["store"], folder=paths["run"])
        tally.count(f"exit code {ended.code}")
        problem = ended.problem({0, 2})
        if problem or ended.code == 0:
            return problem or _wrong(paths["run"], expected)
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        ended = run_small(home, store=paths["store"], folder=paths["run"])
        return ended.problem({0}) or _wrong(paths["run"], expected)


def _with_a_small_limit(home: Path, kib: int, expected: str, tally: Tally) -> str | None:
    ended = run_small(home, before=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (kib * 1024, kib * 1024)))
    tally.count(f"exit code {ended.code}")
    if problem := ended.problem({0, 2}):
        return problem
    if ended.code:
        ended = run_small(home)
    return ended.problem({0}) or _wrong(home / "run", expected)


def _wrong(folder: Path, expected: str) -> str | None:
    return incomplete(folder) or (
        None if outcome_of(folder) == expected else "another result than on a large disk")


@contextmanager
def _tmpfs(place: Path, kib: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(place)], check=True)
    try:
        yield
    finally:
        os.sync()
        subprocess.run(["umount", "--lazy", str(place)], check=True)
