"""The copy of the code that the jobs of a multirun run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kt_exp.schema import PACKAGE, conf_folder

pytestmark = pytest.mark.slow

TAKE = ("import logging, sys; from pathlib import Path; logging.basicConfig(format='%(message)s')\n"
        "from kt_exp.launch.snapshot import environment, take_snapshot\n"
        "print(environment(take_snapshot(Path(sys.argv[1])))['PYTHONPATH'].partition(':')[0])")
ASK = ("from kt_exp.runs.git_state import git_state; import kt_exp\n"
       "print(git_state(), kt_exp.__path__)")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout of kt_exp with one commit."""
    folder = tmp_path / "checkout"
    shutil.copytree(PACKAGE, folder / "kt_exp", ignore=shutil.ignore_patterns("__pycache__"))
    if not (PACKAGE / "conf").is_dir():
        shutil.copytree(conf_folder(), folder / "conf")
    for command in (["init", "-q"], ["add", "."], [
            "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def python(code: str, *arguments: str, path: Path, home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(path), "PYTHONSAFEPATH": "1"}
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=home, env=environment,
                          capture_output=True, text=True, check=True)


def test_it_holds_the_code_of_its_time_and_knows_its_commit(checkout, tmp_path):
    taken = python(TAKE, "copies", path=checkout, home=tmp_path)
    assert taken.stderr == ""
    copy = tmp_path / taken.stdout.strip()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, text=True, check=True,
                            capture_output=True).stdout.strip()
    (checkout / "kt_exp" / "errors.py").write_text("broken by an edit while the job waits")
    asked = python(ASK, path=copy, home=checkout).stdout
    assert str({"commit": commit, "dirty": False}) in asked
    assert str(copy / "kt_exp") in asked
    assert (copy / "kt_exp" / "conf" / "config.yaml").exists()
    assert json.loads((copy / "kt_exp_git.json").read_text())["commit"] == commit


def test_it_says_so_where_the_checkout_differs_from_its_commit(checkout, tmp_path):
    with (checkout / "kt_exp" / "errors.py").open("a") as file:
        file.write("# changed\n")
    taken = python(TAKE, "copies", path=checkout, home=tmp_path)
    assert taken.stderr.startswith("kt_exp has uncommitted changes on top of ")
    assert "jobs run a copy of it as it is now (copies/code-" in taken.stderr
    copy = tmp_path / taken.stdout.strip()
    assert "# changed" in (copy / "kt_exp" / "errors.py").read_text()
    assert json.loads((copy / "kt_exp_git.json").read_text())["dirty"] is True
