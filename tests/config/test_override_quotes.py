"""Non-ASCII words in overrides, which Hydra reads in quotes alone."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from kt_exp.config.override_quotes import with_quotes


@pytest.mark.parametrize(("override", "value"), [
    ("a=Bücher", "Bücher"), ("+a=写真", "写真"), ("a=/home/u/Bücher/neue Bilder",
                                               "/home/u/Bücher/neue Bilder"),
    ("a=[Röntgenaufnahme, hot dog]", ["Röntgenaufnahme", "hot dog"]),
    ("a=[[ü],['é',b]]", [["ü"], ["é", "b"]]),
    ("a=[{name: zorb, description: ein Ball: größer, parts: [ä]}]",
     [{"name": "zorb", "description": "ein Ball: größer", "parts": ["ä"]}]),
    ("a=~/store", "~/store"), ("a=[~/b,c~d]", ["~/b", "c~d"]),
    ("a=l'œuf", "l'œuf"), ("a=[l'œuf,x]", ["l'œuf", "x"]), ("a=Haus (groß)", "Haus (groß)"),
    ("a='ü, é'", "ü, é"), ('a="ü"', "ü"), ("a='ü\\'s'", "ü's"), ("a=ü\\", "ü\\"),
    ("a=${oc.env:HOME,x}/ü", "${oc.env:HOME,x}/ü"), ("a=plain, b", None),
])
def test_a_value_means_what_the_user_wrote(override: str, value: object) -> None:
    parsed = OverridesParser.create().parse_override(with_quotes(override))
    if value is None:
        assert with_quotes(override) == override
    else:
        assert parsed.value() == value


@pytest.mark.parametrize("override", ["a=x,ü", "a=choice(x,ü)", "a=x, 'ü'"])
def test_a_sweep_stays_a_sweep(override: str) -> None:
    parsed = OverridesParser.create().parse_override(with_quotes(override))
    assert [str(getattr(value, "text", value)) for value in parsed.sweep_iterator()
            ] in (["x", "ü"], ["x", "'ü'"])


def test_options_are_left_alone() -> None:
    assert with_quotes("--config-dir=Bücher") == "--config-dir=Bücher"
