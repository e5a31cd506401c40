"""Captioning: metrics of real captions, and an evaluator that writes, scores and keeps them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.configs import preset
from PIL import Image
from torchvision.transforms.functional import to_tensor

from kt_exp.benchmarks.captioning import evaluator as captioning_stage
from kt_exp.benchmarks.captioning.benchmark import CaptioningBenchmark
from kt_exp.benchmarks.captioning.evaluator import CaptioningEvaluator
from kt_exp.benchmarks.captioning.metrics import (
    CaptionScores,
    find_metrics,
    java_version,
    why_no_spice,
)
from kt_exp.concepts import Concept
from kt_exp.config.plugins import build
from kt_exp.data.captioned import read_captioned
from kt_exp.errors import UserError
from kt_exp.models.protocol import GenerationSettings
from kt_exp.models.weights import Weights
from kt_exp.results.outcome import JOINT
from kt_exp.store import Store

pytestmark = pytest.mark.slow

COCO = Path(__file__).parents[2] / "data" / "coco"
KITE, BATH = Concept("kite", "a toy that flies"), Concept("bath", "a tub of water")
CHANGED = {"choice": torch.tensor(1)}
needs_java = pytest.mark.skipif(java_version() is None, reason="no Java on this machine")


def coco_images(root: Path = COCO):
    return read_captioned(COCO / "captions.csv", root, "test", "benchmark.captions")


class Parrot:
    """Knows the test images by heart: says the first caption of each, or that of its `choice`."""

    device, image_size, max_text_tokens = torch.device("cpu"), 2, 20

    def __init__(self) -> None:
        self.module = torch.nn.Module()
        self.module.register_buffer("choice", torch.tensor(0))
        self.said = 0
        images = coco_images()
        self.known = {self._key(self.to_tensor(images.open(index))): captions
                      for index, captions in enumerate(images.captions)}

    def to_tensor(self, image: Image.Image) -> torch.Tensor:
        return to_tensor(image.resize((2, 2)))

    def generate(self, images: torch.Tensor, settings: GenerationSettings) -> list[str]:
        self.said += len(images)
        return [self.known[self._key(image)][int(self.module.choice)] for image in images]

    def _key(self, image: torch.Tensor) -> tuple[float, ...]:
        return tuple(image.flatten().tolist())


class WordCounts:
    """Stands for the metrics where they do not matter: METEOR is a hundredth per word."""

    def __init__(self, with_spice: bool = False, failure: str | None = None) -> None:
        self.with_spice, self.why_no_spice, self.failure = with_spice, None, failure
        self.calls = 0

    def score(self, generated, references, progress) -> CaptionScores:
        self.calls += 1
        each = [len(caption.split()) / 100 for caption in generated]
        mean = sum(each) / len(each)
        return CaptionScores(0.5, mean, 1.5, 0.25 if self.with_spice and not self.failure else None,
                             self.failure, each)


@pytest.fixture
def benchmark_of(tmp_path):
    def make(**changes) -> CaptioningBenchmark:
        values = {"captions": str(COCO / "captions.csv"), "image_root": str(COCO), "workers": 0,
                  "batch_size": 2, **changes}
        return build(preset("benchmark", "mscoco_captioning", **values), "benchmark")

    return make


@pytest.fixture
def evaluator_of(benchmark_of, tmp_path, silent):
    store = Store(tmp_path / "store")

    def make(metrics=None, images=None, **changes) -> CaptioningEvaluator:
        benchmark = benchmark_of(**changes)
        return CaptioningEvaluator(Parrot(), "parrot", images or benchmark.images,
                                   metrics or WordCounts(), benchmark, store, silent)

    return make


def values(outcome):
    return {row.metric: row.value for row in outcome.metrics}


@needs_java
def test_scores_of_real_captions_are_pycocoevalcaps(silent):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captions = coco_images().captions
    generated = [captions[0][0], captions[1][1], captions[2][1], captions[3][1],
                 " \x85weird ||| 💣\u2028(it's) 3/4 “Über” ", ""]
    references = [captions[0], *(some[:1] + some[2:] for some in captions[1:])]
    found = find_metrics("off").score(generated, references, silent)

    def tokenize(texts):
        return PTBTokenizer().tokenize({
            index: [{"caption": " ".join(text.split())} for text in some]
            for index, some in enumerate(texts)})

    truth, said = tokenize(references), tokenize([[caption] for caption in generated])
    assert found.bleu4 == Bleu(4).compute_score(truth, said, verbose=0)[0][3]
    assert found.cider == Cider().compute_score(truth, said)[0]
    assert found.meteor_each[0] == 1
    assert all(0.1 < value < 0.9 for value in found.meteor_each[1:4])
    assert found.meteor_each[4:] == [0, 0]
    assert 0.1 < found.meteor < 0.9
    assert found.spice is found.spice_failure is None


@needs_java
def test_who_says_what_people_say_scores_1(evaluator_of):
    [outcome] = evaluator_of(find_metrics("off")).untrained([KITE])
    assert values(outcome)["BLEU@4"] == pytest.approx(1)
    assert values(outcome)["METEOR"] == 1
    assert values(outcome)["CIDEr"] > 1
    assert [score.value for score in outcome.per_image] == [1] * 6


@pytest.mark.parametrize(("java", "jar", "memory", "online", "why"), [
    (11, True, 16, False, None),
    (8, False, 8, True, None),
    (17, True, 16, True, "runs on Java 8 to 15, this is Java 17"),
    (11, True, 4, True, "needs 8 GiB of memory, this machine has 4.0"),
    (11, False, 16, False, "CoreNLP is not in"),
])
def test_what_keeps_spice_from_running_is_known_before(tmp_path, java, jar, memory, online, why):
    if jar:
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "stanford-corenlp-3.6.0.jar").touch()
    found = why_no_spice(java, tmp_path, memory * 2**30, lambda: online)
    assert found == why or (found and why in found)


def test_without_java_or_pycocoevalcap_nothing_begins(benchmark_of, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"no Java on this machine.*install one"):
        benchmark_of().check_concepts([KITE])
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    with pytest.raises(UserError, match=r"pip install 'kt_exp\[captioning\]'"):
        benchmark_of().check_concepts([KITE])


def test_each_phase_says_its_own_captions(evaluator_of):
    evaluator = evaluator_of()
    [before] = evaluator.untrained([KITE])
    [after] = evaluator.transferred([KITE], Weights("taught", CHANGED))
    images = coco_images()
    for outcome, phase, choice in ((before, "baseline", 0), (after, "transferred", 1)):
        assert [score.text for score in outcome.per_image] \
            == [captions[choice] for captions in images.captions]
        assert [score.image for score in outcome.per_image] == images.names
        assert {(row.phase, row.concept, row.split, row.total) for row in outcome.metrics} \
            == {(phase, "kite", "all", 6)}
        assert values(outcome).keys() == {"BLEU@4", "METEOR", "CIDEr"}
    assert evaluator.model.module.choice == 0
    [joint] = evaluator.transferred([KITE, BATH], Weights("taught", CHANGED))
    assert joint.metrics[0].concept == JOINT


def test_what_is_kept_is_not_done_again(evaluator_of):
    first = evaluator_of()
    before, after = first.untrained([KITE]), first.transferred([KITE], Weights("taught", CHANGED))
    again = evaluator_of()
    assert again.untrained([KITE]) == before
    assert again.transferred([KITE], Weights("taught", CHANGED)) == after
    assert (again.reused, again.model.said, again.metrics.calls) == (2, 0, 0)
    # SPICE may become available later: the captions are there already.
    later = evaluator_of(WordCounts(with_spice=True))
    assert values(later.untrained([KITE])[0])["SPICE"] == 0.25
    assert (later.reused, later.model.said, later.metrics.calls) == (0, 0, 1)


@pytest.mark.parametrize("changes", [
    {"generation": {"beams": 3}}, {"generation": {"max_tokens": 12}},
])
def test_other_generation_is_another_result(evaluator_of, changes):
    evaluator_of().untrained([KITE])
    other = evaluator_of(**changes)
    other.untrained([KITE])
    assert (other.reused, other.model.said) == (0, 6)


def test_a_killed_run_goes_on(evaluator_of, monkeypatch):
    monkeypatch.setattr(captioning_stage, "SAVE_SECONDS", 0)
    killed = evaluator_of()
    say = killed.model.generate

    def die_at_the_third_batch(images, settings):
        if killed.model.said == 4:
            raise KeyboardInterrupt
        return say(images, settings)

    monkeypatch.setattr(killed.model, "generate", die_at_the_third_batch)
    with pytest.raises(KeyboardInterrupt):
        killed.untrained([KITE])
    resumed = evaluator_of()
    [outcome] = resumed.untrained([KITE])
    assert resumed.model.said == 2
    assert [score.text for score in outcome.per_image] == [c[0] for c in coco_images().captions]


def test_a_failure_of_spice_costs_spice_alone_and_is_tried_again(evaluator_of):
    failing = evaluator_of(WordCounts(with_spice=True, failure="it failed (out of memory)"))
    [outcome] = failing.untrained([KITE])
    assert outcome.notes == ["SPICE unavailable: it failed (out of memory)"]
    assert values(outcome).keys() == {"BLEU@4", "METEOR", "CIDEr"}
    again = evaluator_of(WordCounts(with_spice=True))
    assert again.untrained([KITE])[0].notes == []
    assert again.metrics.calls == 1


def test_what_is_known_to_stand_in_the_way_of_spice_is_noted(evaluator_of):
    metrics = WordCounts()
    metrics.why_no_spice = "it runs on Java 8 to 15, this is Java 17"
    assert evaluator_of(metrics).untrained([KITE])[0].notes \
        == ["SPICE unavailable: it runs on Java 8 to 15, this is Java 17"]


def test_an_unreadable_image_is_left_out_with_its_captions(evaluator_of, tmp_path):
    images = coco_images()
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    images = replace(images, files=[images.files[0], bad, *images.files[2:]])
    [outcome] = evaluator_of(images=images, on_bad_image="skip").untrained([KITE])
    assert outcome.skipped == [str(bad)]
    assert [score.text for score in outcome.per_image] \
        == [captions[0] for i, captions in enumerate(images.captions) if i != 1]
    with pytest.raises(UserError, match=r"bad\.jpg"):
        evaluator_of(images=images).untrained([KITE])


def test_a_model_that_writes_no_captions_is_refused(benchmark_of, colour_model, tmp_path, silent):
    with pytest.raises(UserError, match="ColourModel writes no captions; choose a captioner"):
        benchmark_of().evaluator(colour_model, "", Store(tmp_path), silent)


def test_captions_are_not_to_be_longer_than_their_limit(benchmark_of):
    with pytest.raises(UserError, match=r"benchmark\.generation\.min_tokens: 9 is more than"):
        benchmark_of(generation={"min_tokens": 9, "max_tokens": 8})


def test_panels_show_who_gained_and_who_lost(evaluator_of, tmp_path):
    evaluator = evaluator_of()
    outcomes = [*evaluator.untrained([KITE]),
                *evaluator.transferred([KITE], Weights("taught", CHANGED))]
    words = [[len(caption.split()) for caption in some] for some in coco_images().captions]
    gained = sum(after > before for before, after, *_ in words)
    lost = sum(after < before for before, after, *_ in words)
    assert gained
    assert lost
    drawn = evaluator.panels(outcomes, tmp_path)
    assert drawn == {"kite: best changes in METEOR": "captions-kite-best.png",
                     "kite: worst changes in METEOR": "captions-kite-worst.png"}
    best, worst = (Image.open(tmp_path / name) for name in drawn.values())
    assert best.width == worst.width
    assert (best.height > worst.height) == (gained > lost)
    assert evaluator.panels(outcomes[:1], tmp_path) == {}
