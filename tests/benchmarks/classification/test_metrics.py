from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from kt_exp.benchmarks.classification.margins import embedding_margins
from kt_exp.benchmarks.classification.metrics import Scored, accuracy, measure
from kt_exp.benchmarks.classification.prompts import known_prompts, target_prompts
from kt_exp.benchmarks.embedding import Embedded, embed_images, text_classifier
from kt_exp.concepts import Concept
from kt_exp.data.image_files import ImageFiles
from kt_exp.results.outcome import Outcome, Phase


def embedded(rows, labels, skipped=()):
    unit = torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)
    return Embedded(unit, torch.tensor(labels), list(skipped))


def evaluate(known, targets, known_classes, concepts, names, index, phase, concept):
    candidates = torch.cat([known_classes, concepts])
    own, taught = len(known_classes) + index, range(len(known_classes), len(candidates))

    def scored(images):
        margins = embedding_margins(images.embeddings, candidates, [own], taught)
        return Scored(margins, images.labels, images.skipped)

    return measure(scored(known), scored(targets), names, own, phase, concept)


def test_accuracy_by_hand():
    found = accuracy(torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 0, 0, 1, 1]), classes=2)
    assert (found.correct, found.images, found.classes) == (4, 5, 2)
    assert found.overall == 4 / 5
    assert found.mean_per_class == pytest.approx((2 / 3 + 1) / 2)


def test_absent_classes_do_not_lower_the_mean_per_class():
    # Class 2 has no images, but one image of class 1 was taken for it; 3 and 4 play no part.
    predicted, labels = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 1])
    found = accuracy(predicted, labels, classes=5)
    assert (found.mean_per_class, found.classes) == (0.5, 2)
    assert multiclass_accuracy(predicted, labels, 5, average="macro") == pytest.approx(1 / 3)


def test_accuracy_agrees_with_torchmetrics_where_all_classes_have_images():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 7
    predicted = torch.randint(0, 7, (200,), generator=generator)
    found = accuracy(predicted, labels, classes=7)
    assert found.overall == pytest.approx(
        multiclass_accuracy(predicted, labels, 7, average="micro").item())
    assert found.mean_per_class == pytest.approx(
        multiclass_accuracy(predicted, labels, 7, average="macro").item())


KNOWN_CLASSES = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
NEW = torch.tensor([[0, 0, 1.0]])


def test_evaluate_counts_targets_and_what_they_were_taken_for():
    known = embedded([[1, 0, 0], [1, 0, 2], [0, 1, 0], [0, 1, 0]], [0, 0, 1, 1], ["bad.jpg"])
    targets = embedded([[0, 0, 1], [0, 0, 1], [2, 0, 1], [0, 0, 1]], [0, 0, 0, 0], ["cut.jpg"])
    outcome = evaluate(known, targets, KNOWN_CLASSES, NEW, ["apple", "lime", "moongate"], 0,
                       Phase.baseline, "moongate")
    rows = {(row.split, row.metric): row for row in outcome.metrics}
    target = rows["target", "accuracy"]
    assert (target.value, target.count, target.total) == (3 / 4, 3, 4)
    # One apple goes to the new concept: it counts against what was known.
    overall = rows["known", "accuracy"]
    assert (overall.value, overall.count, overall.total) == (3 / 4, 3, 4)
    per_class = rows["known", "mean_per_class_accuracy"]
    assert (per_class.value, per_class.count, per_class.total) == (3 / 4, None, 2)
    # That apple is right without the concept. Of two images of the concept that lie as near to
    # apple, γ gains one without loss.
    assert (rows["known", "known_only"].count, rows["target", "target_at_2"].count) == (4, 4)
    assert [(c.predicted, c.count) for c in outcome.confusions] == [("moongate", 3), ("apple", 1)]
    assert outcome.skipped == ["cut.jpg", "bad.jpg"]
    assert {(row.phase, row.concept) for row in outcome.metrics} == {("baseline", "moongate")}


