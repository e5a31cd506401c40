"""Terminal output at the end of a run: tables of results and the paths of the files."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from kt_exp.errors import printable
from kt_exp.progress import ConsoleHandler, progress
from kt_exp.results import summary
from kt_exp.results.calibrated import calibrated_rows, calibration_line, calibration_reasons
from kt_exp.results.inverted_images import INVERTED_TITLE, inverted_rows
from kt_exp.results.outcome import Phase
from kt_exp.results.record import ConceptEntry, RunRecord
from kt_exp.results.summary import MISSING

__all__ = [
    "ConsoleHandler", "calibrated_table", "diagnosis_table", "print_diagnosis", "print_summary",
    "progress", "score_table", "summary_table", "tradeoff_table",
]

PIPE_WIDTH = 100  # columns where there is no terminal
TRADEOFF_TITLE = "Target accuracy with 2 points of known accuracy lost, by the best constant:"
TRADEOFF_COLUMNS = {"target_at_2": [*summary.TRADEOFF_PHASES],
                    "auroc": [Phase.baseline, Phase.transferred]}
WIDEST_COUNTS_BESIDE = 5  # "50/50"; longer counts go below the percentage, to fit 80 columns
STATUS_STYLES = {"completed": "bold green", "failed": "bold red", "interrupted": "bold yellow"}
RowT = TypeVar("RowT")


def summary_table(record: RunRecord, intervals: bool = True) -> Table:
    """Return a run's table: accuracy of each concept before → after, and of the two prompts."""
    table = _concept_table("Target\nbefore", "\n→ after", "Known\nbefore", "\n→ after", "\npoints",
                           "Prompt\nname", "\ndescr.")
    rows = summary.concept_rows(record)
    for row in rows:
        table.add_row(*_cells(row, _counts_width(rows), intervals))
    if len(rows) > 1:
        table.add_row()
        table.add_row(*_cells(summary.mean_row(rows), _counts_width(rows), intervals),
                      style="bold")
    return table


def tradeoff_table(record: RunRecord, intervals: bool = True) -> Table:
    """Return the table of `TRADEOFF_TITLE`, and AUROC.

    Bias alone, the untrained model's prompts, and after fine-tuning; phases that were not measured
    have no column.
    """
    rows = summary.tradeoff_rows(record)
    phases = {metric: [phase for phase in shown if any(phase in getattr(row, metric)
                                                       for row in rows)]
              for metric, shown in TRADEOFF_COLUMNS.items()}
    table = _concept_table(*(
        f"{'' if number else title}\n{summary.TRADEOFF_PHASES[phase]}"
        for metric, title in (("target_at_2", ""), ("auroc", "AUROC"))
        for number, phase in enumerate(phases[metric])))
    for row, is_mean in _mean_apart(table, rows):
        cells = [_rate(row.target_at_2.get(phase),
                       row.gain if phase == Phase.transferred else None, intervals)
                 for phase in phases["target_at_2"]]
        cells += [Text(f"{row.auroc[phase].value:.3f}" if phase in row.auroc else MISSING)
                  for phase in phases["auroc"]]
        table.add_row(Text(printable(row.name)), *cells, style="bold" if is_mean else "")
    return table


def calibrated_table(record: RunRecord, intervals: bool = True) -> Table:
    """Return the table of target and known accuracy with the constant γ on the concept's score."""
    table = _concept_table("γ", "Target", "Known", "points")
    for row, is_mean in _mean_apart(table, calibrated_rows(record)):
        table.add_row(
            Text(printable(row.name)), "" if is_mean else row.signed_gamma,
            _rate(row.target, None, intervals), _rate(row.known, None, intervals),
            Text(summary.signed(row.known_change) or MISSING, _style(row.known_change)),
            style="bold" if is_mean else "")
    return table


