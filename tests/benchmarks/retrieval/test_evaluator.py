"""Retrieval in a world of plain colours, and of real photos by the embedded PictoCLIP."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fixtures.configs import preset

from kt_exp.benchmarks import pairs
from kt_exp.concepts import Concept
from kt_exp.config.plugins import build
from kt_exp.errors import UserError
from kt_exp.models.factory import load_model
from kt_exp.models.protocol import DualEncoder, EmbeddedCaptions, PairMatcher
from kt_exp.models.weights import Weights
from kt_exp.pictograms.weights import PictoClip
from kt_exp.results.outcome import JOINT
from kt_exp.store import Store

COCO = Path(__file__).parents[2] / "data" / "coco"
DOG, CAT = Concept("dog", "a pet that barks", False), Concept("cat", "a pet that purrs", False)
RED, GREEN, BLUE, YELLOW = [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1.0, 0]
COLOURS = {"red": RED, "green": GREEN, "blue": BLUE, "yellow": YELLOW}
RED_SEEN_AS_GREEN = {"weight": torch.tensor([[0, 1.0, 0], [1.0, 0, 0], [0, 0, 1.0]])}


def unused(*arguments):
    raise NotImplementedError


class Eyes:
    """Sees the mean colour of an image, through a matrix that fine-tuning may change."""

    device, image_size, max_text_tokens, logit_scale = torch.device("cpu"), 4, 77, torch.tensor(1.0)
    scorer = score = fingerprint = export = unused

    def __init__(self):
        self.module = torch.nn.Linear(3, 3, bias=False)
        self.module.load_state_dict({"weight": torch.eye(3)})
        self.seen = self.read = 0

    def towers(self):
        return {"visual": dict(self.module.named_parameters()), "text": {}}

    def to_tensor(self, image):
        return torch.from_numpy(np.array(image.resize((4, 4)))).permute(2, 0, 1).float() / 255

    def count_tokens(self, caption):
        return len(caption.split())

    def see(self, images):
        self.seen += len(images)
        return F.normalize(self.module(images.mean(dim=(2, 3))), dim=-1)

    def understand(self, captions):
        self.read += len(captions)
        return F.normalize(torch.tensor([COLOURS[text.split()[-1]] for text in captions]), dim=-1)


class TwoTowers(Eyes):
    def encode_image(self, images, normalize=True):
        return self.see(images)

    def encode_text(self, captions, normalize=True):
        return self.understand(captions)


class OneTower(Eyes):
    match = mask_words = masked_lm_loss = unused

    def embed_images(self, images):
        return self.see(images)[:, None]

    def embed_captions(self, captions):
        return EmbeddedCaptions(self.understand(captions)[:, None], torch.ones(len(captions), 1))

    def match_block(self, images, captions):
        return images[:, 0] @ captions.tokens[:, 0].T


def load(name="mscoco", **keys):
    files = {"captions": str(COCO / "dataset_coco.json"), "image_root": str(COCO), "workers": 0}
    return build(preset("benchmark", name, **{**files, **keys}), "benchmark")


@pytest.fixture
def colours(tmp_path, paint):
    """Benchmark keys of four images, each with two captions: "all red", "plain red" and so on."""
    for colour in COLOURS:
        paint(tmp_path / f"{colour}.png", colour)
    rows = [(f"{colour}.png", f"{word} {colour}") for colour in COLOURS for word in ("all", "very")]
    with (tmp_path / "captions.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([("file", "caption"), *rows])
    return {"captions": str(tmp_path / "captions.csv"), "image_root": str(tmp_path),
            "split": "all", "ks": [1, 2, 3], "batch_size": 3}


@pytest.fixture
def evaluator(tmp_path, silent):
    def make(model, benchmark):
        benchmark.check_concepts([DOG])
        return benchmark.evaluator(model, "model", Store(tmp_path / "store"), silent)

    return make


def numbers(outcome):
    return {row.metric: (row.count, row.total) for row in outcome.metrics}


@pytest.mark.parametrize("kind", [TwoTowers, OneTower])
def test_both_kinds_of_model_retrieve_before_and_after(kind, colours, evaluator):
    found = evaluator(kind(), load(**colours))
    [before] = found.untrained([DOG])
    assert numbers(before) == {"text_R@1": (4, 4), "text_R@2": (4, 4), "text_R@3": (4, 4),
                               "image_R@1": (8, 8), "image_R@2": (8, 8), "image_R@3": (8, 8)}
    # Then the red image looks green, and the green one red: yellow comes before the right one.
    [after] = found.transferred([DOG], Weights("trained", RED_SEEN_AS_GREEN))
    assert numbers(after) == {"text_R@1": (2, 4), "text_R@2": (2, 4), "text_R@3": (2, 4),
                              "image_R@1": (4, 8), "image_R@2": (4, 8), "image_R@3": (4, 8)}
    assert {(row.phase, row.concept, row.split) for row in after.metrics} == {
        ("transferred", "dog", "all")}
    assert [row.value for row in after.metrics] == [0.5] * 6
    assert "text retrieval: 2 of 4 queries have a wrong" in after.notes[0]


def test_concepts_taught_together_share_one_number(colours, evaluator):
    found = evaluator(TwoTowers(), load(**colours))
    assert {row.concept for row in found.untrained([DOG, CAT])[0].metrics} == {JOINT}


@pytest.mark.parametrize("kind", [TwoTowers, OneTower])
def test_what_was_measured_once_is_not_measured_again(kind, colours, evaluator):
    first = evaluator(kind(), load(**colours))
    outcomes = [first.untrained([DOG]),
                first.transferred([DOG], Weights("trained", RED_SEEN_AS_GREEN))]
    assert first.reused == 0
    model = kind()
    again = evaluator(model, load(**colours))
    assert [again.untrained([DOG]), again.transferred([DOG], Weights("trained", {}))] == outcomes
    assert (again.reused, model.seen, model.read) == (2, 0, 0)
    other_ks = evaluator(model, load(**{**colours, "ks": [2]})).untrained([DOG])[0]
    assert (numbers(other_ks), model.seen) == ({"text_R@2": (4, 4), "image_R@2": (8, 8)}, 0)
    evaluator(model, load(**colours, captions_per_image=1)).untrained([DOG])
    assert (model.seen, model.read) == (4, 4)


def test_what_training_left_as_it_was_is_embedded_once(colours, evaluator):
    model = TwoTowers()
    found = evaluator(model, load(**colours))
    found.untrained([DOG])
    found.transferred([DOG], Weights("trained", RED_SEEN_AS_GREEN))
    assert (model.seen, model.read) == (8, 8)  # all images twice, all captions once


@pytest.mark.parametrize("kind", [TwoTowers, OneTower])
def test_a_caption_of_two_images_is_read_once_and_ties_exactly(kind, colours, evaluator):
    class Rounding(kind):
        """What it makes of a caption depends a little on what is read along with it."""

        def understand(self, captions):
            return super().understand(captions) + 0.01 * len(captions)

    rows = ["red.png,all red", "green.png,all green", "yellow.png,all blue", "blue.png,all blue"]
    Path(colours["captions"]).write_text("\n".join(["file,caption", *rows]))
    model = Rounding()
    [outcome] = evaluator(model, load(**colours)).untrained([DOG])
    assert model.read == 3
    assert numbers(outcome) == {"text_R@1": (2, 4), "text_R@2": (3, 4), "text_R@3": (3, 4),
                                "image_R@1": (3, 4), "image_R@2": (4, 4), "image_R@3": (4, 4)}
    assert outcome.notes[0].startswith("text retrieval: 2 of 4 queries have a wrong candidate")


def test_a_killed_run_over_pairs_goes_on_and_finds_the_same(colours, evaluator, monkeypatch):
    class Killed(OneTower):
        def match_block(self, images, captions):
            if self.seen > 2:
                raise KeyboardInterrupt
            return super().match_block(images, captions)

    monkeypatch.setattr(pairs, "SAVE_SECONDS", 0.0)
    benchmark = load(**{**colours, "batch_size": 1})
    with pytest.raises(KeyboardInterrupt):
        evaluator(Killed(), benchmark).untrained([DOG])
    model = OneTower()
    found = evaluator(model, benchmark)
    [resumed] = found.untrained([DOG])
    assert (model.seen, found.reused) == (2, 0)
    assert numbers(resumed)["image_R@1"] == (8, 8)
    assert found.store.keys(pairs.KIND) == []  # the scores are gone once the ranks are kept


@pytest.mark.parametrize("kind", [TwoTowers, OneTower])
def test_a_skipped_image_takes_its_captions_along(kind, colours, evaluator):
    bad = Path(colours["image_root"]) / "green.png"
    bad.write_text("not a picture")
    with pytest.raises(UserError, match=r"green\.png"):
        evaluator(kind(), load(**colours)).untrained([DOG])
    [outcome] = evaluator(kind(), load(**colours, on_bad_image="skip")).untrained([DOG])
    assert outcome.skipped == [str(bad)]
    assert numbers(outcome)["text_R@1"] == (3, 3)
    assert numbers(outcome)["image_R@1"] == (6, 6)
    assert "image_R@3 is 1 for any model: there are 3 images" in outcome.notes


def test_captions_too_long_for_the_model_are_counted(colours, evaluator):
    model = TwoTowers()
    model.max_text_tokens = 1
    [outcome] = evaluator(model, load(**colours)).untrained([DOG])
    assert outcome.notes[0] == "8 of 8 captions cut to the model's 1 tokens"


def test_real_photos_are_ranked_as_by_the_whole_matrix(evaluator):
    model = load_model(PictoClip(), torch.device("cpu"), "fp32")
    benchmark = load("flickr30k", ks=[1, 3])
    [outcome] = evaluator(model, benchmark).untrained([DOG])
    images = benchmark.images
    pixels = torch.stack([model.to_tensor(images.open(i)) for i in range(len(images))])
    texts = [caption for some in images.captions for caption in some]
    with torch.no_grad():
        similar = model.encode_image(pixels) @ model.encode_text(texts).T
    owner = torch.arange(6).repeat_interleave(5)
    for k in (1, 3):
        top_texts, top_images = similar.topk(k, dim=1).indices, similar.topk(k, dim=0).indices
        by_text = sum(i in owner[top_texts[i]] for i in range(6))
        by_image = sum(owner[t] in top_images[:, t] for t in range(30))
        assert numbers(outcome)[f"text_R@{k}"] == (by_text, 6)
        assert numbers(outcome)[f"image_R@{k}"] == (by_image, 30)


def test_it_has_no_classes_and_no_pictures_of_concepts(colours, evaluator, tmp_path):
    benchmark = load(**colours)
    assert benchmark.known_prompts() == benchmark.examples(DOG, 8) == []
    assert evaluator(TwoTowers(), benchmark).panels([], tmp_path) == {}


def test_the_test_models_are_what_they_stand_for():
    assert isinstance(TwoTowers(), DualEncoder)
    assert isinstance(OneTower(), PairMatcher)
    assert not isinstance(OneTower(), DualEncoder)


def test_what_cannot_be_measured_is_refused(colours, evaluator, tmp_path):
    def refusal(**keys):
        with pytest.raises(UserError) as caught:
            load(**{**colours, **keys}).check_concepts([DOG])
        return str(caught.value)

    assert refusal(captions="/nowhere.json").startswith("benchmark.captions: no such file")
    assert refusal(split="test").endswith("set benchmark.split=all")
    assert refusal(ks=[]) == "benchmark.ks: empty; give the numbers K of R@K, as [1,5,10]"
    assert refusal(ks=[0]).startswith("benchmark.ks: 0 is out of range")
    (tmp_path / "captions.csv").write_text("file,caption\nred.png,all red\n")
    assert "'red.png' is the only image" in refusal()
    with pytest.raises(UserError, match="Eyes cannot retrieve"):
        load().evaluator(Eyes(), "model", Store(tmp_path / "store"), None)
