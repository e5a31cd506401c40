"""Presets compose to the values in composed.json, and state only what they do not inherit.

composed.json holds one row per key, with the value of each preset of the group. Whoever changes a
value on purpose changes it there, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.configs import composed
from omegaconf import OmegaConf

from kt_exp.schema import conf_folder

Values = dict[str, Any]
CONF = Path(conf_folder())
COMPOSED: dict[str, dict[str, Values]] = json.loads(
    (Path(__file__).parent / "composed.json").read_text(encoding="utf-8"))
RECORDED = sorted({(group, preset) for group, rows in COMPOSED.items()
                   for row in rows.values() for preset in row})
HEIRS = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml")
               if path.parent.name not in ("experiment", "method")  # those override other groups
               and "\ndefaults:" in path.read_text(encoding="utf-8"))


def flat(section: Values, prefix: str = "") -> Values:
    """The values of a section by their dotted keys; classes' paths (`_target_`) are none."""
    values: Values = {}
    for key, value in section.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.")
        elif key != "_target_":
            values[f"{prefix}{key}"] = value
    return values


def values_of(group: str, preset: str) -> Values:
    """The values of `group` under `group=preset`, references unresolved."""
    plain = OmegaConf.to_container(composed(f"{group}={preset}")[group])
    assert isinstance(plain, dict)
    return flat({str(key): value for key, value in plain.items()})


@pytest.mark.parametrize(("group", "preset"), RECORDED)
def test_a_preset_composes_to_the_recorded_values(group: str, preset: str) -> None:
    expected = {key: row[preset] for key, row in COMPOSED[group].items() if preset in row}
    found = values_of(group, preset)
    assert found == expected
    # To Python 1, 1.0 and true are equal; as JSON they are not.
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)


@pytest.mark.parametrize(("group", "preset"), HEIRS)
def test_a_preset_states_nothing_that_it_inherits(group: str, preset: str) -> None:
    stated = yaml.safe_load((CONF / group / f"{preset}.yaml").read_text(encoding="utf-8"))
    parent, _ = stated.pop("defaults")
    inherited = values_of(group, parent)
    assert [key for key, value in flat(stated).items() if inherited.get(key, ...) == value] == []
