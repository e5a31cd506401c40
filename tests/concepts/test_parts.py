from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kt_exp.concepts.parts import description_parts, part_prompts

CONCEPT_SETS = sorted((Path(__file__).parents[2] / "conf" / "concepts").glob("*.yaml"))
DESCRIPTIONS = list(dict.fromkeys(
    item["description"] for path in CONCEPT_SETS
    for item in yaml.safe_load(path.read_text(encoding="utf-8")).get("items", [])))


@pytest.mark.parametrize(("description", "parts"), [
    ("A perfectly circular archway built from uniformly cut stones or bricks, set into a larger "
     "wall. It forms a smooth circle, framing views of gardens or landscapes beyond, creating a "
     "picturesque portal.",
     ["a perfectly circular archway built from uniformly cut stones or bricks", "a larger wall",
      "a smooth circle", "views of gardens or landscapes beyond", "a picturesque portal"]),
    ("A slender, pen-like probe attached to a small base equipped with precise dials and gauges. "
     "This tool is often part of a larger medical apparatus, featuring a metallic finish and a "
     "refined, professional appearance.",
     ["a slender, pen-like probe attached to a small base", "precise dials and gauges",
      "a larger medical apparatus", "a metallic finish", "a refined, professional appearance"]),
    ("A small, furry animal with pointed ears, whiskers, and a long tail, often seen sitting or "
     "grooming.",
     ["a small, furry animal", "pointed ears", "whiskers", "a long tail"]),
    ("A vertical or horizontal post with red, yellow, and green lights, used to control vehicle "
     "flow at intersections.",
     ["a vertical or horizontal post", "red, yellow, and green lights",
      "vehicle flow at intersections"]),
    ("A flat, often rectangular surface with legs, designed for eating meals.",
     ["a flat, rectangular surface", "legs"]),
    ("A basin with a faucet, used for washing hands, dishes, or food.",
     ["a basin", "a faucet", "hands, dishes, or food"]),
    ("A handheld device that blows warm air, used to dry hair.",
     ["a handheld device", "warm air"]),
    ("A long, narrow, open boat, pointed at both ends, that people move over calm water with "
     "paddles.",
     ["a long, narrow, open boat", "both ends", "calm water", "paddles"]),
    ("An abnormal collection of air in the pleural space, which allows the parietal and visceral "
     "pleura to separate and the lung to collapse. The pleura edge is thin and no lung markings "
     "are visible.",
     ["an abnormal collection of air in the pleural space", "the parietal and visceral pleura",
      "the pleura edge"]),
    ("A light cotton fabric with an uneven plaid of crossing bands in bright colours such as red, "
     "yellow, blue and green.",
     ["a light cotton fabric", "an uneven plaid of crossing bands in bright colours such as red, "
      "yellow, blue and green"]),
    ("a grey pen next to a blue circle inside a white oval",
     ["a grey pen next to a blue circle inside a white oval"]),
])
def test_parts_of_descriptions(description, parts):
    assert description_parts(description) == parts


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_no_part_of_a_shipped_description_is_a_scrap(description):
    connectives = {"and", "or", "with", "that", "which", "often", "usually", "typically", "used",
                   "is", "are", "to", "of", "such", "it"}
    for part in description_parts(description):
        words = part.split()
        assert words[0] not in connectives
        assert words[-1] not in connectives | {"a", "an", "the"}
        assert len(words) > 1 or words[0].endswith("s")
        assert not part.endswith((".", ","))
        # Words are left out, none is made up.
        rest = iter(description.lower().replace(",", " ,").split())
        assert all(word in rest or f"{word}." in description.lower()
                   for word in part.lower().replace(",", " ,").split())


def test_a_negated_part_is_left_out():
    assert description_parts("A jug without a handle, with a lid and no spout.") == [
        "a jug", "a lid"]


@pytest.mark.parametrize("description", ["often", "red", ",,,", "It is round", "红色的球", "..."])
def test_a_text_without_parts_is_its_own(description):
    assert description_parts(description) == [description[0].lower() + description[1:]]


def test_capitals_stay_where_they_belong():
    assert description_parts("X-ray images with a bright MRI mark.") == [
        "X-ray images", "a bright MRI mark"]


def test_a_concepts_own_parts_replace_the_rules():
    own = ["a red ring", "ball"]
    assert description_parts("A red ring with a ball.", own) == own


def test_prompts_of_parts():
    assert part_prompts(["a larger wall", "legs"]) == [
        "a photo of a larger wall.", "a photo of legs."]
    assert part_prompts(["legs"], "it has {}") == ["it has legs"]
