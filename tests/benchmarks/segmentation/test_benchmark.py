"""The benchmark as the config builds it, and what it refuses."""

from __future__ import annotations

import shutil

import pytest

from kt_exp.benchmarks.segmentation import benchmark as module
from kt_exp.concepts import Concept
from kt_exp.errors import UserError

TUMOR = Concept("brain tumor", "an irregular bright mass")
NODULES = Concept("lung nodules", "circular spots", plural=True)


def refusal(act):
    with pytest.raises(UserError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("preset", "begins"), [
    ("unitochest", "A medical chest CT scan showing circular spots"),
    ("siim_pneumothorax", "A medical chest x-ray showing an abnormal collection of air"),
    ("udiat", "A medical breast mammogram showing an irregularly shaped"),
    ("brats", "A brain MRI showing a bright or dark mass"),
])
def test_presets_carry_the_prompts_of_the_paper(load, preset, begins):
    benchmark = load(preset, root="/data")
    assert benchmark.text(TUMOR).startswith(begins)
    assert benchmark.nsd == "medclip_samv2"


def test_a_prompt_takes_the_name_and_null_takes_the_description(load):
    assert load(root="/data").text(TUMOR) == "an irregular bright mass"
    named = load(root="/data", prompt="a scan of a {}")
    assert (named.text(TUMOR), named.text(NODULES)) == (
        "a scan of a brain tumor", "a scan of lung nodules")


def test_examples_are_images_and_no_classes_are_known(load, pairs, truncated):
    benchmark = load(root=str(pairs))
    assert [image.size for image in benchmark.examples(TUMOR, 1)] == [(384, 384)]
    truncated(pairs / "brain_tumor" / "images" / "10388.jpg")
    assert len(benchmark.examples(TUMOR, 9)) == 1
    assert benchmark.known_prompts() == []


def test_concepts_are_checked_first(load, pairs, monkeypatch):
    benchmark = load(root=str(pairs))
    benchmark.check_concepts([TUMOR, Concept("lungs", "two dark shapes")])
    assert "nor a folder 'lung_nodules'" in refusal(
        lambda: benchmark.check_concepts([TUMOR, NODULES]))
    alone = load(root=str(pairs / "lungs"))
    alone.check_concepts([NODULES])
    assert "2 concepts, but the masks in" in refusal(
        lambda: alone.check_concepts([NODULES, TUMOR]))
    monkeypatch.setattr(module, "EXTRA", ("scipy", "not_installed"))
    assert refusal(lambda: benchmark.check_concepts([TUMOR])) == (
        "benchmark: segmentation needs scipy and surface-distance; "
        "pip install 'kt_exp[segmentation]'")


def test_tuning_needs_images_of_its_own(load, pairs):
    shutil.copytree(pairs / "lungs", pairs / "given")
    tuned = load(root=str(pairs), tune_on=1)
    given, rest = tuned.split(tuned.pairs(TUMOR))
    assert (given.name(0), rest.name(0)) == ("images/10388.jpg", "images/16238.jpg")
    elsewhere = load(root=str(pairs), tune_on=2, tune={"root": str(pairs / "given")})
    given, rest = elsewhere.split(elsewhere.pairs(TUMOR))
    assert (len(given), len(rest)) == (2, 2)
    assert refusal(lambda: load(root=str(pairs), tune_on=2).check_concepts([TUMOR])) == (
        "benchmark.tune_on: 2 images to tune on, of 2; give fewer, or more images")
    assert "0 beside tune.root" in refusal(lambda: load(root="/data", tune={"root": "/given"}))
    assert "benchmark.tune.betas: empty" in refusal(lambda: load(root="/", tune={"betas": []}))


def test_models_that_cannot_are_refused(load, pairs, pictoclip):
    def evaluator(model, **keys):
        return load(root=str(pairs), **keys).evaluator(model, "", None, None)

    class ResNet:
        pass

    assert refusal(lambda: evaluator(ResNet())).startswith(
        "model: ResNet cannot segment: its image encoder is no stack of transformer layers; "
        "choose a dual encoder with a ViT: clip_vit_b32")
    assert refusal(lambda: evaluator(pictoclip, m2ib={"layer": 7})) == (
        "benchmark.m2ib.layer: 7 is too deep for this model's 5 layers; give 0 to 3")
    assert "benchmark.tune.layers: 9 is too deep" in refusal(
        lambda: evaluator(pictoclip, tune_on=1))
    assert "benchmark.prompt: takes 82 tokens, the model 48" in refusal(
        lambda: evaluator(pictoclip, prompt="house " * 80))
    assert "benchmark.sam: '/nowhere' is no folder" in refusal(
        lambda: evaluator(pictoclip, sam="/nowhere"))
