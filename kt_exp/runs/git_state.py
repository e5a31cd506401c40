"""Which commit of kt_exp is running, when it runs from a git checkout."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, cast

import kt_exp

TIMEOUT_SECONDS = 5
SNAPSHOT_FILE = "kt_exp_git.json"  # in a copy of the package: the state of what was copied


def git_state() -> dict[str, Any] | None:
    """Return {"commit": hash, "dirty": bool} of the checkout that kt_exp is imported from.

    None for an installed wheel (even inside somebody's checkout) and where git is absent.
    `dirty` tells that tracked files differ from the commit. In a copy made for the jobs of a
    multirun it is the state of the checkout at that time.
    """
    package = Path(kt_exp.__file__)
    kept = package.parents[1] / SNAPSHOT_FILE
    if kept.is_file():
        return cast(dict[str, Any] | None, json.loads(kept.read_text(encoding="utf-8")))
    if _git(package.parent, "ls-files", "--error-unmatch", package.name) is None:
        return None
    commit = _git(package.parent, "rev-parse", "HEAD")
    changes = _git(package.parent, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    # Inside a git hook, GIT_DIR and its kin point at the repository of the hook.
    environment = {key: text for key, text in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], env=environment, timeout=TIMEOUT_SECONDS,
            capture_output=True, text=True, check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
