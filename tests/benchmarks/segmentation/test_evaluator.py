"""Segmentation from images to scores and pictures, through the store."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest
import torch
from fixtures.configs import composed
from PIL import Image

from kt_exp.benchmarks.segmentation import evaluator as module
from kt_exp.benchmarks.segmentation import maps
from kt_exp.benchmarks.segmentation.heat import heat
from kt_exp.benchmarks.segmentation.maps import MASKS, SALIENCY
from kt_exp.benchmarks.segmentation.panels import CELL, COLUMNS, LINE, TRUTH
from kt_exp.concepts import Concept
from kt_exp.drawing import GAP, MARGIN, enlarge
from kt_exp.errors import UserError
from kt_exp.models.weights import Weights
from kt_exp.store import Store

TUMOR = Concept("brain tumor", "an irregular bright mass")
LUNGS = Concept("lungs", "two dark shapes", plural=True)


@pytest.fixture
def evaluator(load, pairs, pictoclip, silent, tmp_path):
    def make(concepts=(), **keys):
        benchmark = load(root=str(pairs), **keys)
        benchmark.check_concepts(concepts)
        return benchmark.evaluator(pictoclip, "model", Store(tmp_path / "store"), silent)

    return make


@pytest.fixture
def changes(pictoclip):
    """Weights after some fine-tuning that did no good."""
    torch.manual_seed(0)
    return {name: tensor + 0.05 * torch.randn_like(tensor)
            for name, tensor in pictoclip.module.state_dict().items() if "visual" in name}


def test_each_image_is_scored_and_the_means_are_reported(evaluator):
    (outcome,) = evaluator().untrained([LUNGS])
    assert [(row.phase, row.concept, row.split, row.metric, row.count, row.total)
            for row in outcome.metrics] == [
        ("baseline", "lungs", "target", metric, None, 2) for metric in ("DSC", "NSD", "IoU")]
    for row in outcome.metrics:
        values = [score.value for score in outcome.per_image if score.metric == row.metric]
        assert len(values) == 2
        assert row.value == pytest.approx(fmean(values))
        assert 0 <= row.value <= 1
    assert {score.image for score in outcome.per_image} == {"images/145.jpg", "images/191.jpg"}
    assert outcome.notes == [
        "nsd: surface2d, tolerance 2 px", "M2IB fixed: layer 2, beta 0.1, variance 1",
        "coarse masks (k-means), without SAM"]


def test_each_concept_has_its_images_and_weights_matter(evaluator, changes, pictoclip):
    before = pictoclip.fingerprint()
    segmenter = evaluator()
    untrained = segmenter.untrained([LUNGS, TUMOR])
    transferred = segmenter.transferred([LUNGS, TUMOR], Weights("key", changes))
    assert [outcome.metrics[0].concept for outcome in untrained] == ["lungs", "brain tumor"]
    assert {outcome.metrics[0].phase for outcome in transferred} == {"transferred"}
    assert untrained[0].metrics[0].value != transferred[0].metrics[0].value
    assert pictoclip.fingerprint() == before


def test_a_second_run_is_read_from_the_store(evaluator, monkeypatch):
    first = evaluator().untrained([LUNGS])
    monkeypatch.setattr(maps, "saliency", None)
    again = evaluator()
    assert again.untrained([LUNGS]) == first
    assert again.reused == 1
    other_metric = evaluator(nsd="medclip_samv2")
    (outcome,) = other_metric.untrained([LUNGS])
    assert other_metric.reused == 0
    assert outcome.metrics[1].value > first[0].metrics[1].value
    with pytest.raises(TypeError):
        evaluator(prompt="a {}").untrained([LUNGS])


def test_a_killed_run_goes_on_with_the_next_chunk(evaluator, monkeypatch, tmp_path):
    expected = evaluator().untrained([LUNGS])
    monkeypatch.setattr(maps, "CHUNK", 1)
    for kind in (MASKS, SALIENCY, "segmentation"):
        for key in (store := Store(tmp_path / "store")).keys(kind):
            store.discard(kind, key)
    real, calls = maps.saliency, []

    def killed_at_the_second(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(maps, "saliency", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        evaluator().untrained([LUNGS])
    assert evaluator().untrained([LUNGS])[0].metrics == expected[0].metrics
    assert len(calls) == 3


def test_sam_refines_the_coarse_masks(evaluator, tiny_sam):
    (coarse,) = evaluator().untrained([TUMOR])
    (refined,) = evaluator(sam=str(tiny_sam)).untrained([TUMOR])
    assert coarse.metrics != refined.metrics
    assert refined.notes[2] == f"masks by SAM ({tiny_sam}) from the coarse mask's boxes"


def test_tuning_is_noted_and_its_images_are_not_evaluated(evaluator, pairs):
    grid = {"layers": [1, 3], "betas": [0.1, 5.0], "variances": [1.0]}
    (outcome,) = evaluator(tune_on=1, tune=grid).untrained([LUNGS])
    assert {score.image for score in outcome.per_image} == {"images/191.jpg"}
    assert outcome.notes[1].startswith("M2IB tuned on given masks (1, left out of the means), so "
                                       "not zero-shot; lungs, baseline: layer ")
    (outcome,) = evaluator(tune_on=2, tune={**grid, "root": str(pairs / "brain_tumor")}).untrained(
        [LUNGS])
    assert outcome.metrics[0].total == 2
    assert "(2, of another folder)" in outcome.notes[1]


@pytest.mark.parametrize("name", ["lung_nodules", "pneumothorax", "breast_tumor", "brain_tumor"])
def test_the_experiments_of_the_paper_tune_on_three_images(name):
    assert composed(f"experiment=tab4_{name}").benchmark.tune_on == 3


def test_every_model_is_tuned_by_itself(evaluator, changes, monkeypatch):
    searched = []

    def search(segmenter, images, settings, grid):
        searched.append(segmenter.weights)
        return settings

    monkeypatch.setattr(module, "tune", search)
    segmenter = evaluator(tune_on=1, tune={"layers": [1], "betas": [1.0], "variances": [1.0]})
    segmenter.untrained([LUNGS])
    segmenter.transferred([LUNGS], Weights("key", changes))
    assert len(set(searched)) == 2


def test_unreadable_pairs_are_left_out_and_listed(evaluator, pairs, truncated):
    path = truncated(pairs / "lungs" / "images" / "145.jpg")
    with pytest.raises(UserError, match=r"145\.jpg: not a readable image"):
        evaluator().untrained([LUNGS])
    (outcome,) = evaluator(on_bad_image="skip").untrained([LUNGS])
    assert outcome.skipped == [str(path)]
    assert outcome.metrics[0].total == 1


def test_the_masks_of_all_concepts_are_looked_at_before_the_first_map(evaluator, pairs, tmp_path):
    mask = next((pairs / "brain_tumor" / "masks").iterdir())
    with Image.open(mask) as image:
        image.resize((9, 9)).save(mask)
    segmenter = evaluator([LUNGS, TUMOR])
    with pytest.raises(UserError, match=f"another size than its image: masks/{mask.name}"):
        segmenter.untrained([LUNGS])
    assert not list(tmp_path.glob(f"store/{SALIENCY}/*"))


def test_panels_show_the_best_and_the_worst_change(evaluator, changes, tmp_path):
    segmenter = evaluator()
    outcomes = segmenter.untrained([LUNGS])
    assert segmenter.panels(outcomes, tmp_path) == {}
    outcomes += segmenter.transferred([LUNGS], Weights("key", changes))
    drawn = segmenter.panels(outcomes, tmp_path)
    assert drawn == {
        "lungs: best changes in DSC": "segmentation-lungs-best.png",
        "lungs: worst changes in DSC": "segmentation-lungs-worst.png"}
    for name in drawn.values():
        with Image.open(tmp_path / name) as picture:
            assert picture.width > len(COLUMNS) * CELL
    again = evaluator()
    reused = again.untrained([LUNGS]) + again.transferred([LUNGS], Weights("key", changes))
    assert again.panels(reused, tmp_path) == drawn


def test_saliency_before_and_after_has_one_scale(evaluator, changes, pairs, tmp_path):
    segmenter = evaluator()
    outcomes = segmenter.untrained([LUNGS]) + segmenter.transferred([LUNGS], Weights("k", changes))
    [best, _] = segmenter.panels(outcomes, tmp_path).values()
    before, after = ({score.image: score.value for score in outcome.per_image
                      if score.metric == "DSC"} for outcome in outcomes)
    image = max(before, key=lambda name: after[name] - before[name])
    with Image.open(pairs / "lungs" / image) as opened:
        width, height = enlarge(opened, CELL).size
    with Image.open(tmp_path / best) as sheet:
        picture = np.asarray(sheet).astype(int)

    def brightest(title: str) -> int:
        left = MARGIN + COLUMNS.index(title) * (CELL + GAP)
        cell = picture[MARGIN + 2 * LINE:][:height, left:][:, :width].reshape(-1, 3)
        return int(cell[(cell != TRUTH).any(axis=1)].sum(axis=1).max())

    found = [brightest("Saliency before"), brightest("Saliency after")]
    # Only one of the two maps reaches the top of their common scale.
    assert max(found) == heat(np.ones((1, 1)), 0, 1).astype(int).sum()
    assert min(found) < max(found)


def test_the_colours_of_saliency_are_those_of_magma():
    matplotlib = pytest.importorskip("matplotlib")
    values = np.linspace(-0.2, 1.2, 141)[None]
    magma = 255 * matplotlib.colormaps["magma"](values.clip(0, 1))[..., :3]
    assert np.abs(heat(values, 0, 1) - magma).max() < 4
    assert (heat(np.full((2, 2), 3.0), 3, 3) == heat(np.zeros((1, 1)), 0, 1)).all()


def test_without_its_maps_a_picture_is_not_drawn(evaluator, changes, tmp_path):
    segmenter = evaluator()
    outcomes = segmenter.untrained([LUNGS]) + segmenter.transferred([LUNGS], Weights("k", changes))
    store = Store(tmp_path / "store")
    store.discard(SALIENCY, store.keys(SALIENCY)[0])
    assert segmenter.panels(outcomes, tmp_path) == {}
