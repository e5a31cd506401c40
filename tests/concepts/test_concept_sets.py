from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any, cast

import pytest
from fixtures.configs import composed
from omegaconf import OmegaConf

from kt_exp.concepts import (
    Concept,
    ConceptsSettings,
    folder_name,
    load_concepts,
    warn_of_names,
)
from kt_exp.concepts.captions import named
from kt_exp.errors import UserError

SETS = Path(__file__).parents[2] / "conf" / "concepts"
SHIPPED = sorted(path.stem for path in SETS.glob("*.yaml")
                 if path.stem not in ("file", "inline"))


def shipped(name: str) -> ConceptsSettings:
    typed = OmegaConf.merge(OmegaConf.structured(ConceptsSettings),
                            composed(f"concepts={name}").concepts)
    return cast(ConceptsSettings, OmegaConf.to_object(typed))


def settings(**values: Any) -> ConceptsSettings:
    standard: dict[str, Any] = {"name": "mine", "source": "a test", "path": None, "items": [],
                                "only": [], "exchange": "none", "on_long_caption": "error"}
    return ConceptsSettings(**(standard | values))


def from_file(path: Path, content: str | bytes, only: list[str] | None = None) -> list[Concept]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_concepts(settings(path=str(path), only=only or []))


def problem(path: Path, content: str | bytes) -> str:
    with pytest.raises(UserError) as error:
        from_file(path, content)
    return str(error.value)


ZORB = Concept("zorb", "a red ball in a ring")
SKIS = Concept("skis", "two long boards, worn on boots", plural=True)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_set_loads_and_says_where_it_comes_from(name: str) -> None:
    chosen = shipped(name)
    concepts = load_concepts(chosen)
    assert chosen.name == name
    assert chosen.source
    assert len({concept.slug for concept in concepts}) == len(concepts)


@pytest.mark.parametrize(("name", "count", "table"), [
    ("rare", 3, "Tab. 10"), ("rare_short", 3, "Tab. 11"), ("rare_p1", 3, "Tab. 9 (P1)"),
    ("rare_p2", 3, "Tab. 9 (P2)"), ("rare_p3", 3, "Tab. 9 (P3)"), ("jsrt", 2, "Tab. 12"),
    ("chexpert", 5, "Tab. 13"), ("segmentation", 4, "Tab. 14"), ("mscoco", 80, "Tab. 15"),
])
def test_the_published_sets_are_complete(name: str, count: int, table: str) -> None:
    assert len(load_concepts(shipped(name))) == count
    assert shipped(name).source == f"arXiv 2411.15611 supplementary, {table}"


def test_the_long_captions_of_the_ablation_are_those_of_the_main_experiments() -> None:
    assert load_concepts(shipped("rare_p3")) == load_concepts(shipped("rare"))


def test_published_captions_read_as_sentences() -> None:
    p1, segmentation, mscoco = (load_concepts(shipped(name))
                                for name in ("rare_p1", "segmentation", "mscoco"))
    captions = [named(concept) for concept in [*p1, *segmentation, *mscoco]]
    assert captions[0] == "A moongate is a circular stone archway."
    assert captions[3].startswith("Lung nodules are circular spots appearing within the lung")
    assert ("Scissors are a handheld tool with two blades, used for cutting paper or fabric."
            in captions)
    assert ("An umbrella is a foldable, rounded canopy on a stick, used for protection from rain "
            "or sun." in captions)


@pytest.mark.parametrize(("name", "real"), [
    ("novel_words", "imagenet_heldout"), ("novel_words_dev", "imagenet_heldout_dev"),
])
def test_novel_words_stand_for_the_held_out_classes(name: str, real: str) -> None:
    concepts, classes = load_concepts(shipped(name)), load_concepts(shipped(real))
    assert [(concept.image_class, concept.description) for concept in concepts] == [
        (concept.name, concept.description) for concept in classes]
    for concept in concepts:
        words = re.findall(r"[a-z]+", concept.description.casefold())
        assert not set(re.findall(r"[a-z]+", concept.image_class)) & set(words)
        assert concept.name not in words


