"""What runs measured of the same concepts over seeds, and their gains over bias alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from kt_exp.errors import UserError
from kt_exp.report.grouping import Estimate
from kt_exp.report.runs import Job
from kt_exp.results.gains import (
    LOSS,
    Comparison,
    PhaseMargins,
    Statistic,
    mean_interval,
    target_at_gain,
)
from kt_exp.results.intervals import Gain
from kt_exp.results.margins_file import FILE_NAME, read_margins
from kt_exp.results.outcome import Phase


@dataclass(frozen=True)
class Case:
    """One concept in one run: its numbers are in the job's record, its margins here, by phase."""

    job: Job
    margins: Mapping[str, PhaseMargins]

    def comparison(self, phase: Phase) -> Comparison:
        """Return the comparison of a phase with bias alone."""
        return Comparison.of(self.margins[Phase.baseline], self.margins[phase])


@dataclass(frozen=True)
class Evidence:
    """The runs of one variant: `cases[seed][concept]`."""

    cases: Mapping[Any, Mapping[str, Case]]

    @property
    def concepts(self) -> list[str]:
        """The concepts that were measured under every seed."""
        rows = [*self.cases.values()]
        return [name for name in rows[0] if all(name in row for row in rows)]

    def first_seed(self) -> Evidence:
        """Return the runs of one seed: all there is to know of the untrained model."""
        seed = next(iter(self.cases))
        return Evidence({seed: self.cases[seed]})

    def has(self, phase: Phase, concepts: Sequence[str]) -> bool:
        """Tell whether every seed has the margins of all `concepts` in that phase."""
        return all(phase in row[name].margins for row in self.cases.values() for name in concepts)

    def mean(self, phase: Phase, concepts: Sequence[str], split: str,
             metric: str) -> Estimate | None:
        """Return the mean over `concepts`, in percent, over seeds; None where a value is missing.
        """
        rows = [[case.job.measured(phase, name, split, metric)
                 for name, case in row.items() if name in concepts] for row in self.cases.values()]
        seeds = [[100 * value for value in row if value is not None] for row in rows]
        if any(len(row) < len(concepts) for row in seeds):
            return None
        return Estimate.of([fmean(row) for row in seeds])

    def known_change(self, phase: Phase, concepts: Sequence[str]) -> Estimate | None:
        """Return the change of the mean known accuracy from the baseline, in points, over seeds."""
        changes = []
        for seed, row in self.cases.items():
            alone = Evidence({seed: row})
            before = alone.mean(Phase.baseline, concepts, "known", "accuracy")
            after = alone.mean(phase, concepts, "known", "accuracy")
            if before is None or after is None:
                return None
            changes.append(after.mean - before.mean)
        return Estimate.of(changes)

    def gain(self, phase: Phase, concepts: Sequence[str], draws: int) -> Gain | None:
        """Return the gain in target accuracy at `LOSS` over bias alone, in [−1, 1].

        None where margins are not finite.
        """
        try:
            return target_at_gain(self._comparisons(phase, concepts), LOSS, draws)
        except ValueError:
            return None

    def interval(self, phase: Phase, concepts: Sequence[str], statistic: Statistic,
                 draws: int) -> Gain | None:
        """Return the mean of a statistic, with its interval; None where margins are not finite."""
        try:
            return mean_interval(self._comparisons(phase, concepts), statistic, draws)
        except ValueError:
            return None

    def calibrated(self) -> Evidence | None:
        """Return the same with each run's constant γ added to the margins after fine-tuning.

        None where a run has no γ, or where concepts that share a model also share γ, which their
        margins do not tell.
        """
        cases: dict[Any, dict[str, Case]] = {}
        for seed, row in self.cases.items():
            for name, case in row.items():
                chosen = case.job.record.calibration(name) if case.job.record else None
                if chosen is None or chosen.point.gamma is None or len(chosen.concepts) > 1:
                    return None
                moved = case.margins[Phase.transferred].plus(chosen.point.gamma)
                cases.setdefault(seed, {})[name] = replace(
                    case, margins={**case.margins, Phase.transferred: moved})
        return Evidence(cases)

    def _comparisons(self, phase: Phase, concepts: Sequence[str]) -> list[list[Comparison]]:
        return [[row[name].comparison(phase) for name in concepts] for row in self.cases.values()]


def evidence_of(jobs: Sequence[Job]) -> Evidence:
    """Return what completed runs of one variant measured.

    Raises:
        UserError: a run has no margins, or its file of margins is damaged.
    """
    cases: dict[Any, dict[str, Case]] = {}
    for job in jobs:
        margins = read_margins(job.folder)
        if not margins:
            raise UserError(str(job.folder / FILE_NAME), "there is none, and no interval without",
                            "run the job again with on_existing=rerun; only classification has "
                            "margins")
        row = cases.setdefault(job.value("seed"), {})
        for concept in dict.fromkeys(concept for _, concept in margins):
            row[concept] = Case(job, {phase: found for (phase, name), found in margins.items()
                                      if name == concept})
    return Evidence(dict(sorted(cases.items(), key=lambda item: str(item[0]))))


def shared_concepts(found: Sequence[Evidence]) -> list[str]:
    """Return the concepts that all of `found` have measured after fine-tuning.

    Raises:
        UserError: there is none.
    """
    concepts = [name for name in found[0].concepts if all(name in one.concepts for one in found)
                and all(one.has(Phase.transferred, [name]) for one in found)]
    if not concepts:
        raise UserError("concepts", "the variants have no measured concept in common",
                        "kt-report status shows how far the runs are")
    return concepts
