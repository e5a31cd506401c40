"""Every option under conf/ composes, fits the schema, and explains its keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fixtures.configs import composed

from kt_exp.api import compose
from kt_exp.errors import UserError
from kt_exp.schema import conf_folder, parse

CONF = Path(conf_folder())
# tests/test_experiments.py has the other experiments: each needs what its command names.
OPTIONS = [*sorted(path.relative_to(CONF).with_suffix("").as_posix().split("/")
                   for path in CONF.glob("*/*.yaml") if path.parent.name != "experiment"),
           ["experiment", "photos"], ["experiment", "novel_words"]]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_parses_or_names_the_key_it_needs(group, option):
    trained = ["inversion=fast", "finetune=pictograms"] if group == "method" else []
    needed = ""
    try:
        parse(composed(f"{group}={option}", *trained))
    except UserError as error:  # its own need, or that of the option it builds on
        needed = str(error)
    keys = rf"{group}\.\w+(, {group}\.\w+)*"
    assert not needed or re.match(rf"{keys}: .*(set it:|set them:|give) {group}\.", needed)


def commented(path: Path) -> list[tuple[str, bool]]:
    """Each key with a value of its own, and whether a comment stands behind it or above."""
    lines = path.read_text(encoding="utf-8").split("\nhydra:")[0].splitlines()
    found = []
    for above, line in zip(["", *lines], lines, strict=False):
        key, colon, value = line.partition(":")
        if colon and value.strip() and not key.lstrip().startswith(("#", "-")):
            found.append((key.strip(), "#" in line or above.lstrip().startswith("#")))
    return found


@pytest.mark.parametrize("path", [CONF / "config.yaml", *(
    path for path in sorted(CONF.glob("*/*.yaml")) if path.parent.name != "concepts"
)], ids=lambda path: path.relative_to(CONF).as_posix())
def test_every_key_has_a_comment(path):
    bare = [key for key, has_comment in commented(path)
            if not has_comment and key not in ("defaults", "_target_")]
    assert not bare


def test_the_default_needs_nothing():
    assert "???" not in str(composed())


@pytest.mark.parametrize(("override", "line"), [
    ("finetune.lora=[]", "finetune.lora: Cannot merge"),
    (f"inversion.affine.probability=1{'0' * 400}", "inversion.affine.probability: int too large"),
    ("tracker._target_=[a]", "tracker._target_: '['a']' is no text; name a dataclass"),
    ("benchmark.templates.0={}", "benchmark.templates: {} is not text; put it in quotes"),
    ("inversion=[[{}]]", "config: cannot be composed ("),
    ("inversion.upsize_at=[null]", "inversion.upsize_at: null is not a number"),
    (f"inversion.steps=1{'0' * 400}", "inversion.steps: 1000"),
    (f"store.pixels_gib=1{'0' * 400}", "store.pixels_gib: int too large"),
    (f"benchmark.seed=1{'0' * 400}", "benchmark.seed: 1000"),
])
def test_values_of_odd_types_are_refused(override, line):
    with pytest.raises(UserError) as error:
        compose([override])
    assert str(error.value).startswith(line)