def test_concepts_come_from_the_command_line() -> None:
    items = [{"name": " zorb ", "description": "a red  ball\nin a ring"},
             {"name": "skis", "description": SKIS.description, "plural": True}]
    assert load_concepts(settings(items=items)) == [ZORB, SKIS]


YAML = """
- name: zorb
  description: a red ball in a ring
- {name: skis, description: "two long boards, worn on boots", plural: true}
"""
CSV = """name, description, plural
zorb,a red ball in a ring,
skis,"two long boards, worn on boots",true
"""
# As Excel saves a table where the comma is the decimal sign.
SEMICOLONS = "name;description;plural\r\nzorb;a red ball in a ring;\r\n" \
    "skis;two long boards, worn on boots;true\r\n"


@pytest.mark.parametrize(("file", "content"), [
    ("mine.yaml", YAML),
    ("mine.yml", "name: mine\nsource: me\nitems:" + YAML),
    ("mine.csv", CSV),
    ("mine.CSV", CSV.replace("\n", "\r\n").encode("utf-8-sig")),
    ("mine.yaml", YAML.encode("utf-8-sig")),
    ("mine.csv", SEMICOLONS.encode("utf-8-sig")),
])
def test_concepts_come_from_a_file(tmp_path: Path, file: str, content: str | bytes) -> None:
    assert from_file(tmp_path / file, content) == [ZORB, SKIS]


def test_a_mapping_of_names_to_descriptions_is_a_concepts_file(tmp_path: Path) -> None:
    content = "zorb: a red ball in a ring\nhot dog: 'a sausage: in a bun'\n"
    assert from_file(tmp_path / "mine.yaml", content) == [
        ZORB, Concept("hot dog", "a sausage: in a bun")]


def test_letters_of_two_code_points_are_those_of_one(tmp_path: Path) -> None:
    on_a_mac = unicodedata.normalize("NFD", "Röntgenbild: ein Bild für Ärzte\n")
    [concept] = from_file(tmp_path / "mine.yaml", on_a_mac, only=["röntgenbild"])
    assert concept == Concept("Röntgenbild", "ein Bild für Ärzte")
    assert folder_name(unicodedata.normalize("NFD", "Röntgenbild")) == "röntgenbild"


def test_a_copied_set_is_a_concepts_file() -> None:
    copied = load_concepts(settings(path=str(SETS / "rare.yaml")))
    assert copied == load_concepts(shipped("rare"))


def test_only_picks_in_the_order_of_the_set_whatever_the_case(tmp_path: Path) -> None:
    content = "name,description\nzorb,a ball\nhot dog,a sausage\nlamp,a light\n"
    picked = from_file(tmp_path / "mine.csv", content, only=["Lamp", "zorb"])
    assert [concept.name for concept in picked] == ["zorb", "lamp"]


def test_only_refuses_a_name_that_is_not_there() -> None:
    items = [{"name": "moongate", "description": "an arch"}]
    with pytest.raises(UserError, match=r"concepts.only: no concept 'moongat' .*'moongate'\?"):
        load_concepts(settings(items=items, only=["moongat"]))


BILLION_LAUGHS = "- &a0 [ha]\n" + "".join(
    f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))


