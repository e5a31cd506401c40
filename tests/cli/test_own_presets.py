"""Presets of a user's own, which inherit from those of kt_exp."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

KEYS_PAGE = Path(__file__).parents[2] / "docs" / "keys.md"
Shown = Callable[[str], Any]


@pytest.fixture
def shown(kt_exp: Callable[..., Any], home: Path) -> Shown:
    """Shows the composed config with the preset `own/inversion/mine.yaml` of the given text."""
    def show(text: str) -> Any:
        folder = home / "own" / "inversion"
        folder.mkdir(parents=True)
        (folder / "mine.yaml").write_text(text, encoding="utf-8")
        return kt_exp("hydra.searchpath=[file://own]", "inversion=mine", "--cfg", "job")
    return show


def test_the_example_of_the_docs_changes_what_it_states_and_inherits_the_rest(
        shown: Shown, kt_exp: Callable[..., Any]) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", KEYS_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    mine = yaml.safe_load(shown(example).stdout)["inversion"]
    paper = yaml.safe_load(kt_exp("inversion=paper", "--cfg", "job").stdout)["inversion"]
    assert mine == paper | {"steps": 200, "affine": paper["affine"] | {"probability": 0.0}}


@pytest.mark.parametrize(("text", "line"), [
    ("defaults: [papre, _self_]\n", "inversion/mine.yaml: its defaults name 'inversion/papre', "
                                    "which is not there; name options that exist"),
    ("defaults: [paper, _self_]\nstps: 3\n", "inversion.stps: no such key; did you mean 'steps'?"),
    ("defaults: [paper, _self_]\nsteps: few\n", "inversion.steps: "),
    ("defaults: [mine, _self_]\n", "config: an option inherits from itself; "
                                   "name another one in its defaults"),
    ("defaults: [paper, _self_\nsteps: 3\n", "/own/inversion/mine.yaml: line 2 is not YAML "
                                             "(expected ',' or ']', but got ':')"),
], ids=["no such parent", "no such key", "wrong type", "itself", "no YAML"])
def test_what_is_wrong_with_it_is_said_in_one_line(shown: Shown, text: str, line: str) -> None:
    ended = shown(text)
    assert ended.code == 2
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("kt-exp: error: ")
    assert line in ended.stderr


def test_a_name_that_is_none_is_answered_with_the_nearest(shown: Shown,
                                                          kt_exp: Callable[..., Any]) -> None:
    shown("defaults: [paper, _self_]\n")
    ended = kt_exp("hydra.searchpath=[file://own]", "inversion=min")
    assert ended.code == 2
    assert ended.stderr == "kt-exp: error: inversion: no option 'min'; did you mean 'mine'?\n"
