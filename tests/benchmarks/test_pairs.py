"""Scores of every pair, and classification by them, with a model that sees and reads colours."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from kt_exp.benchmarks import pairs
from kt_exp.benchmarks.classification.benchmark import zero_shot_task
from kt_exp.benchmarks.classification.calibration import calibrate_model
from kt_exp.benchmarks.classification.pair_evaluator import PairEvaluator
from kt_exp.benchmarks.pairs import KIND, score_pairs
from kt_exp.concepts import Concept
from kt_exp.data.image_files import ImageFiles
from kt_exp.errors import UserError
from kt_exp.models.protocol import EmbeddedCaptions
from kt_exp.models.weights import Weights
from kt_exp.results.outcome import Phase
from kt_exp.store import Store

RGB = {"red": (1.0, 0, 0), "green": (0, 1.0, 0), "blue": (0, 0, 1.0)}
CAPTIONS = ["a red thing, long since faded", "green", "blue sky", "red", "a green hill over there"]


class Matcher:
    """Matches an image with the colour that a caption names; a word is a token."""

    image_size, max_text_tokens = 4, 40

    def __init__(self, colour_model):
        self.device = torch.device("cpu")
        self.module = torch.nn.Linear(3, 3, bias=False).requires_grad_(False)
        self.module.weight.copy_(torch.eye(3))
        self.to_tensor = colour_model.to_tensor
        self.embedded: list[int] = []
        self.read: list[tuple[int, int]] = []
        self.pairs = 0

    def count_tokens(self, caption):
        return len(caption.split())

    def embed_images(self, images):
        self.embedded.append(len(images))
        return self.module(images.mean(dim=(2, 3))[:, None])

    def embed_captions(self, captions):
        lengths = torch.tensor([self.count_tokens(caption) for caption in captions])
        mask = (torch.arange(lengths.max()) < lengths[:, None]).long()
        self.read.append(tuple(mask.shape))
        colours = torch.tensor([next(rgb for word, rgb in RGB.items() if word in caption)
                                for caption in captions])
        return EmbeddedCaptions(colours[:, None] * mask[:, :, None], mask)

    def match_block(self, images, captions):
        self.pairs += len(images) * len(captions.tokens)
        assert captions.mask.shape[1] == captions.mask.sum(dim=1).max()
        means = captions.tokens.sum(dim=1) / captions.mask.sum(dim=1, keepdim=True)
        return images[:, 0] @ means.T * 8 - 4


@dataclass
class Settings:
    batch_size: int = 2
    workers: int = 0
    on_bad_image: str = "skip"


@pytest.fixture
def matcher(colour_model):
    return Matcher(colour_model)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def images(tmp_path, paint, truncated):
    files = [paint(tmp_path / f"{i}.png", colour) for i, colour in
             enumerate(("red", "green", "blue", "green", "red"))]
    files.insert(2, truncated(tmp_path / "cut.jpg"))
    return ImageFiles(tmp_path, files, [0, 1, 9, 2, 1, 0])


def score(matcher, images, store, progress, captions=CAPTIONS):
    return score_pairs(matcher, images, captions, Settings(), store, "k", progress, "Scoring")


def test_every_image_meets_every_caption_in_their_order(matcher, images, store, silent):
    found = score(matcher, images, store, silent)
    assert found.scores.shape == (5, 5)
    assert found.labels.tolist() == [0, 1, 2, 1, 0]
    assert [path.endswith("cut.jpg") for path in found.skipped] == [True]
    named = torch.tensor([0, 1, 2, 0, 1])
    assert torch.equal(found.scores > 0, found.labels[:, None] == named)
    assert sum(matcher.embedded) == 5
    assert matcher.pairs == 25


@pytest.mark.parametrize(("pairs_at_once", "captions_at_once"), [(1, 1), (3, 2), (7, 3), (99, 99)])
def test_blocks_change_nothing(matcher, images, store, silent, monkeypatch, pairs_at_once,
                               captions_at_once):
    whole = score(matcher, images, store, silent)
    store.discard(KIND, "k")
    monkeypatch.setattr(pairs, "PAIRS_AT_ONCE", pairs_at_once)
    monkeypatch.setattr(pairs, "CAPTIONS_AT_ONCE", captions_at_once)
    again = score(matcher, images, store, silent)
    torch.testing.assert_close(again.scores, whole.scores)
    assert (again.skipped, again.labels.tolist()) == (whole.skipped, whole.labels.tolist())


def test_captions_are_embedded_with_those_of_their_length(matcher, images, store, silent,
                                                          monkeypatch):
    monkeypatch.setattr(pairs, "CAPTIONS_AT_ONCE", 2)
    score(matcher, images, store, silent)
    assert matcher.read == [(2, 1), (2, 5), (1, 6)]


@pytest.mark.parametrize("dies_at", [0, 1, 2, 3, 4])
def test_a_killed_run_goes_on_where_it_was(matcher, images, store, silent, monkeypatch, tmp_path,
                                           dies_at):
    whole = score(matcher, images, Store(tmp_path / "other"), silent)
    monkeypatch.setattr(pairs, "SAVE_SECONDS", -1.0)
    monkeypatch.setattr(pairs, "PAIRS_AT_ONCE", 1)
    matcher.embedded, embed = [], matcher.embed_images

    def dying(some):
        if len(matcher.embedded) == dies_at:
            raise KeyboardInterrupt
        return embed(some)

    matcher.embed_images = dying
    with pytest.raises(KeyboardInterrupt):
        score(matcher, images, store, silent)
    matcher.embed_images = embed
    again = score(matcher, images, store, silent)
    assert sum(matcher.embedded) == 5
    assert torch.equal(again.scores, whole.scores)
    assert (again.skipped, again.labels.tolist()) == (whole.skipped, whole.labels.tolist())


def test_a_second_run_scores_nothing(matcher, images, store, silent):
    first = score(matcher, images, store, silent)
    matcher.pairs = 0
    assert torch.equal(score(matcher, images, store, silent).scores, first.scores)
    assert matcher.pairs == 0


def test_scores_that_are_not_finite_are_refused_and_not_kept(matcher, images, store, silent):
    matcher.match_block = lambda images, captions: torch.full((len(images), 5), torch.nan)
    with pytest.raises(UserError, match="not finite"):
        score(matcher, images, store, silent)
    assert not store.has(KIND, "k")


def test_progress_counts_pairs(matcher, images, store):
    seen = []

    class Bar:
        def __init__(self, total):
            self.total, self.done = total, 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            seen.append((self.done, self.total))

        def advance(self, n=1):
            self.done += n

    score(matcher, images, store, lambda description, total: Bar(total))
    assert seen == [(30, 30)]


@dataclass
class Colours(Settings):
    """Knows red and green; the new concepts are of any colour."""

    known: ImageFiles | None = None
    targets: dict = field(default_factory=dict)
    templates: list[str] = field(default_factory=lambda: ["a photo of a {}.", "the {}"])
    fix_articles: bool = True
    calibration: ImageFiles | None = None

    def calibration_images(self):
        return self.calibration

    def known_names(self):
        return ["red", "green"]

    def known_images(self):
        return self.known

    def target_images(self, concept):
        return self.targets[concept.name]


# Its name says red, its description blue, and blue it is.
REDBUD = Concept("redbud", "a blue tree", plural=False)
BLUEBELL = Concept("bluebell", "a blue flower", plural=False)
SWAP_RED_AND_BLUE = {"weight": torch.eye(3).flip(0)}


@pytest.fixture
def benchmark(tmp_path, paint, truncated):
    def images(name, *colours, labels=None):
        files = [paint(tmp_path / name / f"{i}.png", c) for i, c in enumerate(colours)]
        return ImageFiles(tmp_path, files, labels or [0] * len(files))

    known = images("known", "red", "green", "green", labels=[0, 1, 1])
    known.files.append(truncated(tmp_path / "known" / "z.jpg"))
    known.labels.append(0)
    return Colours(known=known, targets={"redbud": images("redbud", "blue", "blue"),
                                         "bluebell": images("bluebell", "blue", "green")})


@pytest.fixture
def evaluator(matcher, benchmark, store, silent):
    return PairEvaluator(matcher, "fingerprint", zero_shot_task(benchmark), store, silent)


def accuracies(outcome):
    return {(row.split, row.metric): row.value for row in outcome.metrics}


def test_each_phase_classifies_by_its_own_prompts(evaluator):
    outcomes = {o.metrics[0].phase: o for o in evaluator.untrained([REDBUD])}
    assert list(outcomes) == ["baseline", "name_prompt", "description_prompt",
                              "name_and_description", "parts_prompt"]
    for phase, on_targets in (("baseline", 0), ("name_prompt", 0), ("description_prompt", 1)):
        assert accuracies(outcomes[phase]).items() >= {
            ("target", "accuracy"): on_targets, ("known", "accuracy"): 1,
            ("known", "mean_per_class_accuracy"): 1}.items()
    assert [(c.predicted, c.count) for c in outcomes["description_prompt"].confusions] \
        == [("redbud", 2)]
    assert [path.endswith("z.jpg") for path in outcomes["baseline"].skipped] == [True]


def test_fine_tuned_weights_are_used_and_put_back(evaluator, matcher):
    baseline, = evaluator.untrained([BLUEBELL])[:1]
    assert accuracies(baseline)["target", "accuracy"] == 0.5
    transferred, = evaluator.transferred([BLUEBELL], Weights("key", SWAP_RED_AND_BLUE))
    assert accuracies(transferred)["target", "accuracy"] == 0
    assert {c.predicted for c in transferred.confusions} == {"red", "green"}
    assert accuracies(transferred)["known", "accuracy"] == 2 / 3
    assert torch.equal(matcher.module.weight, torch.eye(3))


def test_concepts_taught_together_are_candidates_of_each_other(matcher, benchmark, store, silent):
    benchmark.templates = ["{}"]
    evaluator = PairEvaluator(matcher, "fingerprint", zero_shot_task(benchmark), store, silent)
    outcomes = evaluator.untrained([BLUEBELL, REDBUD])
    described = {o.metrics[0].concept: o for o in outcomes
                 if o.metrics[0].phase == Phase.description_prompt}
    # Both are said to be blue: of equals, the first wins.
    assert {c.predicted for c in described["redbud"].confusions} == {"bluebell"}
    assert len(outcomes) == 2 * 5


@pytest.mark.parametrize(("templates", "taken_for"), [
    (["a photo of a {}.", "the {}"], {"bluebell", "green"}), (["the {}"], {"red", "green"})])
def test_the_mean_over_prompts_decides(matcher, benchmark, store, silent, templates, taken_for):
    """To this model "the red" is blue: a tie, which the known class wins, unless red has another
    prompt that draws its mean down."""
    plain = matcher.embed_captions
    matcher.embed_captions = lambda captions: plain(
        ["blue" if caption == "the red" else caption for caption in captions])
    benchmark.templates = templates
    evaluator = PairEvaluator(matcher, "fingerprint", zero_shot_task(benchmark), store, silent)
    baseline = evaluator.untrained([BLUEBELL])[0]
    assert {c.predicted for c in baseline.confusions} == taken_for


def test_known_images_meet_known_prompts_once(evaluator, matcher, store):
    evaluator.untrained([REDBUD])
    # Known classes; the name in two templates, the name, the description, its only part.
    prompts = 4 + 2 + 1 + 1 + 1
    assert matcher.pairs == 3 * prompts + 2 * prompts
    matcher.pairs = 0
    evaluator.untrained([BLUEBELL])
    assert matcher.pairs == 3 * 5 + 2 * 9
    assert len(store.keys(KIND)) == 1


def test_outcomes_are_stored(evaluator, matcher):
    first = evaluator.untrained([REDBUD])
    matcher.pairs = 0
    assert evaluator.untrained([REDBUD]) == first
    assert (matcher.pairs, evaluator.reused) == (0, 5)


def test_fine_tuned_scores_are_not_kept(evaluator, store):
    evaluator.untrained([REDBUD])
    of_the_untrained_model = store.keys(KIND)
    evaluator.transferred([REDBUD], Weights("key", SWAP_RED_AND_BLUE))
    assert store.keys(KIND) == of_the_untrained_model


def test_the_baseline_is_of_the_untrained_weights_whatever_is_asked_for_first(
    matcher, benchmark, tmp_path, silent
):
    def evaluator(name):
        return PairEvaluator(matcher, "fingerprint", zero_shot_task(benchmark),
                             Store(tmp_path / name), silent)

    usual, reversed_ = evaluator("usual"), evaluator("reversed")
    expected = usual.untrained([BLUEBELL]) + usual.transferred(
        [BLUEBELL], Weights("key", SWAP_RED_AND_BLUE))
    transferred = reversed_.transferred([BLUEBELL], Weights("key", SWAP_RED_AND_BLUE))
    assert reversed_.untrained([BLUEBELL]) + transferred == expected


def test_a_constant_is_chosen_by_the_scores_of_other_pairs(evaluator, benchmark, matcher, store,
                                                           silent, tmp_path, paint):
    files = [paint(tmp_path / "more" / f"{colour}.png", colour) for colour in ("red", "green")]
    benchmark.calibration = ImageFiles(tmp_path, files, [0, 1])
    evaluator = PairEvaluator(matcher, "fingerprint", zero_shot_task(benchmark), store, silent)
    evaluator.untrained([BLUEBELL])
    before = store.keys(KIND)
    calibration = calibrate_model(evaluator, [BLUEBELL], Weights("key", SWAP_RED_AND_BLUE), 0.5)
    # Red is blue to these weights: green alone stays right, which is half of the images.
    assert (calibration.point.reference, calibration.point.known_correct) == (2, 1)
    assert len(store.keys(KIND)) == len(before) + 1  # what the untrained model makes of the classes
    outcomes = evaluator.transferred([BLUEBELL], Weights("key", SWAP_RED_AND_BLUE), calibration)
    assert [outcome.metrics[0].phase for outcome in outcomes] == ["transferred", "calibrated"]
    again = calibrate_model(evaluator, [BLUEBELL], Weights("key", SWAP_RED_AND_BLUE), 0.5)
    assert again == calibration
