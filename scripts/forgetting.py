"""Measure what a model forgets that is taught many concepts at once, in closed form.

    python scripts/forgetting.py
    python scripts/forgetting.py --concepts 1 10 --draws 1 finetune.edit.strength=1.3

Concepts are drawn from the set `pictograms_compositions`: random looks of the pictogram world under
names that PictoCLIP never met. Words with "=" are config overrides, as for kt-exp.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import kt_exp
from kt_exp.concepts import load_concepts
from kt_exp.results.record import RunRecord

SET = "concepts=pictograms_compositions"
QUIET = ["finetune.save_models=false"]
TOGETHER = ["finetune.scope=joint", "finetune.edit.strength=budget"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table that the command line asks for, in Markdown."""
    asked = _parse(arguments)
    names = [concept.name for concept in load_concepts(kt_exp.compose([SET]).concepts)]
    print("| concepts | draws | target | with the description as prompt | known, before → after | "
          "change |\n|---|---|---|---|---|---|")
    for count in asked.concepts:
        drawn = dict.fromkeys(tuple(random.Random(f"{count} {draw}").sample(names, count))
                              for draw in range(asked.draws))
        if count == len(names):
            drawn = {tuple(names): None}
        print(_row(count, [_run(chosen, asked.overrides) for chosen in drawn]), flush=True)


def _run(names: Sequence[str], overrides: Sequence[str]) -> RunRecord:
    with tempfile.TemporaryDirectory() as folder:
        chosen = f"concepts.only=[{','.join(names)}]"
        return kt_exp.run([SET, chosen, *QUIET, *TOGETHER, *overrides], folder=Path(folder) / "run")


def _row(count: int, records: Sequence[RunRecord]) -> str:
    def measured(phase: str, split: str) -> list[float]:
        return [fmean(100 * (row.value or 0) for row in record.metrics if row.metric == "accuracy"
                      and (row.phase, row.split) == (phase, split)) for record in records]

    before, after = measured("baseline", "known"), measured("transferred", "known")
    change = [late - early for early, late in zip(before, after, strict=True)]
    cells = [str(count), str(len(records)), _shown(measured("transferred", "target")),
             _shown(measured("description_prompt", "target")),
             f"{fmean(before):.1f} → {fmean(after):.1f} %", f"{_shown(change, signed=True)}"]
    return f"| {' | '.join(cells)} |"


def _shown(values: Sequence[float], signed: bool = False) -> str:
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    number = f"{fmean(values):+.1f}" if signed else f"{fmean(values):.1f}"
    return f"{number}{spread}{'' if signed else ' %'}".replace("-", "\N{MINUS SIGN}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--concepts", type=int, nargs="+", default=[1, 10, 35])
    parser.add_argument("--draws", type=int, default=5, help="of the concepts")
    parser.add_argument("overrides", nargs="*", help="config overrides, as for kt-exp")
    return parser.parse_intermixed_args(arguments)


if __name__ == "__main__":
    main()
