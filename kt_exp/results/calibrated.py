"""The rows of a run's table of accuracies with the constant γ, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from kt_exp.results.outcome import Metric, Phase
from kt_exp.results.record import RunRecord
from kt_exp.results.summary import MISSING, Accuracy


@dataclass
class CalibratedRow:
    """One concept, or the mean of all, with the constant γ on its score.

    Attributes:
        gamma: in the unit of the scores; None for the mean, and where there is none.
        target: accuracy on images of the concept; None where nothing was measured.
        known_before: known accuracy of the untrained model.
    """

    name: str
    gamma: float | None
    target: Accuracy | None
    known: Accuracy | None
    known_before: Accuracy | None

    @property
    def known_change(self) -> float | None:
        """The change of known accuracy in percentage points."""
        if self.known is None or self.known_before is None:
            return None
        return 100 * (self.known.value - self.known_before.value)

    @property
    def signed_gamma(self) -> str:
        """γ as "+0.0312", or a dash for None."""
        signed = "" if self.gamma is None else f"{self.gamma:+.4f}"
        return signed.replace("-", "\N{MINUS SIGN}") or MISSING


def calibrated_rows(record: RunRecord) -> list[CalibratedRow]:
    """Return a row per concept with γ, and their mean if there are several; none uncalibrated."""
    rows = []
    for concept in record.concepts:
        if chosen := record.calibration(concept.name):
            rows.append(CalibratedRow(
                concept.name, chosen.point.gamma,
                _accuracy(record.metric(Phase.calibrated, concept.name, "target")),
                _accuracy(record.metric(Phase.calibrated, concept.name, "known")),
                _accuracy(record.metric(Phase.baseline, concept.name, "known"))))
    return [*rows, _mean_row(rows)] if len(rows) > 1 else rows


def calibration_line(record: RunRecord) -> str:
    """Return what the rows of `calibrated_rows` show, in one line; empty if uncalibrated."""
    if not record.calibrations:
        return ""
    first = record.calibrations[0]
    kind = "inverted" if first.images == "inverted" else "other"
    return (f"With the largest constant γ on the concept's score that loses at most "
            f"{100 * first.point.budget:g} % of {first.point.known_total} {kind} known images:")


def calibration_reasons(record: RunRecord) -> list[str]:
    """Return why models have no γ, as "moongate: no γ: no known images to calibrate on"."""
    return [f"{', '.join(chosen.concepts)}: no γ: {chosen.point.reason}"
            for chosen in record.calibrations if chosen.point.gamma is None]


def _mean_row(rows: Sequence[CalibratedRow]) -> CalibratedRow:
    return CalibratedRow("mean", None, _mean([row.target for row in rows]),
                         _mean([row.known for row in rows]),
                         _mean([row.known_before for row in rows]))


def _accuracy(row: Metric | None) -> Accuracy | None:
    return None if row is None or row.value is None else Accuracy(row.value, row.count, row.total)


def _mean(accuracies: Sequence[Accuracy | None]) -> Accuracy | None:
    """Return the mean, None if one of them is missing."""
    known = [accuracy.value for accuracy in accuracies if accuracy]
    return Accuracy(fmean(known)) if known and len(known) == len(accuracies) else None
