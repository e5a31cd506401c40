"""The table of a sweep: one row per setting and concept, before → after, over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kt_exp.errors import UserError, did_you_mean
from kt_exp.report.grid import Grid, StyledText
from kt_exp.report.grouping import Estimate, concepts_of, grouped, labels, teaching, varied
from kt_exp.report.runs import Job, newest
from kt_exp.results.outcome import INVERTED, TRADEOFF_METRICS, Metric
from kt_exp.results.summary import MISSING, TARGET_AT_2, bounds

BEFORE, AFTER = "baseline", "transferred"
TONES = {"failed": "bad", "interrupted": "warn", "pending": "soft", "no result": "soft"}
HIDDEN = {"mean_per_class_accuracy", *TRADEOFF_METRICS} - {TARGET_AT_2}  # unless asked for
# Phases of the untrained model with other prompts, and their column titles.
PROMPTS = {"name_prompt": "Name as prompt", "description_prompt": "Description as prompt"}

Kind = tuple[str, str]  # the split and the metric of a measurement


class Footnotes:
    """Numbered footnotes that say why measurements are missing, one line each."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.lines: list[StyledText] = []

    def mark(self, state: str, jobs: Sequence[Job]) -> StyledText:
        """Return `state` with the numbers of the jobs' footnotes: "failed [1]"."""
        numbers = [self._number(f"{job.folder}: {reason(job)}", TONES.get(job.state, ""))
                   for job in jobs]
        marks = f" [{','.join(map(str, numbers))}]" if numbers else ""
        return StyledText(f"{state}{marks}", TONES.get(state, ""))

    def mark_line(self, state: str, line: str) -> StyledText:
        """Return `state` with the number of the footnote `line`."""
        return StyledText(f"{state} [{self._number(line, 'warn')}]", "warn")

    def mark_unplaced(self, jobs: Sequence[Job]) -> None:
        """Add footnotes for the jobs without a config, which have no row."""
        for job in jobs:
            if not job.config:
                self.mark(job.state, [job])

    def _number(self, line: str, tone: str) -> int:
        if line not in self._numbers:
            self._numbers[line] = len(self._numbers) + 1
            self.lines.append(StyledText(f"[{self._numbers[line]}] {line}", tone))
        return self._numbers[line]


def overview(jobs: Sequence[Job], prompts: bool = False, metrics: Sequence[str] = ()) -> Grid:
    """Return the table of all measurements of `jobs`, one row per setting and concept.

    `prompts` adds the untrained model's target accuracy with other prompts; `metrics` are those of
    `kinds_of`. A rate of one run has its Wilson 95 % interval beside it.

    Raises:
        UserError: one of `metrics` was not measured.
    """
    jobs = newest(jobs)
    keys = varied(jobs)
    placed = [job for job in jobs if job.config]
    kinds = kinds_of(placed, metrics)
    counted = any(len({job.value("seed") for job in group}) > 1
                  for group in grouped(placed, keys).values())
    header = [*keys, "concept"]
    for kind in kinds:
        header += [f"{kind_title(kind)} before", "→ after"]
    if prompts:
        header += PROMPTS.values()
    grid = Grid("", [*header, "n"] if counted else header, [], labels=len(keys) + 1)
    notes = Footnotes()
    groups = grouped(placed, keys)
    names = labels(groups)
    for values, group in groups.items():
        for concept in concepts_of(group) or [MISSING]:
            own = teaching(group, concept)
            row, numbers = _row(own, concept, kinds, notes)
            row += [by_prompt(own, phase, concept) for phase in PROMPTS if prompts]
            row = [*map(StyledText, (*names[values], concept)), *row]
            grid.rows.append([*row, StyledText(str(numbers))] if counted else row)
            grid.data += data(dict(zip(keys, values, strict=True)), concept, kinds, own)
    notes.mark_unplaced(jobs)
    grid.title = summary_line(jobs)
    grid.notes = notes.lines
    return grid


def reason(job: Job) -> str:
    """Return why a job has no result, or only part of it."""
    if job.record is None:
        return f"pending ({' '.join(job.overrides)})" if job.overrides else "pending"
    if job.record.error is not None:
        error = job.record.error
        return f"failed: {' '.join((error.message or error.type).split())}"
    return "holds no such measurement" if job.state == "completed" else job.state


def estimate(jobs: Sequence[Job], phase: str, concept: str | None, split: str | None,
             metric: str) -> Estimate | None:
    """Return a measurement over the seeds of `jobs`, in percent; None if no job has it."""
    values = {job.value("seed"): 100 * value for job in jobs
              if (value := job.measured(phase, concept, split, metric)) is not None}
    return Estimate.of([*values.values()]) if values else None


def interval(jobs: Sequence[Job], phase: str, concept: str, split: str,
             metric: str) -> tuple[float, float] | None:
    """Return the Wilson 95 % interval of a rate, in [0, 1]; None for a mean.

    Of several seeds a fine-tuned model has a standard deviation in place of an interval. The
    untrained model has one where all runs agree.
    """
    if phase == AFTER and len({job.value("seed") for job in jobs}) > 1:
        return None
    rows = [row for job in jobs if (row := job.measurement(phase, concept, split, metric))]
    return rows[0].interval if len({(row.count, row.total) for row in rows}) == 1 else None


def _in_brackets(found: tuple[float, float] | None) -> str:
    return f" {bounds(found)}" if found else ""


