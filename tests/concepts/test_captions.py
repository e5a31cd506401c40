from __future__ import annotations

import logging

import pytest

from kt_exp.concepts import Concept
from kt_exp.concepts.captions import check_lengths, fill, named, training_captions
from kt_exp.errors import UserError


@pytest.mark.parametrize("expected", [
    "a moongate", "an umbrella", "an hourglass", "a house", "an heirloom", "an honest man",
    "a unicorn", "an unimportant detail", "an unidentified object", "a uniform", "a ukulele",
    "a uterus", "an usher", "a used car", "an urn", "a European roller", "a ewe", "a eucalyptus",
    "a one-way sign", "an onion", "a ouija board", "an oboe", "an X-ray", "an x-ray", "a U-turn",
    "a T-shirt", "an MRI", "a CT scan", "a UFO", "an SUV", "a tv", "an 8-ball", "an 11-sided die",
    "an 18-wheeler", "a 110 m hurdle", "a 3-ring binder", "an éclair",
])
def test_the_article_goes_by_sound(expected: str) -> None:
    name = expected.split(" ", maxsplit=1)[1]
    assert fill("a photo of a {}.", name) == f"a photo of {expected}."


@pytest.mark.parametrize(("template", "expected"), [
    ("a photo of a {}.", "a photo of an umbrella."),
    ("A {} on a table.", "An umbrella on a table."),
    ("a photo of the {}.", "a photo of the umbrella."),
    ("a photo of a large {}.", "a photo of a large umbrella."),
    ("{}", "umbrella"),
])
def test_a_template_takes_a_name(template: str, expected: str) -> None:
    assert fill(template, "umbrella") == expected


@pytest.mark.parametrize(("template", "expected"), [
    ("a photo of a {}.", "a photo of skis."),
    ("an image with an {}", "an image with skis"),
    ("a photo of a hard to see {}.", "a photo of hard to see skis."),
    ("a photo of a pair of {}.", "a photo of a pair of skis."),
    ("a photo of the {}.", "a photo of the skis."),
    ("a photo of my {}.", "a photo of my skis."),
])
def test_a_plural_takes_no_indefinite_article(template: str, expected: str) -> None:
    assert fill(template, "skis", plural=True) == expected


def test_a_name_with_an_article_of_its_own_keeps_it() -> None:
    assert fill("a photo of a {}.", "the moon") == "a photo of the moon."
    assert fill("a photo of the {}.", "the moon") == "a photo of the moon."
    assert named(Concept("the moon", "a disc at night")) == "The moon is a disc at night."


@pytest.mark.parametrize(("concept", "expected"), [
    (Concept("moongate", "A circular stone archway"), "A moongate is a circular stone archway."),
    (Concept("umbrella", "A canopy on a stick."), "An umbrella is a canopy on a stick."),
    (Concept("fabric patterns", "Stripes. Or dots..", plural=True),
     "Fabric patterns are stripes. Or dots."),
    (Concept("nodule", "X-ray shadow, round"), "A nodule is X-ray shadow, round."),
    (Concept("glioma", "MRI shows a bright mass"), "A glioma is MRI shows a bright mass."),
    (Concept("lapel", "T-shaped cloth"), "A lapel is T-shaped cloth."),
    (Concept("riddle", "What is round?"), "A riddle is what is round?"),
])
def test_the_named_caption_is_one_sentence(concept: Concept, expected: str) -> None:
    assert named(concept) == expected


ZORB = Concept("zorb", "A red ball in a ring")
TEMPLATES = ["a photo of a {}.", "a drawing of a {}.", "a photo of a {}."]


@pytest.mark.parametrize(("form", "expected"), [
    ("named", ["A zorb is a red ball in a ring."]),
    ("description", ["A red ball in a ring"]),
    ("templates", ["a photo of a zorb.", "a drawing of a zorb."]),
    ("mixed", ["A zorb is a red ball in a ring.", "a photo of a zorb.", "a drawing of a zorb."]),
])
def test_fine_tuning_cycles_through_distinct_captions(form: str, expected: list[str]) -> None:
    assert training_captions(ZORB, form, TEMPLATES) == expected


def count_words(caption: str) -> int:
    return len(caption.split())


LONG = "one two three " * 20 + "end"


def test_a_caption_over_the_models_tokens_is_refused_with_its_count() -> None:
    with pytest.raises(UserError) as error:
        check_lengths([("zorb", "short"), ("glim", LONG)], count_words, 40, "error")
    line = str(error.value)
    assert line.startswith("concepts (glim): a caption takes 61 tokens, the model 40: 'one two")
    assert "three end'" in line
    assert "…" in line
    assert "concepts.on_long_caption=truncate" in line


def test_a_caption_that_just_fits_is_taken() -> None:
    check_lengths([("glim", LONG)], count_words, 61, "error")


def test_truncation_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_lengths([("glim", LONG), ("glim", LONG), ("zorb", "x")], count_words, 40, "truncate")
    assert [record.getMessage()[:43] for record in caplog.records] == [
        "concepts (glim): cut off after 40 of 61 tok"]


@pytest.mark.parametrize(("concept", "expected"), [
    (Concept("umbrella", "A round canopy."), "A umbrella is a round canopy."),
    (Concept("lung nodules", "Circular spots", plural=True), "A lung nodules is circular spots."),
])
def test_the_authors_write_a_before_every_name(concept, expected) -> None:
    assert training_captions(concept, "named", [], article="a") == [expected]
