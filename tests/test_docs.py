"""The commands printed in README and docs: each composes, and what the docs show is there."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import smoke
from fixtures.configs import composed

from kt_exp.schema import parse

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"^(?:\w+=\S+ )+", "", line.strip())
                if line.startswith(("kt-exp ", "python -m kt_exp.run ")):
                    found.append((page.name, line))
        # What was recorded as refused is left out.
        for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            found += [(page.name, re.split(r" [|<]| 2>", line)[0]) for line in re.findall(
                r"^\$ (kt-exp (?!export|predict|store|list).*)\n(?!kt-exp: error)", block, re.M)]
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_printed_command_composes(page: str, command: str) -> None:
    words = shlex.split(command, comments=True)
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    sweep = "-m" in words
    single = [re.sub(r"=([^\[{(]*?),.*", r"=\1", word) if sweep else word for word in overrides]
    assert composed(*(word for word in single if not word.startswith("hydra.")))


def arguments(*header: str) -> dict[str, list[str]]:
    """The rows of a table of verified.md: its first cell, and the words of its second one."""
    page = (ROOT / "docs" / "verified.md").read_text(encoding="utf-8")
    table = page.split(f"| {' | '.join(header)} |\n", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")]
            for line in table.splitlines()[1:]]
    return {name: shlex.split(words) for name, words in rows}


def pairs() -> Iterator[tuple[str, str]]:
    models, tasks = arguments("model", "arguments"), arguments("task", "arguments")
    unable = {task: models for task, (_, models) in smoke.CAN_NOT.items()}
    yield from ((model, task) for model in models for task in tasks
                if model not in unable.get(task, ()))


@pytest.mark.parametrize(("model", "task"), pairs())
def test_the_real_run_of_each_pair_fits_the_schema(model: str, task: str) -> None:
    words = arguments("model", "arguments")[model] + arguments("task", "arguments")[task]
    parse(composed(*words))


def test_the_docs_show_commands() -> None:
    assert len(commands()) >= 5


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_the_readme_leads_to_every_page(page: Path) -> None:
    assert f"](docs/{page.name})" in PAGES[0].read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_and_to_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def python_names() -> list[tuple[str, str, str]]:
    """What each example takes from the package: page, module, name."""
    found = set()
    for page in PAGES:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("kt_exp"):
                    found |= {(page.name, str(node.module), name.name) for name in node.names}
                elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "kt_exp":
                    found.add((page.name, "kt_exp", node.attr))
    return sorted(found)


@pytest.mark.parametrize(("page", "module", "name"), python_names())
def test_what_a_python_example_imports_exists(page: str, module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)