def number(estimated: Estimate, digits: int = 1) -> str:
    """Return "86.0", or "86.0±2.1" over several seeds."""
    spread = "" if estimated.std is None else f"±{estimated.std:.{digits}f}"
    return f"{estimated.mean:.{digits}f}{spread}"


def worst(jobs: Sequence[Job]) -> str:
    """Return the most severe state of the jobs, as the reason why a number is missing."""
    states = {job.state for job in jobs}
    return next((state for state in ("failed", "interrupted", "pending") if state in states),
                "no result")


def _row(jobs: Sequence[Job], concept: str, kinds: Sequence[Kind],
         notes: Footnotes) -> tuple[list[StyledText], int]:
    """Return the cells of a concept, and the number of seeds behind them."""
    cells, most = [], 0
    for split, metric in kinds:
        before = estimate(jobs, BEFORE, concept, split, metric)
        after = estimate(jobs, AFTER, concept, split, metric)
        start, end = (_in_brackets(interval(jobs, phase, concept, split, metric))
                      for phase in (BEFORE, AFTER))
        cells.append(StyledText(f"{before.mean:.1f}{start}" if before else MISSING))
        if after:
            cells.append(StyledText(number(after) + end, tone_of(after, before)))
            most = max(most, after.n)
        else:
            cells.append(StyledText(MISSING))
    cells[-1] = marked(cells[-1], jobs, notes)
    return cells, most


def marked(cell: StyledText, jobs: Sequence[Job], notes: Footnotes) -> StyledText:
    """Return `cell`, with a footnote if not all of its jobs are completed."""
    unfinished = [job for job in jobs if job.state != "completed"]
    if not unfinished:
        return cell
    mark = notes.mark(worst(unfinished), unfinished)
    return mark if cell.text == MISSING else StyledText(f"{cell.text} ({mark.text})", mark.tone)


def tone_of(after: Estimate, before: Estimate | None) -> str:
    """Return "good" for a rise and "bad" for a fall that one decimal shows, else ""."""
    change = after.mean - before.mean if before else 0.0
    return "good" if change >= 0.05 else "bad" if change <= -0.05 else ""


def by_prompt(jobs: Sequence[Job], phase: str, concept: str) -> StyledText:
    """Return the untrained model's target accuracy with the prompt of `phase`."""
    accuracy = estimate(jobs, phase, concept, "target", "accuracy")
    return StyledText(f"{accuracy.mean:.1f}" if accuracy else MISSING)


def kinds_of(jobs: Sequence[Job], metrics: Sequence[str] = ()) -> list[Kind]:
    """Return the kinds of measurements; target and known accuracy if there are none yet.

    Of the metrics at equal forgetting only `target_at_2`, and of inverted images none, unless
    `metrics` names those to return ("all": every one).

    Raises:
        UserError: none of the jobs measured one of `metrics`.
    """
    measured: dict[Kind, None] = dict.fromkeys(
        (row.split, row.metric) for job in jobs for row in _metrics(job))
    if "all" in metrics:
        return list(measured)
    names = {metric for _, metric in measured}
    for metric in metrics:
        if metric not in names:
            raise UserError("--metrics", f"'{metric}' was not measured",
                            did_you_mean(metric, ["all", *names], most=20))
    if metrics:
        return [kind for kind in measured if kind[1] in metrics]
    others = [kind for kind in measured if kind[1] not in HIDDEN and kind[0] != INVERTED]
    return others or list(measured) or [("target", "accuracy"), ("known", "accuracy")]


def _metrics(job: Job) -> list[Metric]:
    return job.record.metrics if job.record else []


def kind_title(kind: Kind) -> str:
    split, metric = kind
    if metric == "accuracy":
        return {"all": "Accuracy"}.get(split, split.capitalize())
    if metric.startswith("target_at_"):
        return f"Target at {metric.removeprefix('target_at_')} lost"
    return metric if split == "all" else f"{split.capitalize()} {metric}"


def data(settings: dict[str, Any], concept: str, kinds: Sequence[Kind],
         jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Return one CSV row per measurement of a concept."""
    rows = []
    for split, metric in kinds:
        before = estimate(jobs, BEFORE, concept, split, metric)
        after = estimate(jobs, AFTER, concept, split, metric)
        unfinished = [job for job in jobs if job.state != "completed"]
        intervals = [interval(jobs, phase, concept, split, metric) for phase in (BEFORE, AFTER)]
        rows.append({
            **settings, "concept": concept, "split": split, "metric": metric,
            "before": before and before.mean, "before_std": before and before.std,
            "after": after and after.mean, "after_std": after and after.std,
            **{f"{name}_{bound}": found and 100 * found[place]
               for name, found in zip(("before", "after"), intervals, strict=True)
               for place, bound in enumerate(("low", "high"))},
            "n": after.n if after else 0,
            "state": worst(unfinished) if unfinished else "completed",
            "paths": " ".join(str(job.folder) for job in jobs),
        })
    return rows


def summary_line(jobs: Sequence[Job]) -> str:
    """Return the number of runs in each state, as text."""
    counts = {state: sum(job.state == state for job in jobs)
              for state in ("completed", "failed", "interrupted", "pending")}
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"{len(jobs)} {'run' if len(jobs) == 1 else 'runs'}: {states}. Figures in percent."
