"""Maltreat kt_exp: kill runs, fill disks, damage files, give bad input; print one table.

    python scripts/torture.py
    python scripts/torture.py --kills 100 --flips 100 --disks 40 --inputs 300 --seed 1

Nothing may be lost, wrong without a word, or end in a traceback. Runs are small and each is a
process of its own. Disks are small file systems in memory, which only root may mount; for anybody
else the size of files is limited. Exit code 1 if a trial went wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from trials.damage import damage_trials
from trials.disks import disk_trials
from trials.kills import kill_trials
from trials.small_run import Tally
from trials.undisturbed import undisturbed


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the trials, print what came of them, and return the exit code."""
    options = _parser().parse_args(arguments)
    chance = random.Random(options.seed)
    work = Path(tempfile.mkdtemp(prefix="torture-"))
    start = time.monotonic()
    code = 0
    try:
        for tally in _trials(options, work, chance):
            _show(tally)
            code = 1 if tally.problems else code
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"seed {options.seed}, {time.monotonic() - start:.0f} s")
    return code


def _show(tally: Tally) -> None:
    came = ", ".join(f"{count} {what}" for what, count in sorted(tally.outcomes.items()))
    print(f"{tally.name:<22} {tally.trials:>5} trials ({came}): "
          f"{len(tally.problems)} went wrong")
    for problem in tally.problems:
        print(f"    {problem}")
    sys.stdout.flush()  # A fork would write what is still in the buffer again.


def _trials(options: argparse.Namespace, work: Path, chance: random.Random) -> Iterator[Tally]:
    good = undisturbed(work / "undisturbed")
    mount = os.geteuid() == 0 and not options.no_mount
    yield kill_trials(options.kills, good, work, chance)
    yield damage_trials(options.flips, good, work, chance)
    yield disk_trials(options.disks, good, work, chance, mount)
    if options.inputs:
        from trials.inputs import input_trials  # needs hypothesis

        yield from input_trials(options.inputs, good.home / "run" / "result.json", options.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, metavar="N",
                        help="runs killed at file operations and moments (default: 100)")
    parser.add_argument("--flips", type=int, default=100, metavar="N",
                        help="bits flipped and files cut in a store (default: 100)")
    parser.add_argument("--disks", type=int, default=40, metavar="N",
                        help="stores and run folders without space (default: 40)")
    parser.add_argument("--inputs", type=int, default=300, metavar="N",
                        help="overrides, and as many records (default: 300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-mount", action="store_true",
                        help="limit the size of files, also as root")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
