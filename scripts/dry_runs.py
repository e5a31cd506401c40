"""Run the first job of each of the paper's experiments at full size, with random weights.

    python scripts/dry_runs.py
    python scripts/dry_runs.py --only tab1_clip tab5 --keep runs

The architectures and their sizes are the real ones, the images are a handful, made in each data
set's layout; inversion takes three steps. The command is the one in the experiment's header, so a
config that cannot run is found here. Exit code 1 if one could not. The figures that a run measures
mean nothing; nothing is downloaded. Takes about 10 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

from full_size import sweeps
from full_size.dry_run import STEPS, DryRun, dry_run
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from kt_exp.progress import duration

TABLE_WIDTH = 120


def table(runs: Sequence[DryRun]) -> Table:
    """Return a row for each run: seconds of its stages, and its peak memory."""
    drawn = Table("experiment", "model", "ended", "evaluation", "inversion", "a step of an image",
                  "fine-tuning", "all", "CPU time", "peak memory")
    for run in runs:
        inversion = run.stages.get("inversion", 0)
        step = f"{inversion / run.image_steps:.2f} s" if run.image_steps else "–"
        drawn.add_row(run.experiment, run.model, "well" if run.good else "FAILED",
                      *(_seconds(run, stage) for stage in ("evaluation", "inversion")), step,
                      _seconds(run, "finetune"), f"{run.seconds:.0f} s",
                      f"{run.cpu_seconds:.0f} s", f"{run.peak / 2**30:.1f} GiB")
    return drawn


def _seconds(run: DryRun, stage: str) -> str:
    return f"{run.stages[stage]:.1f} s" if stage in run.stages else "–"


def main(arguments: Sequence[str] | None = None) -> int:
    experiments = sweeps.of_the_paper()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=experiments, default=experiments,
                        metavar="EXPERIMENT", help=f"some of: {', '.join(experiments)}")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each run")
    parser.add_argument("--keep", type=Path, metavar="FOLDER",
                        help="a new folder to keep weights, images and runs in")
    options = parser.parse_args(arguments)
    if options.keep and options.keep.exists():
        parser.error(f"--keep: {options.keep} is there already")
    disable_progress_bar()  # of the checkpoints' writing
    console = Console(file=sys.stdout, highlight=False, markup=False)
    console.width = max(console.width, TABLE_WIDTH)
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with chdir(folder):
            for number, experiment in enumerate(options.only):
                console.print(f"{number + 1}/{len(options.only)} {experiment} …", soft_wrap=True)
                runs.append(dry_run(experiment, number, options.threads))
                console.print(f"    {runs[-1].line or 'well'} ({duration(runs[-1].seconds)})",
                              soft_wrap=True)
    console.print(table(runs))
    failed = sum(not run.good for run in runs)
    console.print(f"{len(runs)} experiments, {failed} failed; the stage of inversion has {STEPS} "
                  "steps and what comes before and after them")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
