"""What a dataclass becomes a benchmark by: prompts, examples, and who evaluates which model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from kt_exp.benchmarks.classification.benchmark import ClassificationTask, zero_shot_task
from kt_exp.benchmarks.classification.evaluator import EmbeddingEvaluator
from kt_exp.benchmarks.classification.pair_evaluator import PairEvaluator
from kt_exp.benchmarks.prepared import PreparedImages
from kt_exp.concepts import Concept
from kt_exp.data.image_files import ImageFiles
from kt_exp.data.targets import read_target
from kt_exp.errors import UserError
from kt_exp.models.protocol import DualEncoder, PairMatcher
from kt_exp.models.weights import FROZEN
from kt_exp.store import Store

RED = Concept("red", "the colour of roses")


@dataclass
class Photos(ClassificationTask):
    root: Path
    templates: list[str] = field(default_factory=lambda: ["a photo of a {}.", "the {}."])
    fix_articles: bool = True
    batch_size: int = 2
    workers: int = 0
    on_bad_image: str = "error"

    def known_names(self):
        return ["orange", "lime"]

    def known_images(self):
        return ImageFiles(self.root, [], [])

    def target_images(self, concept):
        return read_target(self.root, concept)


def model_of(protocol) -> SimpleNamespace:
    """Something with every member that a protocol asks for."""
    names = [name for kind in protocol.__mro__ for name in vars(kind) | _annotated(kind)
             if not name.startswith("_")]
    return SimpleNamespace(**dict.fromkeys(names, print))


def _annotated(kind) -> dict:
    return getattr(kind, "__annotations__", {})


def test_every_known_class_has_every_template(tmp_path):
    assert Photos(tmp_path).known_prompts() == [
        ["a photo of an orange.", "the orange."], ["a photo of a lime.", "the lime."]]


def test_examples_are_the_first_readable_images(tmp_path, paint, truncated):
    truncated(tmp_path / "red" / "0.jpg")
    for number in range(1, 5):
        paint(tmp_path / "red" / f"{number}.png")
    benchmark = Photos(tmp_path)
    assert len(benchmark.examples(RED, 3)) == 2
    assert len(benchmark.examples(RED, 10)) == 4
    assert benchmark.examples(RED, 10)[0].getpixel((0, 0)) == (255, 0, 0)


def test_calibration_images_are_embedded_by_given_weights(tmp_path, paint, colour_model, silent):
    class Calibrated(Photos):
        def calibration_images(self):
            return ImageFiles(tmp_path, [paint(tmp_path / "a.png", "green")], [1])

    colour_model.towers = lambda: {"visual": {}, "text": {}, "visual_projection": {}}
    evaluator = EmbeddingEvaluator(colour_model, "weights", zero_shot_task(Calibrated(tmp_path)),
                                   Store(tmp_path / "store"), silent)
    found = evaluator.calibration_embeddings(FROZEN)
    assert found.labels.tolist() == [1]
    assert torch.equal(found.embeddings, colour_model.encode_image(
        colour_model.to_tensor(Image.open(tmp_path / "a.png"))[None]))


def test_inverted_images_replace_calibration_images_that_a_task_lacks(tmp_path, colour_model,
                                                                      silent):
    colour_model.towers = lambda: {"visual": {}, "text": {}, "visual_projection": {}}
    evaluator = EmbeddingEvaluator(colour_model, "weights", zero_shot_task(Photos(tmp_path)),
                                   Store(tmp_path / "store"), silent)
    with pytest.raises(ValueError, match="no calibration images"):
        evaluator.calibration_embeddings(FROZEN)
    pixels = torch.rand(3, 3, 4, 4) * 2  # as they are, also beyond 1
    evaluator.inverted = PreparedImages(pixels, [0, 1, 1], "key")
    found = evaluator.calibration_embeddings(FROZEN)
    assert found.labels.tolist() == [0, 1, 1]
    assert torch.equal(found.embeddings, colour_model.encode_image(pixels))


@pytest.mark.parametrize(("protocol", "kind"), [
    (DualEncoder, EmbeddingEvaluator), (PairMatcher, PairEvaluator)])
def test_dual_encoders_classify_by_embeddings_and_pair_matchers_by_pairs(
    protocol, kind, tmp_path, silent
):
    model = model_of(protocol)
    evaluator = Photos(tmp_path).evaluator(model, "weights", Store(tmp_path), silent)
    assert type(evaluator) is kind
    assert evaluator.model is model
    assert (evaluator.reused, evaluator.panels([], tmp_path)) == (0, {})


def test_what_is_neither_cannot_classify(tmp_path, silent):
    with pytest.raises(UserError, match=r"^model: SimpleNamespace cannot classify images; choose"):
        Photos(tmp_path).evaluator(SimpleNamespace(), "weights", Store(tmp_path), silent)
