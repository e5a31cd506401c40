"""kt_exp.json beside an exported model: the names that it was taught, and how to ask for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kt_exp.atomic import write_atomically
from kt_exp.errors import UserError

FILE_NAME = "kt_exp.json"
DEFAULT_TEMPLATES = ["a photo of a {}."]


@dataclass(frozen=True)
class Usage:
    """How a model is asked for names.

    Attributes:
        concepts: those that it was taught: name → description.
        templates: prompts with `{}` for a name.
        fix_articles: whether prompts say "an umbrella" where a template says "a {}".
    """

    concepts: dict[str, str]
    templates: list[str] = field(default_factory=lambda: list(DEFAULT_TEMPLATES))
    fix_articles: bool = True

    @classmethod
    def in_run(cls, config: Mapping[str, Any], concepts: Mapping[str, str]) -> Usage:
        """Return the prompts of a run's benchmark; of one without prompts, CLIP's simplest."""
        benchmark = config.get("benchmark", {})
        return cls(dict(concepts), list(benchmark.get("templates") or DEFAULT_TEMPLATES),
                   bool(benchmark.get("fix_articles", True)))


def write_usage(usage: Usage, folder: Path) -> None:
    """Write `folder/kt_exp.json`."""
    write_atomically(folder / FILE_NAME, json.dumps(asdict(usage), indent=2,
                                                    ensure_ascii=False) + "\n")


def read_usage(folder: Path) -> Usage | None:
    """Return what the file says; None if there is none, as in models of other origin.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        return Usage(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(str(path), f"cannot be read ({error})",
                        "remove it, and give all names by --names") from error
