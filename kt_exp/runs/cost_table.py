"""The table that a dry run prints: the cost of each job, and what the store already has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.text import Text

from kt_exp.caches import Caches
from kt_exp.cost import EVALUATION, INVERSION, Cost, Item, cost_of
from kt_exp.errors import UserError
from kt_exp.finetune.stage import KIND as FINETUNE
from kt_exp.models.factory import pick_device
from kt_exp.pipeline import Experiment
from kt_exp.progress import duration, progress
from kt_exp.runs.check import Checked
from kt_exp.runs.console import plain_table, standard_output
from kt_exp.runs.cost_lines import InversionClock, check_hours
from kt_exp.schema import Config, parse
from kt_exp.standard_streams import print_if_possible
from kt_exp.units import shown_size

NOTE = """\
In brackets: what is had, as the store has it (for the device {device}) or a job above computes it.
Images are counted for each model; models that share features are evaluated on them in less time."""


@dataclass(frozen=True)
class _Row:
    job: Checked
    cost: Cost | None
    seconds: float | None = None
    above: frozenset[str] = frozenset()


@dataclass
class CostTable:
    """Collects the costs of jobs that share a store.

    Args:
        on_this_machine: whether the jobs run here; else any device stands in for theirs, and no
            time is told.
    """

    caches: Caches
    on_this_machine: bool
    clock: InversionClock = field(default_factory=InversionClock)
    rows: list[_Row] = field(default_factory=list)
    above: set[str] = field(default_factory=set)
    device: str = ""

    def add(self, job: Checked, completed: bool) -> None:
        """Add a job. Its model is loaded, once for jobs that share it.

        Raises:
            UserError: it cannot run, or its inversion would take longer than
                `max_inversion_hours`.
        """
        if completed:
            self.rows.append(_Row(job, None))
            return
        with job.current():
            config = self._on_a_device(parse(job.cfg))
        experiment = Experiment(config, progress, self.caches)
        cost = cost_of(experiment)
        left = [item for item in cost.left(INVERSION, self.above) if item.pixels]
        seconds = None
        if self.on_this_machine:
            seconds = self.clock.seconds(experiment, left)
            check_hours(experiment, left, seconds)
        self.rows.append(_Row(job, cost, seconds, frozenset(self.above)))
        self.above |= {item.key for item in cost.items}
        self.device = experiment.model.device.type

    def print(self) -> None:
        """Print the table, with a row for the total if there are several jobs."""
        table = plain_table()
        table.add_column("\nJob", overflow="fold", min_width=4, max_width=44)
        for title in ("Images\nto invert", "Image\nsteps", "Time\nabout", "Models\nto train",
                      "Images to\nevaluate", "To\nwrite"):
            table.add_column(title, justify="right", no_wrap=True)
        for row, name in zip(self.rows, _names([row.job for row in self.rows]), strict=True):
            table.add_row(name, *_cells(row))
        if len(self.rows) > 1:
            table.add_row()
            table.add_row("total", *self._total(), style="bold")
        console = standard_output()
        print_if_possible(lambda: console.print(table))
        if self.device:
            print_if_possible(lambda: console.print(Text(NOTE.format(device=self.device), "dim")))

    def _total(self) -> list[str]:
        costs = [(row.cost, row.above) for row in self.rows if row.cost]
        left = {stage: [item for cost, above in costs for item in cost.left(stage, above)]
                for stage in (INVERSION, FINETUNE, EVALUATION)}
        seconds = sum(row.seconds or 0 for row in self.rows)
        return [str(_images(left[INVERSION])), str(sum(item.steps for item in left[INVERSION])),
                duration(seconds) if seconds else "", str(len(left[FINETUNE])),
                str(_images(left[EVALUATION])),
                shown_size(sum(cost.size(above) for cost, above in costs))]

    def _on_a_device(self, config: Config) -> Config:
        """Take the CPU where the jobs run elsewhere, on a device that is not here."""
        if not self.on_this_machine:
            try:
                pick_device(config.device)
            except UserError:
                config.device = "cpu"
        return config


def _names(jobs: Sequence[Checked]) -> list[str]:
    """Return each job's number and the overrides in which it differs from the others."""
    if len(jobs) == 1:
        return ["run"]
    shared = set.intersection(*(set(job.overrides) for job in jobs))
    return [f"{job.number} {' '.join(word for word in job.overrides if word not in shared)}"
            for job in jobs]


def _cells(row: _Row) -> list[str | Text]:
    if row.cost is None:
        return [Text("completed", "green")]
    cost = row.cost
    left = {stage: cost.left(stage, row.above) for stage in (INVERSION, FINETUNE, EVALUATION)}
    had = {stage: [item for item in cost.of(stage) if item not in items]
           for stage, items in left.items()}
    return [
        _with_had(_images(left[INVERSION]), _images(had[INVERSION])),
        str(sum(item.steps for item in left[INVERSION])),
        duration(row.seconds) if row.seconds else "",
        _with_had(len(left[FINETUNE]), len(had[FINETUNE])),
        _with_had(_images(left[EVALUATION]), _images(had[EVALUATION])),
        shown_size(cost.size(row.above)),
    ]


def _with_had(left: int, had: int) -> Text:
    return Text.assemble(str(left), (f" ({had})" if had else "", "dim"))


def _images(items: Sequence[Item]) -> int:
    return sum(item.images for item in items)
