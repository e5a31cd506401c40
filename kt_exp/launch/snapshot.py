"""Snapshot of the code at submission: a copy of the package, beside the results.

It is taken from a checkout, with its uncommitted changes, or from an installed wheel. It does not
include other packages or a user's own modules.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import uuid
from importlib.util import find_spec
from pathlib import Path

from kt_exp.runs.git_state import SNAPSHOT_FILE, git_state
from kt_exp.schema import PACKAGE, conf_folder

log = logging.getLogger(__name__)


def take_snapshot(folder: Path) -> Path:
    """Copy package and config groups into a new folder under `folder`; return it.

    Warns if the checkout has uncommitted changes. The commit is written into the copy, for the
    records of the jobs.
    """
    copy = folder / f"code-{uuid.uuid4().hex[:8]}"
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, copy / PACKAGE.name, ignore=unwanted)
    if not (PACKAGE / "conf").is_dir():  # In a checkout conf/ is outside the package.
        shutil.copytree(conf_folder(), copy / PACKAGE.name / "conf", ignore=unwanted)
    launcher = find_spec("hydra_plugins.kt_exp_launcher")  # A job's config names its classes.
    if launcher and launcher.origin:
        (copy / "hydra_plugins").mkdir()
        shutil.copy(launcher.origin, copy / "hydra_plugins")
    state = git_state()
    (copy / SNAPSHOT_FILE).write_text(json.dumps(state), encoding="utf-8")
    if state and state["dirty"]:
        log.warning("kt_exp has uncommitted changes on top of %s: jobs run a copy of it as it is "
                    "now (%s).", state["commit"][:8], copy)
    return copy


def environment(snapshot: Path) -> dict[str, str]:
    """Return the environment variables that make Python import kt_exp from `snapshot`.

    All other modules are found as in this process.
    """
    paths = [str(snapshot), *(path or os.getcwd() for path in sys.path)]
    # Without PYTHONSAFEPATH the current folder, possibly a checkout, would come first.
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONSAFEPATH": "1"}
