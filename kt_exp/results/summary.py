"""The rows of a run's tables, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from kt_exp.progress import duration
from kt_exp.results.intervals import wilson
from kt_exp.results.outcome import INVERTED, TRADEOFF_METRICS, Metric, Phase
from kt_exp.results.record import MetricName, RunRecord

MISSING = "\N{EN DASH}"
NARROW = 2.0  # points: the bounds of a narrower interval have a decimal
# Metrics of target and known images in the table of concepts; all others are scores.
ACCURACY_METRICS = ("accuracy", "mean_per_class_accuracy")


@dataclass
class Accuracy:
    """A number in [0, 1]: a rate, `hits` of `total`, or a mean (without `hits`)."""

    value: float
    hits: int | None = None
    total: int | None = None

    @property
    def percent(self) -> str:
        return f"{100 * self.value:.1f}%"

    @property
    def counts(self) -> str:
        return "" if self.hits is None else f"{self.hits}/{self.total}"

    @property
    def bounds(self) -> str:
        """The Wilson 95 % interval in percent, "[39–65]"; empty for a mean."""
        if self.hits is None or not self.total:
            return ""
        return bounds(wilson(self.hits, self.total))


@dataclass
class Row:
    """One concept, or the mean of all; None where nothing was measured."""

    name: str
    target_before: Accuracy | None
    target_after: Accuracy | None
    known_before: Accuracy | None
    known_after: Accuracy | None
    name_prompt: Accuracy | None
    description_prompt: Accuracy | None

    @property
    def target_change(self) -> float | None:
        """The change of target accuracy in percentage points."""
        return _points(self.target_before, self.target_after)

    @property
    def known_change(self) -> float | None:
        """The change of known accuracy in percentage points."""
        return _points(self.known_before, self.known_after)


ACCURACIES: dict[str, tuple[Phase, str]] = {
    "target_before": (Phase.baseline, "target"),
    "target_after": (Phase.transferred, "target"),
    "known_before": (Phase.baseline, "known"),
    "known_after": (Phase.transferred, "known"),
    "name_prompt": (Phase.name_prompt, "target"),
    "description_prompt": (Phase.description_prompt, "target"),
}


# What the untrained model reaches by a constant alone and by its prompts, and what training does.
TRADEOFF_PHASES: dict[Phase, str] = {
    Phase.baseline: "bias", Phase.name_prompt: "name", Phase.description_prompt: "descr.",
    Phase.name_and_description: "both", Phase.parts_prompt: "parts", Phase.transferred: "→ after",
}
TARGET_AT_2 = "target_at_2"


@dataclass
class TradeoffRow:
    """Equal forgetting: one concept (or the mean of all), by phase; without those not measured."""

    name: str
    target_at_2: dict[Phase, Accuracy]
    auroc: dict[Phase, Accuracy]

    @property
    def gain(self) -> float | None:
        """The gain of fine-tuning over bias alone in `target_at_2`, in points."""
        return _points(self.target_at_2.get(Phase.baseline),
                       self.target_at_2.get(Phase.transferred))


@dataclass
class Score:
    """A metric other than target and known accuracy, before and after, × 100."""

    name: str
    metric: MetricName
    before: float | None
    after: float | None

    @property
    def change(self) -> float | None:
        """The change in points."""
        return None if self.before is None or self.after is None else self.after - self.before


def target_metric(record: RunRecord) -> MetricName | None:
    """Return the first metric of the concepts' images ("accuracy", "DSC").

    None if there are no such images, or nothing was measured.
    """
    return next((row.metric for row in record.metrics
                 if row.split == "target" and row.metric not in TRADEOFF_METRICS), None)


def scores(record: RunRecord) -> list[Score]:
    """Return all metrics but target and known accuracy and those at equal forgetting."""
    measured = dict.fromkeys(
        (row.concept, row.split, row.metric) for row in record.metrics
        if row.metric not in TRADEOFF_METRICS and row.split != INVERTED
        and (row.split == "all" or row.metric not in ACCURACY_METRICS))
    return [Score(name, metric, *(_times_100(record.metric(phase, name, split, metric))
                                  for phase in ("baseline", "transferred")))
            for name, split, metric in measured]


def mean_scores(scores: Sequence[Score]) -> list[Score]:
    """Return the unweighted mean over concepts of each metric that several concepts have."""
    return [Score("mean", metric, _mean_of([score.before for score in of_metric]),
                  _mean_of([score.after for score in of_metric]))
            for metric in dict.fromkeys(score.metric for score in scores)
            if len(of_metric := [score for score in scores if score.metric == metric]) > 1]


def concept_rows(record: RunRecord, metric: MetricName = "accuracy") -> list[Row]:
    """Return one row per concept, in the order of the record."""
    return [
        Row(concept.name, **{
            column: _accuracy(record.metric(phase, concept.name, split, metric))
            for column, (phase, split) in ACCURACIES.items()
        })
        for concept in record.concepts
    ]


def mean_row(rows: list[Row]) -> Row:
    """Return the unweighted mean over concepts; None in columns with a missing value."""
    return Row("mean", **{
        column: _mean([getattr(row, column) for row in rows]) for column in ACCURACIES
    })


def tradeoff_rows(record: RunRecord) -> list[TradeoffRow]:
    """Return a row per concept, and their mean if there are several; none without such metrics."""
    def measured(name: str, metric: MetricName) -> dict[Phase, Accuracy]:
        found = {phase: _accuracy(record.metric(phase, name, TRADEOFF_METRICS[metric], metric))
                 for phase in TRADEOFF_PHASES}
        return {phase: accuracy for phase, accuracy in found.items() if accuracy}

    rows = [TradeoffRow(concept.name, measured(concept.name, TARGET_AT_2),
                        measured(concept.name, "auroc")) for concept in record.concepts]
    if not any(row.target_at_2 or row.auroc for row in rows):
        return []
    return [*rows, _mean_tradeoff(rows)] if len(rows) > 1 else rows


def _mean_tradeoff(rows: Sequence[TradeoffRow]) -> TradeoffRow:
    def mean(of_rows: Sequence[dict[Phase, Accuracy]]) -> dict[Phase, Accuracy]:
        found = {phase: _mean([row.get(phase) for row in of_rows]) for phase in TRADEOFF_PHASES}
        return {phase: accuracy for phase, accuracy in found.items() if accuracy}

    return TradeoffRow("mean", mean([row.target_at_2 for row in rows]),
                       mean([row.auroc for row in rows]))


def bounds(interval: tuple[float, float]) -> str:
    """Return an interval of shares in percent: "[39–65]", with a decimal where it is narrow."""
    low, high = (100 * bound for bound in interval)
    digits = 0 if high - low >= NARROW else 1
    return f"[{low:.{digits}f}–{high:.{digits}f}]"


def one_decimal(number: float | None) -> str:
    """Return "12.3", or a dash for None."""
    return MISSING if number is None else f"{number:.1f}"


def signed(points: float | None) -> str:
    """Return a change in points with its sign; "±0.0" for no change."""
    if points is None:
        return ""
    if abs(points) < 0.05:
        return "±0.0"
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")


def headline(record: RunRecord) -> str:
    """Return the status of the run in one line."""
    seconds = record.elapsed()
    took = "" if seconds is None else duration(seconds)
    if record.status == "completed":
        return f"completed in {took}"
    ended = f"{record.status} after {took}" if took else record.status
    if record.error is not None:
        return f"{ended}: {record.error.message or record.error.type}"
    return f"{ended}: the same command goes on where this run stopped"


def reuse_line(record: RunRecord) -> str:
    """Return how many results came from the store, as "inversion 7, finetune 7"; may be empty."""
    return ", ".join(f"{stage} {count}" for stage, count in record.reused.items() if count)


def strength_line(record: RunRecord) -> str:
    """Return the strengths of closed-form edits, as "1.3" or "madras 1.42, …"; may be empty."""
    found = {concept.name: f"{concept.strength:.3g}" for concept in record.concepts
             if concept.strength is not None}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return ", ".join(f"{name} {strength}" for name, strength in found.items())


def _accuracy(row: Metric | None) -> Accuracy | None:
    return None if row is None or row.value is None else Accuracy(row.value, row.count, row.total)


def _times_100(row: Metric | None) -> float | None:
    return None if row is None or row.value is None else 100 * row.value


def _mean(accuracies: list[Accuracy | None]) -> Accuracy | None:
    value = _mean_of([None if a is None else a.value for a in accuracies])
    return None if value is None else Accuracy(value)


def _mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean, None if one of the values is missing."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _points(before: Accuracy | None, after: Accuracy | None) -> float | None:
    return None if before is None or after is None else 100 * (after.value - before.value)
