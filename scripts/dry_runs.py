"""Run the first job of each of the paper's experiments at full size, with random weights.

    python scripts/dry_runs.py
    python scripts/dry_runs.py --only tab1_clip tab5 --keep runs
    python scripts/dry_runs.py --estimate

The architectures and their sizes are the real ones, the images are a handful, made in each data
set's layout; inversion takes three steps. The command is the one in the experiment's header, so a
config that cannot run is found here. Exit code 1 if one could not. The figures that a run measures
mean nothing; nothing is downloaded. Takes 20 GB of disk.

With --estimate nothing is run: the operations of each model are counted, and those of each whole
sweep added up.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import chdir
from pathlib import Path

from full_size import sweeps
from full_size.dry_run import STEPS, DryRun, dry_run
from full_size.estimate import PEAKS, SHARE, Cost, cost_of
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from kt_exp.progress import duration, progress

TABLE_WIDTH = 150


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


def cost_table(costs: dict[str, Cost]) -> Table:
    """Return a row for each sweep: PFLOP by stage, and hours at the assumed rates."""
    drawn = Table("experiment", "jobs", "inversion", "fine-tuning", "evaluation", "all",
                  *(f"hours, {precision}" for precision in PEAKS))
    for experiment, cost in costs.items():
        flops = (cost.inversion, cost.finetuning, cost.evaluation, cost.total)
        drawn.add_row(experiment, str(cost.jobs), *(f"{part / 1e15:.2f} PFLOP" for part in flops),
                      *(f"{cost.hours(precision):.2f}" for precision in PEAKS))
    return drawn


def _seconds(run: DryRun, stage: str) -> str:
    return f"{run.stages[stage]:.1f} s" if stage in run.stages else "–"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    disable_progress_bar()  # of the checkpoints' writing
    console = Console(file=sys.stdout, highlight=False, markup=False)
    console.width = max(console.width, TABLE_WIDTH)
    if options.estimate:
        with progress("Counting operations", len(options.only)) as bar:
            costs = {}
            for experiment in options.only:
                costs[experiment] = cost_of(experiment)
                bar.advance()
        console.print(cost_table(costs))
        rates = ", ".join(f"{peak / 1e12:.0f} TFLOP/s in {precision}"
                          for precision, peak in PEAKS.items())
        console.print(f"An estimate, not a measurement: it assumes that {SHARE:.0%} of the peak of "
                      f"an H100 is reached ({rates}), and leaves out reading images, Python and "
                      "metrics. What jobs share through the store is counted once.",
                      soft_wrap=True)
        return 0
    runs = list(_dry_runs(options, console))
    console.print(table(runs))
    failed = sum(not run.good for run in runs)
    console.print(f"{len(runs)} experiments, {failed} failed. Inversion: {STEPS} steps, with what "
                  "comes before the first and after the last.", soft_wrap=True)
    return int(failed > 0)


def _dry_runs(options: argparse.Namespace, console: Console) -> Iterator[DryRun]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with chdir(folder):
            for number, experiment in enumerate(options.only):
                console.print(f"{number + 1}/{len(options.only)} {experiment} …", soft_wrap=True)
                run = dry_run(experiment, number, options.threads)
                console.print(f"    {run.line or 'well'} ({duration(run.seconds)})", soft_wrap=True)
                yield run


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    experiments = sweeps.of_the_paper()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=experiments, default=experiments,
                        metavar="EXPERIMENT", help=f"some of: {', '.join(experiments)}")
    parser.add_argument("--estimate", action="store_true",
                        help="run nothing; estimate what each whole sweep costs")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each run")
    parser.add_argument("--keep", type=Path, metavar="FOLDER",
                        help="a new folder to keep weights, images and runs in")
    options = parser.parse_args(arguments)
    if options.keep and options.keep.exists():
        parser.error(f"--keep: {options.keep} is there already")
    return options


if __name__ == "__main__":
    sys.exit(main())
