"""predictions.csv: one row per concept and image, before and after fine-tuning."""

from __future__ import annotations

import csv

import numpy as np

from kt_exp.results.predictions import Change, PhasePredictions, Ranked, write_predictions

CANDIDATES = ["house", "wheel", "madras"]


def ranked(labels: list[int], top: list[list[int]]) -> Ranked:
    order = np.array(top)

    def falling(most: float, least: float) -> np.ndarray:
        values = np.linspace(most, least, order.shape[1], dtype=np.float32)
        return values[None].repeat(len(order), axis=0)

    return Ranked(np.array(labels), order[:, 0], order, falling(0.3, 0.1), falling(0.5, 0.1))


BEFORE = PhasePredictions(ranked([2, 2, 2], [[0, 2, 1], [2, 0, 1], [1, 0, 2]]),
                          ranked([0, 1], [[0, 1, 2], [1, 0, 2]]))
AFTER = PhasePredictions(ranked([2, 2, 2], [[2, 0, 1], [0, 2, 1], [1, 2, 0]]),
                         ranked([0, 1], [[2, 0, 1], [1, 0, 2]]))
CHANGE = Change("madras", CANDIDATES, BEFORE, AFTER,
                {"target": ["a.png", "b.png", "c.png"], "known": ["d.png", "e.png"]},
                {"target": (np.array([-0.1, 0.2, -0.3]), np.array([0.1, -0.2, -0.2])),
                 "known": (np.array([-0.2, -0.2]), np.array([0.1, -0.1]))})


def test_images_are_new_lost_kept_or_wrong() -> None:
    assert CHANGE.changes("target") == ["new", "lost", "wrong"]
    assert CHANGE.changes("known") == ["lost", "kept"]


def test_a_row_has_the_likeliest_names_before_and_after(tmp_path) -> None:
    with write_predictions([CHANGE], tmp_path).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert rows[0] == {
        "concept": "madras", "split": "target", "path": "a.png", "label": "madras",
        "correct_before": "0", "correct_after": "1", "margin_before": "-0.10000",
        "margin_after": "0.10000", "top5_before": "house|madras|wheel",
        "scores_before": "0.3000|0.2000|0.1000", "probabilities_before": "0.5000|0.3000|0.1000",
        "top5_after": "madras|house|wheel", "scores_after": "0.3000|0.2000|0.1000",
        "probabilities_after": "0.5000|0.3000|0.1000"}
    assert (rows[3]["split"], rows[3]["label"], rows[3]["correct_after"]) == ("known", "house", "0")


def test_guesses_tell_the_concept_and_the_image_s_own_name() -> None:
    guesses = CHANGE.guesses("known")[0]
    assert [guess.name for guess in guesses.before] == ["house", "wheel", "madras"]
    assert [guess.is_right for guess in guesses.before] == [True, False, False]
    assert [guess.name for guess in guesses.after] == ["madras", "house", "wheel"]
    assert [guess.is_concept for guess in guesses.after] == [True, False, False]
    assert [round(guess.probability, 2) for guess in guesses.after] == [0.5, 0.3, 0.1]


def test_arrays_hold_all_there_is() -> None:
    again = PhasePredictions.of_arrays(AFTER.arrays())
    assert np.array_equal(again.target.top, AFTER.target.top)
    assert np.array_equal(again.known.right, AFTER.known.right)
