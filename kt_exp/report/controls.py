"""The recipe beside its controls and what trains nothing: was knowledge gained, or a bias?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kt_exp.report.evidence import LOSS, Evidence, evidence_of, shared_concepts
from kt_exp.report.grid import Grid, StyledText
from kt_exp.report.grouping import Estimate
from kt_exp.report.runs import Job, newest
from kt_exp.report.table import Footnotes, summary_line
from kt_exp.report.variants import Variant, comparable, variants_of
from kt_exp.results.intervals import Gain
from kt_exp.results.outcome import Phase
from kt_exp.results.summary import MISSING, TARGET_AT_2, signed

POINTS = round(100 * LOSS)
HEADER = ("", f"Target at {POINTS} points lost", "AUROC", "Target", "Known change",
          "Gain over bias alone", "seeds")
UNTRAINED = {  # the prompts of a model that was not trained
    Phase.baseline: "bias alone",
    Phase.name_prompt: "the name alone as prompt",
    Phase.description_prompt: "the description as prompt",
    Phase.name_and_description: "name and description",
    Phase.parts_prompt: "parts of the description",
}


class Row(NamedTuple):
    """A variant after fine-tuning, or a prompt of the untrained model; `gain` is over bias alone.
    """

    label: str
    phase: Phase
    evidence: Evidence
    gain: Gain | None


class Measured(NamedTuple):
    """The rows of variants and of prompts, the concepts that all variants have, and `variants`."""

    trained: list[Row]
    untrained: list[Row]
    concepts: list[str]
    variants: list[Variant]


def measured(jobs: Sequence[Job], draws: int) -> Measured:
    """Return what the variants among `jobs` and the untrained model reach.

    Raises:
        UserError: as `controls`.
    """
    variants = variants_of(comparable(jobs))
    found = [evidence_of(variant.jobs) for variant in variants]
    concepts = shared_concepts(found)
    trained = [Row(variant.label, Phase.transferred, one,
                   one.gain(Phase.transferred, concepts, draws))
               for variant, one in zip(variants, found, strict=True)]
    return Measured(trained, _untrained(found[0].first_seed(), concepts, draws), concepts, variants)


def controls(jobs: Sequence[Job], draws: int = 2000) -> Grid:
    """Return the table of a sweep of controls, with a sentence for each variant below.

    A row for each training variant, then one for each prompt of the untrained model: means over
    the concepts that all variants have, over seeds. AUROC is × 100, all else in percent or points.

    Args:
        draws: of the bootstrap, for each interval.

    Raises:
        UserError: no completed run, one without margins or with a damaged file of them, runs that
            differ in more than their training, or no concept that all variants have.
    """
    jobs = newest(jobs)
    trained, untrained, concepts, variants = measured(jobs, draws)
    grid = Grid(f"{summary_line(jobs)} AUROC × 100.", HEADER, [], labels=1)
    for heading, rows in (("Fine-tuned", trained), ("Not trained", untrained)):
        grid.rows += [[StyledText(heading)], *(cells(row, concepts) for row in rows)]
        grid.data += [data(row, concepts) for row in rows]
    for variant, row, line in zip(variants, trained, grid.data, strict=False):
        sentence = verdict(variant, row.gain)
        grid.notes.append(sentence)
        line["verdict"] = sentence.text
    found = [row.evidence for row in trained]
    grid.notes += [StyledText(scope(found, concepts), "soft"), *left_out(jobs, found, concepts)]
    return grid


def verdict(variant: Variant, gain: Gain | None) -> StyledText:
    """Return in words whether knowledge was gained over bias alone: "learned: …"."""
    if gain is None:
        return StyledText(f"not measured: {variant.label}: margins that are not finite", "warn")
    text = f"{variant.label}, {_points(gain)} over bias alone"
    reasons = [reason for applies, reason in (
        (variant.is_exchanged, "each concept was taught with another one's description"),
        (variant.is_noise, "noise shows nothing of the concept")) if applies]
    if gain.is_positive and reasons:
        return StyledText(f"no knowledge: {text}: {' and '.join(reasons)}", "warn")
    if gain.is_positive:
        return StyledText(f"learned: {text}", "good")
    aside = " (no gain would be knowledge here: each concept was taught with another one's " \
            "description)" if variant.is_exchanged else ""
    compared = "less" if gain.high < 0 else "not more"
    return StyledText(f"{compared} than bias: {text}{aside}", "bad" if gain.high < 0 else "")


def _untrained(evidence: Evidence, concepts: Sequence[str], draws: int) -> list[Row]:
    phases = [phase for phase in UNTRAINED if evidence.has(phase, concepts)]
    return [Row(UNTRAINED[phase], phase, evidence,
                 None if phase == Phase.baseline else evidence.gain(phase, concepts, draws))
            for phase in phases]


def cells(row: Row, concepts: Sequence[str]) -> list[StyledText]:
    """Return the cells of a row under `HEADER`."""
    numbers = [row.evidence.mean(row.phase, concepts, split, metric)
                for split, metric in (("target", TARGET_AT_2), ("all", "auroc"),
                                      ("target", "accuracy"))]
    change = row.evidence.known_change(row.phase, concepts)
    gain = StyledText(_points(row.gain, unit="") if row.gain else MISSING,
                 "good" if row.gain and row.gain.is_positive else "")
    return [StyledText(row.label), *map(StyledText, map(shown, numbers)),
            StyledText(signed(change.mean) + _spread(change) if change else MISSING), gain,
            StyledText(str(len(row.evidence.cases)) if row.phase == Phase.transferred else "")]


def data(row: Row, concepts: Sequence[str]) -> dict[str, Any]:
    """Return the numbers of a row for the CSV."""
    numbers = {
        name: row.evidence.mean(row.phase, concepts, split, metric)
        for name, split, metric in ((TARGET_AT_2, "target", TARGET_AT_2), ("auroc", "all", "auroc"),
                                    ("target", "target", "accuracy"),
                                    ("known", "known", "accuracy"))
    } | {"known_change": row.evidence.known_change(row.phase, concepts)}
    found: dict[str, Any] = {"variant": row.label, "phase": str(row.phase)}
    for name, number in numbers.items():
        found |= {name: number and number.mean, f"{name}_std": number and number.std}
    gain = row.gain
    found |= {"gain": gain and 100 * gain.mean, "gain_low": gain and 100 * gain.low,
              "gain_high": gain and 100 * gain.high}
    jobs = [case.job for cases in row.evidence.cases.values() for case in cases.values()]
    return found | {"seeds": len(row.evidence.cases), "concepts": len(concepts), "verdict": None,
                   "paths": " ".join(dict.fromkeys(str(job.folder) for job in jobs))}


def scope(found: Sequence[Evidence], concepts: Sequence[str]) -> str:
    """Return in words what the numbers are means over."""
    seeds = min(len(one.cases) for one in found)
    alone = [what for what, count in (("concept", len(concepts)), ("seed", seeds)) if count == 1]
    limits = f" One {' and one '.join(alone)}: they say nothing about others." if alone else ""
    return (f"Means over {', '.join(concepts)}. Brackets: 95 % bootstrap intervals over images, "
            f"concepts and seeds.{limits}")


def left_out(jobs: Sequence[Job], found: Sequence[Evidence],
              concepts: Sequence[str]) -> list[StyledText]:
    """Name the runs that are not completed, and the concepts that some variant lacks."""
    notes = Footnotes()
    for job in jobs:
        if job.state != "completed":
            notes.mark(job.state, [job])
    missing = dict.fromkeys(name for one in found for cases in one.cases.values()
                            for name in cases if name not in concepts)
    lines = [StyledText(f"Left out, not measured in all runs: {', '.join(missing)}.", "warn")] \
        if missing else []
    return [*notes.lines, *lines]


def _points(gain: Gain, unit: str = " points") -> str:
    low, high = (signed(100 * bound).removeprefix("±") for bound in (gain.low, gain.high))
    return f"{signed(100 * gain.mean)}{unit} [{low}, {high}]"


def shown(number: Estimate | None) -> str:
    """Return "86.0", "86.0±2.1" over several seeds, or a dash."""
    return f"{number.mean:.1f}{_spread(number)}" if number else MISSING


def _spread(number: Estimate) -> str:
    return "" if number.std is None else f"±{number.std:.1f}"