@pytest.mark.parametrize(("content", "expected"), [
    ("- name: zorb\n  description: 'open\n", "mine.yaml line 3: invalid YAML"),
    ("- {name: zorb, description: a: b}\n", "mine.yaml line 1: invalid YAML"),
    ("", "mine.yaml: holds no concepts"),
    ("items: []\n", "mine.yaml: holds no concepts"),
    ("just text\n", "mine.yaml: not a list of concepts"),
    ("concepts: []\n", "mine.yaml: unknown key 'concepts'"),
    ("name: zorb\ndescription: a ball\n", "mine.yaml: a single concept, not a list; begin it"),
    ("zorb: a ball\nlamp: a light\nzorb: a box\n", "mine.yaml line 3: 'zorb' is in line 1, too"),
    ("zorb: a ball\nlamp: 3\n", "mine.yaml lamp description: 3 is not text"),
    ("- zorb\n", "mine.yaml item 1: 'zorb' is not a concept"),
    ("- {name: zorb}\n", "mine.yaml item 1: no description"),
    ("- {name: zorb, description: ' '}\n", "mine.yaml item 1: empty description"),
    ("- {name: no, description: a word}\n", "mine.yaml item 1 name: False is not text"),
    ("- {name: a, description: b}\n- {name: c, descripton: d}\n",
     "mine.yaml item 2: unknown key 'descripton'; did you mean 'description'?"),
    ("- {name: a, description: b, plural: 2}\n", "item 1 plural: '2' is neither true nor false"),
    ("- {name: Hot dog, description: a}\n- {name: hot-dog, description: b}\n",
     "concepts: two concepts of one name: 'Hot dog' and 'hot-dog'"),
    (b"- {name: caf\xe9, description: b}\n", "mine.yaml: not UTF-8 text"),
    ('- {name: "a\\e[31m", description: b}\n',
     r"mine.yaml item 1 name: 'a\x1b[31m' has control characters"),
    ("- {name: !!bool foo, description: b}\n", "mine.yaml: invalid YAML: 'foo'"),
    ("- {name: !!timestamp foo, description: b}\n", "mine.yaml: invalid YAML: "),
    ("- &a {name: zorb, description: a ball}\n- *a\n",
     "mine.yaml line 2: invalid YAML: aliases are not read here"),
    (BILLION_LAUGHS, "mine.yaml line 2: invalid YAML: aliases are not read here"),
    ("[" * 2000, "mine.yaml line 1: invalid YAML: nested too deeply"),
    ("- {name: a, description: b}\n" * 200_000, "mine.yaml' is larger than 4 MiB"),
])
def test_what_is_wrong_in_a_yaml_file_is_named(
    tmp_path: Path, content: str | bytes, expected: str
) -> None:
    assert expected in problem(tmp_path / "mine.yaml", content)


@pytest.mark.parametrize(("content", "expected"), [
    ("", "mine.csv: holds no concepts"),
    ("name,description\n", "mine.csv: holds no concepts"),
    ("name,text\nzorb,a ball\n", "line 1: no column 'description' (found: name, text)"),
    ("name;text\nzorb;a ball\n", "line 1: no column 'description' (found: name, text)"),
    ("name;description\nzorb;a ball; red\n", "line 2: 3 values for the 2 columns"),
    ("name,description,plurl\n", "unknown column 'plurl'; did you mean 'plural'?"),
    ("name,description,name\n", "column 'name' is there twice"),
    ("name,description\nzorb,a ball, in a ring\n", "line 2: 3 values for the 2 columns"),
    ('name,description\nzorb,"a ball\n', "line 2: invalid CSV"),
    ("name,description\n\nzorb,\n", "mine.csv line 3: empty description"),
    ("name,description,plural\nzorb,a ball,maybe\n", "'maybe' is neither true nor false"),
])
def test_what_is_wrong_in_a_csv_file_is_named(
    tmp_path: Path, content: str, expected: str
) -> None:
    assert expected in problem(tmp_path / "mine.csv", content)


@pytest.mark.parametrize(("file", "expected"), [
    ("absent.yaml", "concepts.path: cannot read"),
    ("folder.csv", "concepts.path: cannot read"),
    ("fifo.yaml", "concepts.path: cannot read .*: not a regular file"),
    ("mine.txt", "is neither YAML nor CSV"),
])
def test_a_path_that_is_no_concepts_file_is_refused(
    tmp_path: Path, file: str, expected: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "fifo.yaml")
    with pytest.raises(UserError, match=expected):
        load_concepts(settings(path=str(tmp_path / file)))


def test_an_empty_set_says_how_to_give_concepts() -> None:
    for name in ("file", "inline"):
        with pytest.raises(UserError, match=r"holds no concepts; give .*concepts.path=FILE"):
            load_concepts(shipped(name))


def test_a_file_beside_a_set_is_refused(tmp_path: Path) -> None:
    chosen = shipped("rare")
    chosen.path = str(tmp_path / "mine.yaml")
    with pytest.raises(UserError, match=r"concepts.path: given beside the items of 'rare'"):
        load_concepts(chosen)


