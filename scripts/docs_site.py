"""mkdocs hook: README, CONTRIBUTING and CHANGELOG are pages of the site, where they lie."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md",
         "CHANGELOG.md": "changelog.md"}
LINKED = ("CITATION.cff", "LICENSE")  # files that these pages link to


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, with their links as seen from docs/, and the files that they link to."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=re.sub(r"\]\(([^)\s]+)\)", _seen, text)))
    for name in LINKED:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def _seen(link: re.Match[str]) -> str:
    path, mark, anchor = link[1].partition("#")
    return f"]({PAGES.get(path, path.removeprefix('docs/'))}{mark}{anchor})"
