"""Declarations of config fields, and the one line that a wrong value gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from kt_exp.config.checks import check, choice, number
from kt_exp.errors import UserError, did_you_mean


@dataclass(kw_only=True)
class Inner:
    scale: list[float] = number(above=0)

    def problems(self):
        if self.scale[0] > self.scale[1]:
            yield "scale", f"{self.scale} is not a range", "give [smallest, largest]"


@dataclass(kw_only=True)
class Settings:
    steps: int = number(minimum=1)
    rate: float = number(above=0, maximum=1)
    chunk: Any = number(minimum=1, words=("auto",), whole=True)
    loss: str = choice("ntxent", "clip")
    inner: Inner


GOOD = {"steps": 1, "rate": 1.0, "chunk": "auto", "loss": "clip"}


def settings(scale=(0.5, 1.0), **changes):
    return Settings(**{**GOOD, **changes}, inner=Inner(scale=list(scale)))


@pytest.mark.parametrize("changes", [{}, {"steps": 10**9}, {"chunk": 3}, {"chunk": 3.0},
                                     {"chunk": None}, {"scale": (1, 1)}])
def test_what_is_within_its_declaration_passes(changes):
    check(settings(**changes), "stage")


@pytest.mark.parametrize(("changes", "line"), [
    ({"steps": 0}, "stage.steps: 0 is out of range; give a number at least 1"),
    ({"rate": 0.0}, "stage.rate: 0.0 is out of range; give a number above 0 and at most 1"),
    ({"rate": 1.5}, "stage.rate: 1.5 is out of range; give a number above 0 and at most 1"),
    ({"rate": float("nan")}, "stage.rate: nan is out of range; "
                             "give a number above 0 and at most 1"),
    ({"rate": float("inf")}, "stage.rate: inf is out of range; "
                             "give a number above 0 and at most 1"),
    ({"chunk": 2.5}, "stage.chunk: 2.5 is out of range; give a whole number at least 1 or 'auto'"),
    ({"chunk": "all"}, "stage.chunk: 'all' is not a number; give a whole number at least 1 "
                       "or 'auto'"),
    ({"chunk": True}, "stage.chunk: 'True' is not a number; give a whole number at least 1 "
                      "or 'auto'"),
    ({"chunk": {"a": 1}}, "stage.chunk: '{'a': 1}' is not a number; give a whole number "
                          "at least 1 or 'auto'"),
    ({"loss": "nt-xent"}, "stage.loss: 'nt-xent' is not an option; did you mean 'ntxent'?"),
    ({"scale": (0.5, -1.0)}, "stage.inner.scale: -1.0 is out of range; give a number above 0"),
    ({"scale": (1.0, 0.5)}, "stage.inner.scale: [1.0, 0.5] is not a range; "
                            "give [smallest, largest]"),
])
def test_the_first_value_outside_is_named_with_what_would_be_right(changes, line):
    with pytest.raises(UserError) as caught:
        check(settings(**changes), "stage")
    assert str(caught.value) == line


def test_at_the_top_of_the_config_keys_have_no_prefix():
    with pytest.raises(UserError) as caught:
        check(settings(steps=-1), "")
    assert caught.value.where == "steps"


def test_an_error_is_one_line():
    error = UserError("file.yaml", "cannot be\n  read:  bad", "mend it")
    assert str(error) == "file.yaml: cannot be read: bad; mend it"
    assert str(UserError("key", "missing")) == "key: missing"


@pytest.mark.parametrize(("word", "known", "hint"), [
    ("openia", ["openai", "laion"], "did you mean 'openai'?"),
    ("zzz", ["b", "a"], "known: a, b"),
    ("zzz", [f"m{i:02}" for i in range(20)],
     "known: m00, m01, m02, m03, m04, m05, m06, m07, m08, m09, m10, m11 … (20 in all)"),
    ("zzz", [], "there are none"),
])
def test_a_hint_is_a_close_match_or_a_short_list(word, known, hint):
    assert did_you_mean(word, known) == hint
