"""A closed set of classes, in the world of plain colours: concepts in the set and beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.configs import preset

from kt_exp.benchmarks.classification.calibration import calibrate_model
from kt_exp.benchmarks.classification.closed_set import ClassSetBenchmark, alternatives
from kt_exp.benchmarks.classification.closed_set_evaluator import ClassSetEvaluator, class_scores
from kt_exp.concepts import Concept
from kt_exp.config.plugins import build
from kt_exp.errors import UserError
from kt_exp.models.weights import FROZEN
from kt_exp.results.outcome import JOINT
from kt_exp.store import Store

RED, BLUE = Concept("red", "like a blue sky"), Concept("blue", "a blue sky")
YELLOW = Concept("yellow", "a yellow lemon")


def load(**keys) -> ClassSetBenchmark:
    benchmark = build(preset("benchmark", "chexpert", **{"workers": 0, **keys}), "benchmark")
    assert isinstance(benchmark, ClassSetBenchmark)
    return benchmark


@pytest.fixture
def root(tmp_path, paint) -> str:
    """Three classes of three images; one image of green is red."""
    for name in ("blue", "green", "red"):
        for number in range(3):
            paint(tmp_path / "set" / name / f"{number}.png", name)
    paint(tmp_path / "set" / "green" / "2.png", "red")
    return str(tmp_path / "set")


@pytest.fixture
def evaluator(tmp_path, colour_model, silent):
    colour_model.towers = lambda: {"visual": {}, "text": {}}

    def make(benchmark: ClassSetBenchmark) -> ClassSetEvaluator:
        return ClassSetEvaluator(colour_model, "colours", benchmark.task(),
                                 Store(tmp_path / "store"), silent)

    return make


def table(outcomes):
    return {(row.phase, row.concept, row.split): (row.count, row.total)
            for outcome in outcomes for row in outcome.metrics if row.metric == "accuracy"}


def test_a_taught_class_is_a_class_of_the_set(root, evaluator):
    benchmark = load(known_root=root)
    benchmark.check_concepts([RED])
    rows = table(evaluator(benchmark).untrained([RED]))
    assert rows["baseline", "red", "target"] == (3, 3)
    assert rows["baseline", "red", "known"] == (5, 6)
    assert rows["baseline", "red", "all"] == (8, 9)


def test_a_made_up_word_takes_the_place_of_the_class_it_stands_for(root, evaluator):
    benchmark, word = load(known_root=root), Concept("yellow", "a red ball", images_of="red")
    benchmark.check_concepts([word])
    assert benchmark.known_prompts() == [["a chest X-ray showing blue."],
                                         ["a chest X-ray showing green."]]
    rows = table(evaluator(benchmark).untrained([word]))
    assert rows["description_prompt", "yellow", "target"] == (3, 3)
    assert rows["description_prompt", "yellow", "known"] == (5, 6)
    with pytest.raises(UserError, match="'blue' is also a known class"):
        benchmark.check_concepts([Concept("blue", "a red ball", images_of="red")])


def test_the_description_stands_for_its_class_alone(root, evaluator):
    # "like a blue sky" is as near to blue as the class blue is, and comes after it.
    rows = table(evaluator(load(known_root=root)).untrained([RED]))
    assert rows["description_prompt", "red", "target"] == (0, 3)
    assert rows["description_prompt", "red", "known"] == (5, 6)


def test_classes_taught_together_have_one_accuracy_over_all_images(root, evaluator):
    concepts = [RED, BLUE, Concept("green", "green grass")]
    outcomes = evaluator(load(known_root=root)).untrained(concepts)
    rows = table(outcomes)
    assert rows["baseline", "green", "target"] == (2, 3)
    assert rows["baseline", JOINT, "all"] == (8, 9)
    assert sum(row.split == "all" and row.phase == "baseline" and row.metric == "accuracy"
               for outcome in outcomes for row in outcome.metrics) == 1
    assert not any(split == "known" for _, _, split in rows)
    mean = next(row for row in outcomes[0].metrics if row.metric == "mean_per_class_accuracy")
    assert (mean.value, mean.total) == (pytest.approx((1 + 1 + 2 / 3) / 3), 3)


def test_what_the_images_of_a_class_were_taken_for(root, evaluator):
    outcome = evaluator(load(known_root=root)).untrained([Concept("green", "green grass")])[0]
    assert {(row.predicted, row.count) for row in outcome.confusions} == {("green", 2), ("red", 1)}


def test_a_concept_beside_the_set_is_one_candidate_more(root, evaluator, tmp_path, paint):
    paint(tmp_path / "more" / "yellow" / "a.png", "yellow")
    benchmark = load(known_root=root, target_root=str(tmp_path / "more"))
    benchmark.check_concepts([YELLOW])
    rows = table(evaluator(benchmark).untrained([YELLOW]))
    assert rows["baseline", "yellow", "target"] == (1, 1)
    assert rows["baseline", "yellow", "known"] == (8, 9)
    assert not any(split == "all" for _, _, split in rows)


def test_a_second_time_comes_from_the_store(root, evaluator, colour_model):
    first = evaluator(load(known_root=root)).untrained([RED])
    colour_model.batches.clear()
    again = evaluator(load(known_root=root))
    assert table(again.untrained([RED])) == table(first)
    assert (again.reused, colour_model.batches) == (5, [])


def test_other_prompts_are_another_evaluation(root, evaluator):
    evaluator(load(known_root=root)).untrained([RED])
    other = evaluator(load(known_root=root, class_prompts={"red": ["blue"]}))
    rows = table(other.untrained([RED]))
    assert rows["baseline", "red", "target"] == (0, 3)
    assert rows["name_prompt", "red", "target"] == (3, 3)


def test_several_prompts_per_class(root):
    benchmark = load(known_root=root, class_prompts={"Red": ["{|dark|light} red", "crimson"]})
    assert benchmark.class_set_prompts == [
        ["a chest X-ray showing blue."], ["a chest X-ray showing green."],
        ["red", "dark red", "light red", "crimson"]]
    assert alternatives("a{b|c}{ d|}") == ["ab d", "ab", "ac d", "ac"]


def test_ways_to_join_the_prompts_of_a_class():
    image = torch.tensor([[1.0, 0.0]])
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[0.8, 0.6]])
    assert class_scores(image, [first, second], "max").tolist() == [[1.0, pytest.approx(0.8)]]
    assert class_scores(image, [first, second], "mean").tolist() == [[0.5, pytest.approx(0.8)]]
    assert class_scores(image, [first, second], "embedding").tolist() == [
        [pytest.approx(0.5**0.5), pytest.approx(0.8)]]


def test_fine_tuning_contrasts_with_the_classes_that_are_not_taught(root):
    benchmark = load(known_root=root)
    benchmark.check_concepts([RED])
    assert benchmark.known_prompts() == [["a chest X-ray showing blue."],
                                         ["a chest X-ray showing green."]]


def test_a_labels_csv(root, tmp_path, evaluator):
    rows = [f"set/{name}/{n}.png,{name}" for n in range(3) for name in ("red", "green", "blue")]
    path = tmp_path / "labels.csv"
    path.write_text("file,class\n" + "\n".join(rows) + "\n")
    benchmark = load(labels_csv=str(path))
    benchmark.check_concepts([RED])
    assert table(evaluator(benchmark).untrained([RED]))["baseline", "red", "all"] == (8, 9)
    assert len(benchmark.target_images(RED)) == 3
    path.write_text("file,class\nset/red/7.png,red\n")
    with pytest.raises(UserError, match=r"labels.csv line 2: no such file"):
        load(labels_csv=str(path)).check_concepts([RED])


def test_unreadable_images_are_left_out_and_named(root, evaluator, truncated):
    bad = truncated(Path(root) / "red" / "3.jpg")
    outcome = evaluator(load(known_root=root, on_bad_image="skip")).untrained([RED])[0]
    assert table([outcome])["baseline", "red", "target"] == (3, 3)
    assert outcome.skipped == [str(bad)]


def test_what_cannot_be_evaluated_is_refused(root, tmp_path):
    def refusal(concept=RED, **keys):
        with pytest.raises(UserError) as caught:
            load(**{"known_root": root, **keys}).check_concepts([concept])
        return str(caught.value)

    assert refusal(YELLOW).startswith(
        "concepts: 'yellow' is not a class of the set (there are: blue, green, red)")
    assert "has no folder 'yellow'" in refusal(YELLOW, target_root=root)
    assert "benchmark.class_prompts: 'pink' is not a class" in refusal(
        class_prompts={"pink": ["pink"]})
    assert "braces in '{a' do not fit" in refusal(class_prompts={"red": ["{a"]})
    assert "benchmark.known_root: both are given" in refusal(labels_csv="labels.csv")
    assert "no images of the classes" in refusal(known_root=None)
    assert "benchmark.labels_csv: no such file" in refusal(known_root=None, labels_csv="/none")
    for image in (Path(root) / "blue").iterdir():
        image.unlink()
    assert f"no images of 'blue' in {root}/blue (found: nothing);" in refusal()


def test_a_model_without_embeddings_is_refused(root, tmp_path, silent):
    with pytest.raises(UserError, match="choose a dual encoder"):
        load(known_root=root).evaluator(object(), "x", Store(tmp_path), silent)


def test_a_constant_is_chosen_on_other_images_of_the_classes_that_are_not_taught(
        root, evaluator, tmp_path, paint):
    for name in ("blue", "green", "red"):
        paint(tmp_path / "more" / name / "a.png", name)
    benchmark = load(known_root=root, calibration_root=str(tmp_path / "more"))
    benchmark.check_concepts([RED])
    made = evaluator(benchmark)
    calibration = calibrate_model(made, [RED], FROZEN, 0.0)
    point = calibration.point
    assert (point.known_total, point.known_correct, calibration.images) == (2, 2, "benchmark")
    assert point.gamma == pytest.approx(1)  # blue and green have the score 1, red has 0
    *_, outcome = made.transferred([RED], FROZEN, calibration)
    assert table([outcome]) == {
        ("calibrated", "red", "target"): (3, 3), ("calibrated", "red", "known"): (5, 6),
        ("calibrated", "red", "all"): (8, 9)}
    assert outcome.curve is None
    higher = replace(calibration, point=replace(point, gamma=1.5))
    *_, outcome = made.transferred([RED], FROZEN, higher)
    assert table([outcome])["calibrated", "red", "known"] == (0, 6)


def test_where_every_class_is_taught_there_is_no_constant(root, evaluator, tmp_path, paint):
    paint(tmp_path / "more" / "red" / "a.png", "red")
    green = Concept("green", "a green leaf")
    benchmark = load(known_root=root, calibration_root=str(tmp_path / "more"))
    benchmark.check_concepts([RED, BLUE, green])
    made, group = evaluator(benchmark), [RED, BLUE, green]
    calibration = calibrate_model(made, group, FROZEN, 0.01)
    assert calibration.point.reason == "no known images to calibrate on"
    outcomes = made.transferred(group, FROZEN, calibration)
    assert [row.value for outcome in outcomes[3:] for row in outcome.metrics] == [None] * 6
