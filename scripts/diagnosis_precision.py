"""Measure how often the warnings of the diagnosis were right, from finished runs.

    kt-exp -m inversion=fast finetune=pictograms finetune.captions=named seed=0,1,2 \\
        concepts=pictograms_dev hydra.sweep.dir=outputs/named
    python scripts/diagnosis_precision.py outputs/named
    python scripts/diagnosis_precision.py outputs/named --cosine-below 0.25

A concept is learned in a run if its target accuracy at 2 points lost ends above the Wilson 95 %
interval of what a constant alone reaches there; over several seeds, if it is in more than half of
them. Concepts for which a constant alone reaches too much to be exceeded are left out. Precision is
the share of the warned concepts that were not learned: compare it with their share among all.
Recall is the share of the concepts not learned that were warned of. Brackets are Wilson 95 %
intervals over concepts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.console import Console

from kt_exp.errors import UserError
from kt_exp.finetune.settings import EDIT
from kt_exp.report.grid import FORMATS, Grid, StyledText, print_grid
from kt_exp.report.runs import Job, find_jobs
from kt_exp.results.intervals import wilson
from kt_exp.results.outcome import Diagnosis, Phase
from kt_exp.results.summary import MISSING, TARGET_AT_2

HEADER = ["world", "taught by", "concepts", "no room", "not learned", "warned", "precision",
          "recall"]
LEAST_ROOM = 1.0  # share of images: an interval that reaches it cannot be exceeded


class Setting(NamedTuple):
    """What a group of concepts was taught with."""

    world: str
    taught_by: str


@dataclass
class Concept:
    """A concept's runs, one a seed: whether it was warned of, and learned (None: no room)."""

    warned: list[bool]
    learned: list[bool | None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a row for each concept set and way to teach it, and one of all of them."""
    asked = _parse(arguments)
    settings: dict[Setting, dict[str, Concept]] = {}
    for job in find_jobs(asked.runs):
        for name, warned, learned in _outcomes(job, asked.cosine_below):
            found = settings.setdefault(_setting(job), {}).setdefault(name, Concept([], []))
            found.warned.append(warned)
            found.learned.append(learned)
    if not settings:
        raise UserError("runs", f"none has a diagnosis and {TARGET_AT_2} before and after",
                        "give completed runs of classification")
    rows = [[*map(StyledText, (*setting, *_row([*concepts.values()])))]
            for setting, concepts in sorted(settings.items())]
    together = [concept for concepts in settings.values() for concept in concepts.values()]
    rows.append([*map(StyledText, ("all", "", *_row(together)))])
    print_grid(Grid("Warnings of the diagnosis against what was learned", HEADER, rows, labels=2),
               asked.format, Console())


def _outcomes(job: Job, below: float | None) -> Iterator[tuple[str, bool, bool | None]]:
    """Yield each concept of a completed run: its name, whether it was warned of, and learned."""
    if job.record is None or job.state != "completed":
        return
    for concept in job.record.concepts:
        before, after = (job.measurement(phase, concept.name, "target", TARGET_AT_2)
                         for phase in (Phase.baseline, Phase.transferred))
        if not concept.diagnosis or not before or not after or after.value is None \
                or before.count is None:
            continue
        _, high = wilson(before.count, before.total)
        yield (concept.name, _warned(concept.diagnosis, below),
               None if high >= LEAST_ROOM else after.value > high)


def _warned(diagnosis: Diagnosis, below: float | None) -> bool:
    if below is None:
        return diagnosis.warning is not None
    return diagnosis.cosine is not None and diagnosis.cosine < below


def _setting(job: Job) -> Setting:
    trained = "closed form" if job.value("finetune.strategy") == EDIT \
        else f"{job.value('finetune.captions')} captions"
    return Setting(str(job.value("concepts.name")), trained)


def _row(concepts: Sequence[Concept]) -> list[str]:
    judged = [(any(one.warned), 2 * sum(map(bool, one.learned)) <= len(one.learned))
              for one in concepts if None not in one.learned]
    failed = sum(failed for _, failed in judged)
    warned = sum(warned for warned, _ in judged)
    both = sum(warned and failed for warned, failed in judged)
    return [str(len(concepts)), str(len(concepts) - len(judged)), _rate(failed, len(judged)),
            str(warned), _rate(both, warned), _rate(both, failed)]


def _rate(count: int, total: int) -> str:
    if not total:
        return MISSING
    low, high = (100 * bound for bound in wilson(count, total))
    return f"{count}/{total} = {100 * count / total:.0f} % [{low:.0f}, {high:.0f}]"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="folders of finished runs or sweeps")
    parser.add_argument("--cosine-below", type=float, metavar="T",
                        help="count as warned what has a cosine below T, in place of the warnings "
                             "that the runs gave")
    parser.add_argument("--format", choices=FORMATS[:2], default="rich")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"diagnosis_precision: error: {error}", file=sys.stderr)
        sys.exit(2)