def inverted_table(record: RunRecord, intervals: bool = True) -> Table:
    """Return the table of `INVERTED_TITLE`: what they are taken for, how far from real images."""
    table = _concept_table("Accuracy\nname", "\ndescr.", "Fréchet distance\nfrom real",
                           "\nreal halves")
    for row, is_mean in _mean_apart(table, inverted_rows(record)):
        table.add_row(Text(printable(row.name)), _rate(row.by_name, None, intervals),
                      _rate(row.by_description, None, intervals), *row.distances,
                      style="bold" if is_mean else "")
    return table


def score_table(record: RunRecord) -> Table:
    """Return the table of all metrics but target and known accuracy: before → after."""
    table = plain_table()
    scores = summary.scores(record)
    means = summary.mean_scores(scores)
    several = len({score.name for score in scores}) > 1
    if several:
        table.add_column("Concept", overflow="fold", max_width=20)
    table.add_column("Metric (× 100)", no_wrap=True)
    for title in ("before", "→ after", "points"):
        table.add_column(title, justify="right", no_wrap=True)
    for score in scores:
        table.add_row(*_score_cells(score)[not several:])
    if means:
        table.add_row()
    for score in means:
        table.add_row(*_score_cells(score), style="bold")
    return table


def diagnosis_table(concepts: Sequence[ConceptEntry]) -> RenderableType:
    """Return the table of the concepts' diagnoses, with the warnings below."""
    table = plain_table()
    table.add_column("Concept", overflow="fold", max_width=20)
    table.add_column("Tokens", justify="right", no_wrap=True)
    table.add_column("Cosine", justify="right", no_wrap=True)
    table.add_column("Nearest known names")
    warnings = []
    for concept in concepts:
        diagnosis = concept.diagnosis
        if diagnosis is None:
            table.add_row(Text(printable(concept.name)), MISSING, MISSING, MISSING)
            continue
        if diagnosis.warning:
            warnings.append(f"{concept.name}: {diagnosis.warning}")
        table.add_row(
            Text(printable(concept.name)),
            f"{diagnosis.tokens}/{diagnosis.token_limit}",
            Text(_two_decimals(diagnosis.cosine), "yellow" if diagnosis.warning else ""),
            Text(printable(", ".join(f"{name} {cosine:.2f}" for name, cosine in diagnosis.nearest))
                 or MISSING),
        )
    return Group(table, *map(_warning, warnings))


def print_diagnosis(concepts: Sequence[ConceptEntry], console: Console | None = None) -> None:
    """Print the diagnosis of the concepts on standard output."""
    console = console or standard_output()
    console.print(diagnosis_table(concepts))


def print_summary(record: RunRecord, folder: Path, console: Console | None = None) -> None:
    """Print a run's status, tables, notes, warnings and files.

    Output to a terminal is coloured; piped output has no escape codes.
    """
    console = console or standard_output()
    console.print()
    console.print(Text(summary.headline(record), STATUS_STYLES[record.status]), soft_wrap=True)
    if reused := summary.reuse_line(record):
        console.print(f"from the store: {escape(reused)}")
    if strengths := summary.strength_line(record):
        console.print(f"strength of the edit: {escape(strengths)}")
    if summary.target_metric(record) in summary.ACCURACY_METRICS:
        console.print(Text(), _fitting(summary_table, record, console), Text(), sep="\n")
    if summary.tradeoff_rows(record):
        console.print(Text(TRADEOFF_TITLE, "dim"), _fitting(tradeoff_table, record, console),
                      Text(), sep="\n")
    if record.calibrations:
        console.print(Text(calibration_line(record), "dim"),
                      _fitting(calibrated_table, record, console), Text(), sep="\n")
    if inverted_rows(record):
        console.print(Text(INVERTED_TITLE, "dim"), _fitting(inverted_table, record, console),
                      Text(), sep="\n")
    if summary.scores(record):
        console.print(Text(), score_table(record), Text(), sep="\n")
    for note in [*record.notes, *calibration_reasons(record)]:
        console.print(Text.assemble(("note: ", "dim"), printable(note)))
    for warning in record.warnings:
        console.print(_warning(warning))
    files = {**record.files, "folder": ""}
    width = max(map(len, files)) + 2
    for name, path in files.items():
        # soft_wrap: a path broken over two lines cannot be clicked or copied.
        console.print(Text.assemble((name.ljust(width), "dim"),
                                    printable(_shortest(folder / path))),
                      soft_wrap=True)


