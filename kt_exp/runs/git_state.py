"""The commit of kt_exp, if it runs from a git checkout."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, cast

import kt_exp

TIMEOUT_SECONDS = 5
SNAPSHOT_FILE = "kt_exp_git.json"  # in a snapshot of the package: the state of its source


def git_state() -> dict[str, Any] | None:
    """Return {"commit": hash, "dirty": bool} of the checkout that kt_exp is imported from.

    None for an installed wheel (even inside another checkout) and without git. `dirty` says whether
    tracked files differ from the commit. In a snapshot for the jobs of a multirun this is the state
    of the checkout when the snapshot was taken.
    """
    package = Path(kt_exp.__file__)
    snapshot = package.parents[1] / SNAPSHOT_FILE
    if snapshot.is_file():
        return cast(dict[str, Any] | None, json.loads(snapshot.read_text(encoding="utf-8")))
    if _git(package.parent, "ls-files", "--error-unmatch", package.name) is None:
        return None
    commit = _git(package.parent, "rev-parse", "HEAD")
    changes = _git(package.parent, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    # Inside a git hook, GIT_DIR and the like point to the hook's repository.
    environment = {key: text for key, text in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], env=environment, timeout=TIMEOUT_SECONDS,
            capture_output=True, text=True, check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
