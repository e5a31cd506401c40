"""The commands printed in README and docs: each composes, and what the docs show is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from kt_exp.config import conf_folder, register_schema

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
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_printed_command_composes(page: str, command: str) -> None:
    words = shlex.split(command, comments=True)
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    sweep = "-m" in words
    single = [re.sub(r"=([^\[{(]*?),.*", r"=\1", word) if sweep else word for word in overrides]
    register_schema()
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        assert compose("config", overrides=[w for w in single if not w.startswith("hydra.")])


def test_the_docs_show_commands() -> None:
    assert len(commands()) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_and_to_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target