def test_a_description_that_gives_the_name_away_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    items = [{"name": "zorb", "description": "a Zorb is a ball"},
             {"name": "ring", "description": "something that rings"}]
    with caplog.at_level(logging.WARNING):
        warn_of_names(load_concepts(settings(items=items)))
    assert [record.args for record in caplog.records] == [("zorb",)]


DAX = {"name": "dax", "images_of": "zorb", "description": "a red ball in a ring"}


def test_a_concept_can_have_its_images_under_another_name(tmp_path: Path) -> None:
    dax = Concept("dax", "a red ball in a ring", images_of="zorb")
    assert load_concepts(settings(items=[DAX])) == [dax]
    assert from_file(tmp_path / "mine.csv", "name,images_of,description\n"
                     "dax,zorb,a red ball in a ring\nlamp,,a light\n") == [
        dax, Concept("lamp", "a light")]
    assert (dax.image_class, dax.slug) == ("zorb", "dax")
    assert Concept("lamp", "a light").image_class == "lamp"


def test_a_description_that_contains_the_name_of_the_images_is_refused() -> None:
    items = [DAX | {"description": "a red ball, a Zorb in a ring"}]
    with pytest.raises(UserError, match=r"concepts.items\[0\] description: contains 'zorb', the "
                                        r"name that 'dax' stands for; describe it in other words"):
        load_concepts(settings(items=items))


@pytest.mark.parametrize("images_of", [None, " ", 3])
def test_images_of_is_a_name(images_of: Any) -> None:
    with pytest.raises(UserError, match=r"concepts.items\[0\].* images_of"):
        load_concepts(settings(items=[DAX | {"images_of": images_of}]))


def test_exchanged_descriptions_go_half_a_set_further() -> None:
    items = [DAX, *({"name": name, "description": f"looks of {name}s", "plural": name == "c"}
                    for name in "abcd")]
    given = load_concepts(settings(items=items, exchange="descriptions"))
    assert [concept.description for concept in given] == [
        "looks of bs", "looks of cs", "looks of ds", DAX["description"], "looks of as"]
    assert [concept.name for concept in given] == ["dax", "a", "b", "c", "d"]
    assert [concept.image_class for concept in given] == ["zorb", "a", "b", "c", "d"]
    assert [concept.plural for concept in given] == [False, False, False, True, False]


@pytest.mark.parametrize("name", ["pictograms", "jsrt", "novel_words"])
def test_no_concept_keeps_its_description_in_an_exchange(name: str) -> None:
    chosen = shipped(name)
    own = load_concepts(chosen)
    chosen.exchange = "descriptions"
    given = load_concepts(chosen)
    assert sorted(concept.description for concept in given) == sorted(
        concept.description for concept in own)
    assert all(a.description != b.description for a, b in zip(own, given, strict=True))


def test_a_concept_picked_from_a_set_has_the_description_it_has_in_the_whole_set() -> None:
    chosen = shipped("pictograms")
    chosen.exchange = "descriptions"
    whole = load_concepts(chosen)
    chosen.only = ["gyroscope"]
    assert load_concepts(chosen) == [whole[2]]


def test_there_is_nothing_to_exchange_in_a_set_of_one_concept() -> None:
    with pytest.raises(UserError, match=r"concepts.exchange: the set 'mine' holds one concept"):
        load_concepts(settings(items=[DAX], exchange="descriptions"))


def test_slugs_are_folder_names() -> None:
    slug = folder_name
    assert Concept("Hot dog", "something").slug == slug("Hot dog")
    assert slug("Hot dog") == "hot_dog"
    assert slug("../etc") != slug("etc") == "etc"
    assert slug("c++") != slug("c")
    assert slug("x" * 300) != slug("x" * 301)
    for name in ("../etc", "a/b", "+++", "x" * 300, "..", "AC/DC: live"):
        assert slug(name).replace("-", "").replace("_", "").isalnum()
        assert len(slug(name)) < 80


def test_concepts_and_captions_need_no_torch() -> None:
    check = ("import sys, kt_exp.concepts.captions, kt_exp.concepts; "
             "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
