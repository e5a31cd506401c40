"""`kt-exp list`: models, benchmarks, concept sets and experiments, and what each needs.

All of it comes from the YAML files: a preset's first comment, the keys that it leaves open (`???`),
and the command in an experiment's comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from kt_exp.commands.parser import CommandParser
from kt_exp.errors import UserError, did_you_mean
from kt_exp.schema import conf_folder

GROUPS = {"models": "model", "benchmarks": "benchmark", "concepts": "concepts",
          "experiments": "experiment", "inversion": "inversion", "finetune": "finetune",
          "controls": "control", "trackers": "tracker"}
BY_DEFAULT = ("models", "benchmarks", "concepts", "experiments")


def run(arguments: Sequence[str]) -> int:
    """Print one line for each preset."""
    options = _parser().parse_args(arguments)
    for number, what in enumerate(options.what or BY_DEFAULT):
        group = GROUPS[what]
        presets = sorted((Path(conf_folder()) / group).glob("*.yaml"))
        width = max(len(preset.stem) for preset in presets)
        print(f"{chr(10) if number else ''}{group}=…")
        for preset in presets:
            needed = ", ".join(needs(preset))
            print(f"  {preset.stem:<{width}}  {summary(preset)}"
                  f"{f' [needs {needed}]' if needed else ''}")
    return 0


def summary(preset: Path) -> str:
    """Return the first sentence of a preset's comment, without a command that follows."""
    lines = []
    for line in _comment(preset):
        if line.startswith("python -m") or not line:
            break
        lines.append(line)
        if line.endswith((".", ":")):
            break
    return re.split(r"\.\s+(?=[A-Z])", " ".join(lines))[0].rstrip(".:")


def needs(preset: Path) -> list[str]:
    """Return what has to be given: keys, packages and weights."""
    if preset.parent.name == "experiment":
        return _of_experiment(preset)
    values, group = _values(preset), preset.parent.name
    found = [f"{group}.{key}" for key, value in values.items() if value == "???"]
    text = " ".join(_comment(preset))
    extras = re.findall(r"pip install '?([\w\[\]]+)'?", text)
    found += [f"pip install '{extra}'" for extra in extras]
    hub = [value for value in (values.get("name"), values.get("text"), values.get("vision"))
           if group == "model" and isinstance(value, str) and "/" in value]
    if values.get("pretrained") or hub:
        found.append("its weights (a download, or a local file or folder)")
    return found


def _of_experiment(preset: Path) -> list[str]:
    """Return what the command in the comment gives beside the experiment, and the model's needs."""
    command = re.search(r"python -m kt_exp\.run (.*?)(?=\s[A-Z][a-z]|$)",
                        " ".join(_comment(preset)).replace("\\", ""))
    words = command[1].split() if command else []
    given = [word.partition("=")[0] for word in words
             if "=" in word and not word.startswith("experiment=")]
    model = next(iter(_overrides(preset, "model")), None)
    of_model = needs(Path(conf_folder()) / "model" / f"{model}.yaml") if model else []
    return [*(["-m"] if "-m" in words else []), *given,
            *(need for need in of_model if need not in given)]


def _values(preset: Path) -> dict[str, Any]:
    """Return a preset's own and inherited values."""
    content = _read(preset)
    inherited: dict[str, Any] = {}
    for parent in content.get("defaults", []):
        if isinstance(parent, str) and parent != "_self_":
            inherited |= _values(preset.with_name(f"{parent}.yaml"))
    return inherited | {key: value for key, value in content.items() if key != "defaults"}


def _overrides(preset: Path, group: str) -> Iterator[str]:
    """Yield the options of a group that an experiment chooses, its own before inherited ones."""
    defaults = _read(preset).get("defaults", [])
    for entry in defaults:
        if isinstance(entry, dict) and f"override /{group}" in entry:
            yield entry[f"override /{group}"]
    for entry in defaults:
        if isinstance(entry, str) and entry != "_self_":
            yield from _overrides(preset.parent / f"{entry}.yaml", group)


def _read(preset: Path) -> dict[str, Any]:
    content = yaml.safe_load(preset.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _comment(preset: Path) -> list[str]:
    """Return the lines of the comment that a preset begins with."""
    lines = []
    for line in preset.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").strip())
    return lines


def _what(text: str) -> str:
    if text not in GROUPS:
        raise UserError("WHAT", f"nothing is called '{text}'", did_you_mean(text, GROUPS))
    return text


def _parser() -> CommandParser:
    parser = CommandParser("list")
    parser.add_argument("what", nargs="*", type=_what, metavar="WHAT",
                        help=f"{', '.join(GROUPS)} (default: {', '.join(BY_DEFAULT)})")
    return parser