def test_concepts_taught_together_compete():
    known = embedded([[1, 0, 0], [0, 1, 0]], [0, 1])
    targets = embedded([[0, 0, 1], [1, 1, 0]], [0, 0])
    both = torch.tensor([[0.7, 0.7, 0], [0, 0, 1.0]])
    names = ["apple", "lime", "madras", "floral"]
    found = {
        name: evaluate(known, targets, KNOWN_CLASSES, both, names, i, Phase.transferred, name)
        for i, name in enumerate(["madras", "floral"])
    }
    assert [found[name].metrics[0].count for name in found] == [1, 1]
    assert {c.predicted for c in found["floral"].confusions} == {"madras", "floral"}


def test_an_outcome_survives_json():
    known = embedded([[1, 0, 0], [0, 1, 0]], [0, 1])
    targets = embedded([[0, 0, 1]], [0])
    outcome = evaluate(known, targets, KNOWN_CLASSES, NEW, ["a", "b", "c"], 0,
                       Phase.name_prompt, "c")
    record = json.loads(json.dumps(outcome.to_json()))
    assert Outcome.from_json(record) == replace(outcome, margins=None)
    assert record["metrics"][0] == {
        "phase": "name_prompt", "concept": "c", "split": "target", "metric": "accuracy",
        "value": 1.0, "count": 1, "total": 1, "reason": None,
    }


@dataclass
class Colours:
    """A benchmark whose templates are colour-blind, so that names alone decide."""

    batch_size: int = 2
    workers: int = 0
    on_bad_image: str = "error"
    fix_articles: bool = True
    templates: list[str] = field(default_factory=lambda: ["a photo of a {}.", "the {}."])

    def known_names(self):
        return ["red", "green"]


def test_prompts_of_each_phase():
    concept = Concept("azure", "a blue surface", plural=False)
    assert known_prompts(Colours())[0] == ["a photo of a red.", "the red."]
    for phase in (Phase.baseline, Phase.transferred):
        assert target_prompts(Colours(), concept, phase) == ["a photo of an azure.", "the azure."]
    assert target_prompts(Colours(), concept, Phase.name_prompt) == ["azure"]
    assert target_prompts(Colours(), concept, Phase.description_prompt) == ["a blue surface"]
    assert target_prompts(Colours(), concept, Phase.name_and_description) == [
        "a photo of an azure.", "the azure.", "a blue surface", "a blue surface"]
    fruit = Concept("yuzu", "a round fruit with bumpy skin")
    assert target_prompts(Colours(), fruit, Phase.parts_prompt) == [
        "a photo of a round fruit.", "a photo of bumpy skin."]
    listed = Concept("yuzu", "a round fruit with bumpy skin", parts=("a leaf",))
    assert target_prompts(Colours(), listed, Phase.parts_prompt) == ["a photo of a leaf."]


def test_from_files_to_numbers(tmp_path, paint, colour_model, silent):
    files = [paint(tmp_path / f"{c}.png", c) for c in ("red", "green", "blue")]
    known = embed_images(colour_model, ImageFiles(tmp_path, files[:2], [0, 1]), Colours(), silent,
                         "known")
    targets = embed_images(colour_model, ImageFiles(tmp_path, files[2:], [0]), Colours(), silent,
                           "targets")
    classifier = text_classifier(colour_model, known_prompts(Colours()), 8, silent, "known")

    def target_accuracy(name, description, phase):
        concept = Concept(name, description, plural=False)
        prompts = [target_prompts(Colours(), concept, phase)]
        new = text_classifier(colour_model, prompts, 8, silent, "new")
        outcome = evaluate(known, targets, classifier, new, ["red", "green", name], 0, phase, name)
        return outcome.metrics[0].value

    assert target_accuracy("yellow", "a blue surface", Phase.baseline) == 0
    assert target_accuracy("yellow", "a blue surface", Phase.description_prompt) == 1
