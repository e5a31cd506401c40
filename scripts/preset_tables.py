"""Write the docs' tables of presets and keys from conf/, the single home of these values.

    python scripts/preset_tables.py

A page marks the place of a table by a config file, from which the others of its group inherit:

    <!-- presets: inversion/paper -->   the file and its heirs: what each is for, and its values
    <!-- keys: inversion/paper -->      every key of the file: value and comment
    <!-- end -->

What stands between the first line and the last is replaced.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from kt_exp.errors import EXIT_BAD_INPUT, UserError

ROOT = Path(__file__).parent.parent
PLACE = re.compile(r"(<!-- (presets|keys): ([\w/]+) -->\n).*?(<!-- end -->)", re.DOTALL)
LONGEST_LIST = 4  # a longer one is only counted


class Preset:
    """One file of a config group.

    Attributes:
        parent: the preset that it inherits from, if any.
        values: what the file itself states, by dotted key; `defaults` and `_target_` are left out.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._lines = path.read_text(encoding="utf-8").splitlines()
        content = yaml.safe_load("\n".join(self._lines))
        self.parent = next((name for name in content.pop("defaults", []) if name != "_self_"), None)
        self.values = {key: value for key, value in _flat(content) if key != "_target_"}

    @property
    def purpose(self) -> str:
        """The first paragraph of the comment at the top of the file."""
        words: list[str] = []
        for line in self._lines:
            if line.startswith("# @package"):
                continue
            if not line.startswith("# "):
                break
            words.append(line.removeprefix("# "))
        return " ".join(words).rstrip(".")

    @property
    def comments(self) -> dict[str, str]:
        """The comment of each key, and of each key that holds others: that above and behind it."""
        found: dict[str, str] = {}
        above: list[str] = []
        section = ""
        for line in self._lines:
            if comment := re.match(r"\s*#(.*)", line):
                above.append(comment[1])
                continue
            if key := re.match(r"(\s*)(\w+):\s*([^#]*?)\s*(?:#(.*))?$", line):
                section = section if key[1] else ""
                found[f"{section}{key[2]}"] = _cell([*above, key[4] or ""])
                section = section if key[3] else f"{key[2]}."
            above = []
        return found


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        nested = isinstance(value, dict) and value
        flat += _flat(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return flat


def _cell(comment: list[str]) -> str:
    """Join the lines of a comment; an indented one, `option: meaning`, starts a line of its own."""
    joined = ""
    for line in comment:
        if option := re.match(r" {2,}(.+?): (.*)", line):
            name = option[1] if " " in option[1] else f"`{option[1]}`"
            joined += f"<br>{name}: {option[2]}"
        else:
            joined += f" {line.strip()}"
    return joined.strip()


def family(path: Path) -> list[Preset]:
    """Return the preset of a file and all that inherit from it, each after its parent.

    Raises:
        UserError: there is no such file.
    """
    if not path.exists():
        raise UserError(f"{path.parent.name}/{path.stem}", "no such preset", "name a file of conf/")
    group = [Preset(file) for file in sorted(path.parent.glob("*.yaml"))]

    def with_heirs(preset: Preset) -> list[Preset]:
        heirs = [other for other in group if other.parent == preset.name]
        return [preset, *(member for heir in heirs for member in with_heirs(heir))]

    return with_heirs(Preset(path))


def presets_table(path: Path) -> str:
    """Return the table of a preset and its heirs: of the first, the values that others change."""
    root, *heirs = family(path)
    changed = {key for heir in heirs for key in heir.values}
    cells = [_listed({key: value for key, value in root.values.items() if key in changed})]
    for heir in heirs:
        start = "" if heir.parent == root.name else f"as `{heir.parent}`, but "
        cells.append(start + (_listed(heir.values) or "none"))
    marks = _marks(path.parent)
    return _table(["preset", "for", "values that differ"], [
        [f"`{preset.name}`{marks.get(preset.name, '')}", preset.purpose, cell]
        for preset, cell in zip([root, *heirs], cells, strict=True)])


def keys_table(path: Path) -> str:
    """Return the table of a preset's keys: value and comment."""
    preset = family(path)[0]
    hidden = ("defaults", "_target_")
    return _table(["key", f"`{preset.name}`", "meaning"], [
        [f"`{key}`", f"`{_shown(preset.values[key])}`" if key in preset.values else "", comment]
        for key, comment in preset.comments.items() if key not in hidden])


def _marks(group: Path) -> dict[str, str]:
    """Return a mark for each default of a group: of conf/config.yaml, or of models' recipes."""
    config, recipes = group.parent / "config.yaml", group.parent / "recipes.yaml"
    choices = yaml.safe_load(config.read_text(encoding="utf-8"))["defaults"] \
        if config.exists() else []
    default = next((choice[group.name] for choice in choices
                    if isinstance(choice, dict) and group.name in choice), "")
    if not default.startswith("${recipe:"):
        return {default: " (default)"}
    models: dict[str, list[str]] = {}
    for model, recipe in yaml.safe_load(recipes.read_text(encoding="utf-8")).items():
        models.setdefault(recipe[group.name], []).append(model)
    return {option: f" (default of {', '.join(own)})" for option, own in models.items()}


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"`{key}` {_shown(value)}" for key, value in values.items())


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) > LONGEST_LIST:
        return f"({len(value)} values)"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-")
    if isinstance(value, str):
        return f'"{value}"' if " " in value else value
    return {None: "null", True: "true", False: "false"}[value] \
        if value is None or isinstance(value, bool) else str(value)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in [header, *rows]]
    first, *rest = [f"| {line} |" for line in lines]
    return "\n".join([first, "|" + "---|" * len(header), *rest])


def filled(page: str, conf: Path) -> str:
    """Return the text of a page with its tables made from the files of `conf`.

    Raises:
        UserError: a place names a file that is not there.
    """
    make = {"presets": presets_table, "keys": keys_table}
    return PLACE.sub(lambda place: f"{place[1]}\n{make[place[2]](conf / f'{place[3]}.yaml')}\n\n"
                                   f"{place[4]}", page)


def main() -> None:
    """Rewrite the pages whose tables differ, and print their names."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        before = path.read_text(encoding="utf-8")
        if (after := filled(before, ROOT / "conf")) != before:
            path.write_text(after, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