def plain_table() -> Table:
    """Return an empty table without lines, as all tables on the terminal are."""
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")


def _concept_table(*titles: str) -> Table:
    """Return an empty table with a column of concepts, and one of figures for each title."""
    table = plain_table()
    two_lines = any("\n" in title for title in titles)
    table.add_column("\nConcept" if two_lines else "Concept", overflow="fold", min_width=8,
                     max_width=20)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _mean_apart(table: Table, rows: Sequence[RowT]) -> Iterator[tuple[RowT, bool]]:
    """Yield each row and whether it is the mean, the last of several; add a blank row before it."""
    for row in rows:
        is_mean = len(rows) > 1 and row is rows[-1]
        if is_mean:
            table.add_row()
        yield row, is_mean


def _fitting(make: Callable[[RunRecord, bool], Table], record: RunRecord,
             console: Console) -> Table:
    """Return the table with intervals, or without where the terminal is too narrow for them."""
    table = make(record, True)
    needed = Measurement.get(console, console.options.update(width=1000), table).maximum
    return table if needed <= console.width else make(record, False)


def standard_output() -> Console:
    """Return a console on standard output, 100 columns wide where that is no terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # On a pipe that is not UTF-8 an arrow becomes "?", instead of raising an error.
        sys.stdout.reconfigure(errors="replace")
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=PIPE_WIDTH if piped else None)


def _cells(row: summary.Row, counts_width: int, intervals: bool) -> list[RenderableType]:
    beside = counts_width <= WIDEST_COUNTS_BESIDE

    def with_counts(accuracy: summary.Accuracy | None, change: float | None = None) -> Text:
        counts = accuracy.counts if accuracy else ""
        shown = " " + counts.ljust(counts_width) if beside else counts and "\n" + counts
        text = Text.assemble((_percent(accuracy), _style(change)), (shown, "dim"))
        return text + _bounds(accuracy, intervals)

    return [
        Text(printable(row.name)),
        with_counts(row.target_before),
        with_counts(row.target_after, row.target_change),
        _rate(row.known_before, None, intervals),
        _rate(row.known_after, None, intervals),
        Text(summary.signed(row.known_change) or MISSING, _style(row.known_change)),
        _rate(row.name_prompt, None, intervals),
        _rate(row.description_prompt, None, intervals),
    ]


def _rate(accuracy: summary.Accuracy | None, change: float | None, intervals: bool) -> Text:
    return Text(_percent(accuracy), _style(change)) + _bounds(accuracy, intervals)


def _bounds(accuracy: summary.Accuracy | None, intervals: bool) -> Text:
    """The interval, on a line below."""
    found = accuracy.bounds if accuracy and intervals else ""
    return Text(f"\n{found}" if found else "", "dim")


def _score_cells(score: summary.Score) -> list[RenderableType]:
    style = _style(score.change)
    return [Text(printable(score.name)), Text(score.metric), summary.one_decimal(score.before),
            Text(summary.one_decimal(score.after), style),
            Text(summary.signed(score.change) or MISSING, style)]


def _counts_width(rows: list[summary.Row]) -> int:
    accuracies = [a for row in rows for a in (row.target_before, row.target_after) if a]
    return max((len(accuracy.counts) for accuracy in accuracies), default=0)


def _percent(accuracy: summary.Accuracy | None) -> str:
    return accuracy.percent if accuracy else MISSING


def _two_decimals(number: float | None) -> str:
    return MISSING if number is None else f"{number:.2f}"


def _style(change: float | None) -> str:
    if change is None or abs(change) < 0.05:
        return ""
    return "green" if change > 0 else "red"


def _warning(text: str) -> Text:
    return Text.assemble(("warning: ", "yellow"), printable(text))


def _shortest(path: Path) -> str:
    """Return the path relative to the current folder, or absolute if it is outside."""
    relative = os.path.relpath(path)
    return str(path.resolve()) if relative.startswith("..") else relative
