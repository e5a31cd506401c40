"""The drawn world: deterministic, varied, and free of what is held out."""

import numpy as np
import pytest
import yaml

from kt_exp.pictograms import captions
from kt_exp.pictograms import drawings as benchmark
from kt_exp.pictograms.composition import random_look
from kt_exp.pictograms.held_out import (
    DEVELOPMENT,
    REPORTED,
    holds_held_out_name,
    is_held_out_look,
)
from kt_exp.pictograms.naming import invent_names
from kt_exp.pictograms.vocabulary import KNOWN_LOOKS

PIECES = ("moon", "gate", "tono", "meter", "gyro", "scope", "bengal", "stripe", "flor", "ras",
          "chant", "illy")


@pytest.mark.parametrize("name", [*benchmark.KNOWN, *benchmark.HELD_OUT])
def test_drawings_are_deterministic_and_varied(name):
    images = benchmark.draw_class(name, 4, seed=3)
    assert images.shape == (4, 64, 64, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images[:2], benchmark.draw_class(name, 2, seed=3))
    assert not np.array_equal(images, benchmark.draw_class(name, 4, seed=4))
    assert len({image.tobytes() for image in images}) == 4


def test_an_unknown_class_is_refused_by_name():
    with pytest.raises(KeyError, match="teapot"):
        benchmark.draw_class("teapot", 1, seed=0)


def test_names_are_distinct_across_sets():
    assert len(benchmark.KNOWN) >= 25
    names = [*KNOWN_LOOKS, *REPORTED, *DEVELOPMENT]
    assert len(set(names)) == len(names)


def test_held_out_looks_are_recognised_and_known_ones_are_not():
    assert all(is_held_out_look(benchmark.look_of(name)) for name in benchmark.HELD_OUT)
    assert not any(is_held_out_look(look) for look in KNOWN_LOOKS.values())


def test_no_training_look_is_held_out():
    rng = np.random.default_rng(0)
    looks = [random_look(rng, open_rate=0.3) for _ in range(500)]
    looks += [concept.look for concept in captions.invented_concepts(300, seed=0)]
    assert not any(is_held_out_look(look) for look in looks)


def test_open_colours_never_close_into_a_held_out_look():
    concepts = captions.known_concepts() + captions.invented_concepts(200, seed=0)
    for index, concept in enumerate(concepts):
        for i in range(3):
            _, example = captions.draw_example(concept, index, [index, i])
            assert not is_held_out_look(example.closed)


def test_no_caption_holds_a_held_out_name():
    rng = np.random.default_rng(2)
    concepts = captions.known_concepts() + captions.invented_concepts(300, seed=0)
    for index, concept in enumerate(concepts):
        _, example = captions.draw_example(concept, index, [0, index])
        for _ in range(8):
            caption = captions.write_caption(example, rng, captions.Mix())
            assert not holds_held_out_name(caption), caption


def test_pieces_of_held_out_names_occur_in_other_names():
    names = " ".join(invent_names(1500, np.random.default_rng(0)))
    for piece in PIECES:
        assert piece in names


@pytest.mark.parametrize(("file", "looks"),
                         [("pictograms", REPORTED), ("pictograms_dev", DEVELOPMENT)])
def test_every_held_out_concept_has_a_description_without_its_name(file, looks, request):
    path = request.config.rootpath / "conf" / "concepts" / f"{file}.yaml"
    items = yaml.safe_load(path.read_text())["items"]
    assert [item["name"] for item in items] == list(looks)
    assert not any(holds_held_out_name(item["description"]) for item in items)
