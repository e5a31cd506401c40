"""predictions.csv: what each image was taken for, before and after fine-tuning."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kt_exp.atomic import replace

FILE_NAME = "predictions.csv"
TOP = 5
SHOWN = 3  # of them in report.html, as in main text Fig. 2
COLUMNS = ("concept", "split", "path", "label", "correct_before", "correct_after",
           "margin_before", "margin_after", "top5_before", "scores_before",
           "probabilities_before", "top5_after", "scores_after", "probabilities_after")


@dataclass(frozen=True)
class Ranked:
    """The most likely candidates of N images, as indices.

    Attributes:
        labels: of each image `(N,)`.
        taken: what it is taken for `(N,)`.
        top: the K ≤ `TOP` candidates with the highest scores, best first `(N, K)`. Among equal
            scores another one than `taken` may come first.
        scores: theirs `(N, K)`.
        probabilities: theirs, by a softmax over all candidates at the model's logit scale `(N, K)`.
    """

    labels: NDArray[np.int64]
    taken: NDArray[np.int64]
    top: NDArray[np.int64]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each image is taken for its own label `(N,)`."""
        return self.labels == self.taken


@dataclass(frozen=True)
class PhasePredictions:
    """What one phase of one concept made of its images and of the known ones."""

    target: Ranked
    known: Ranked

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name: "target.top"."""
        return {f"{part}.{declared.name}": getattr(getattr(self, part), declared.name)
                for part in ("target", "known") for declared in fields(Ranked)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> PhasePredictions:
        """Return what `arrays` was called on."""
        return cls(*(Ranked(*(arrays[f"{part}.{declared.name}"] for declared in fields(Ranked)))
                     for part in ("target", "known")))


@dataclass(frozen=True)
class Guess:
    """A likely candidate of one image.

    Attributes:
        probability: in [0, 1], by a softmax over all candidates.
        is_concept: whether it is the concept that was taught.
        is_right: whether it is the image's own label.
    """

    name: str
    probability: float
    is_concept: bool
    is_right: bool


@dataclass(frozen=True)
class Guesses:
    """The likeliest candidates of one image before and after fine-tuning, best first."""

    before: Sequence[Guess]
    after: Sequence[Guess]


@dataclass(frozen=True)
class Change:
    """The predictions of one concept before and after, on the same images.

    Attributes:
        candidates: the names that indices refer to.
        paths: of the target and of the known images.
        margins: of target and known images, before and after: the score of the concept minus the
            best other one.
    """

    concept: str
    candidates: Sequence[str]
    before: PhasePredictions
    after: PhasePredictions
    paths: Mapping[str, Sequence[str]]
    margins: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]

    def changes(self, split: str) -> list[str]:
        """Return for each image of "target" or "known": "new", "lost", "kept" or "wrong".

        `new`: recognised after fine-tuning alone; `lost`: before alone; `kept`: both.
        """
        words = {(False, True): "new", (True, False): "lost", (True, True): "kept",
                 (False, False): "wrong"}
        before, after = getattr(self.before, split).right, getattr(self.after, split).right
        return [words[bool(one), bool(other)] for one, other in zip(before, after, strict=True)]

    def guesses(self, split: str) -> list[Guesses]:
        """Return the `SHOWN` likeliest candidates of each image of "target" or "known"."""
        before, after = getattr(self.before, split), getattr(self.after, split)
        return [Guesses(self._guesses(before, i), self._guesses(after, i))
                for i in range(len(after.labels))]

    def _guesses(self, ranked: Ranked, i: int) -> list[Guess]:
        return [Guess(self.candidates[index], float(probability),
                      self.candidates[index] == self.concept, index == ranked.labels[i])
                for index, probability in zip(ranked.top[i][:SHOWN], ranked.probabilities[i],
                                              strict=False)]

    def rows(self) -> Iterator[list[object]]:
        """Yield the rows of the CSV."""
        for split in ("target", "known"):
            before, after = getattr(self.before, split), getattr(self.after, split)
            for i, path in enumerate(self.paths[split]):
                margins = [f"{values[i]:.5f}" for values in self.margins[split]]
                label = self.candidates[after.labels[i]]
                yield [self.concept, split, path, label, int(before.right[i]), int(after.right[i]),
                       *margins, *self._top(before, i), *self._top(after, i)]

    def _top(self, ranked: Ranked, i: int) -> tuple[str, str, str]:
        return ("|".join(self.candidates[index] for index in ranked.top[i]),
                "|".join(f"{score:.4f}" for score in ranked.scores[i]),
                "|".join(f"{probability:.4f}" for probability in ranked.probabilities[i]))


def write_predictions(changes: Iterable[Change], folder: Path) -> Path:
    """Write one row per concept and image into `folder/predictions.csv`; return its path."""
    def write(draft: Path) -> None:
        with draft.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for change in changes:
                writer.writerows(change.rows())

    replace(folder / FILE_NAME, write)
    return folder / FILE_NAME
