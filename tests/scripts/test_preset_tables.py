"""`scripts/preset_tables.py`: the docs' tables are those that conf/ gives now."""

from __future__ import annotations

from pathlib import Path

import preset_tables
import pytest

from kt_exp.errors import UserError

PAGES = [page for page in sorted((preset_tables.ROOT / "docs").glob("*.md"))
         if "<!-- presets:" in page.read_text(encoding="utf-8")
         or "<!-- keys:" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_the_docs_are_those_of_the_config(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert preset_tables.PLACE.search(text)
    assert preset_tables.filled(text, preset_tables.ROOT / "conf") == text, \
        "python scripts/preset_tables.py writes the tables"


def test_the_presets_of_both_stages_have_a_table() -> None:
    method = (preset_tables.ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    assert {"inversion/paper", "finetune/paper"} <= {
        place[3] for place in preset_tables.PLACE.finditer(method)}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A small conf/: a preset that states all, its heir, and an heir of that one."""
    for name, text in {
        "config": "defaults: [{paint: thin}]\n",
        "paint/thick": "# Paint, thick.\n#\n# As sold.\n\n# Coats, ≥ 1.\ncoats: 3\n"
                       "# Finish.\n#   matt: none | silk\n#   gloss: bright\nfinish: gloss\n"
                       "brush:  # What spreads it\n  width: 0.00005  # metres\nnames: []\n",
        "paint/thin": "# Paint, thin.\ndefaults: [thick, _self_]\nbrush:\n  width: 1.5  # wide\n"
                      "names: [a, b, c, d, e]\n",
        "paint/water": "# Water.\ndefaults: [thin, _self_]\nfinish: no finish\n",
        "paint/other": "# Of no family.\n\ncoats: 1\n",
    }.items():
        (tmp_path / "paint").mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_table_of_presets_shows_what_each_changes(conf: Path) -> None:
    assert preset_tables.presets_table(conf / "paint" / "thick.yaml") == "\n".join([
        "| preset | for | values that differ |",
        "|---|---|---|",
        "| `thick` | Paint, thick | `finish` gloss, `brush.width` 5e-5, `names` [] |",
        "| `thin` (default) | Paint, thin | `brush.width` 1.5, `names` (5 values) |",
        '| `water` | Water | as `thin`, but `finish` "no finish" |',
    ])


def test_a_table_of_presets_names_the_models_that_take_each(conf: Path) -> None:
    (conf / "config.yaml").write_text('defaults: [{paint: "${recipe:${model},paint}"}]\n')
    (conf / "recipes.yaml").write_text("a: {paint: thin}\nb: {paint: thick}\nc: {paint: thin}\n")
    table = preset_tables.presets_table(conf / "paint" / "thick.yaml")
    assert "| `thick` (default of b) |" in table
    assert "| `thin` (default of a, c) |" in table


def test_a_table_of_keys_shows_values_and_comments(conf: Path) -> None:
    assert preset_tables.keys_table(conf / "paint" / "thick.yaml") == "\n".join([
        "| key | `thick` | meaning |",
        "|---|---|---|",
        "| `coats` | `3` | Coats, ≥ 1. |",
        r"| `finish` | `gloss` | Finish.<br>`matt`: none \| silk<br>`gloss`: bright |",
        "| `brush` |  | What spreads it |",
        "| `brush.width` | `5e-5` | metres |",
        "| `names` | `[]` |  |",
    ])


def test_a_page_keeps_all_but_its_tables(conf: Path) -> None:
    page = "# Paint\n\n<!-- keys: paint/other -->\nold\n<!-- end -->\n\nMore.\n"
    assert preset_tables.filled(page, conf) == (
        "# Paint\n\n<!-- keys: paint/other -->\n\n| key | `other` | meaning |\n|---|---|---|\n"
        "| `coats` | `1` |  |\n\n<!-- end -->\n\nMore.\n")


def test_a_place_for_a_preset_that_is_not_there_is_refused(conf: Path) -> None:
    with pytest.raises(UserError, match="paint/thik: no such preset"):
        preset_tables.filled("<!-- presets: paint/thik -->\n<!-- end -->", conf)
