"""Imports only point down: the layers' contract in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# In a process of its own, since import-linter switches off the loggers that there are.
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"


def test_imports_only_point_down() -> None:
    linted = subprocess.run([sys.executable, "-c", LINT], cwd=ROOT, capture_output=True, text=True,
                            check=False)
    assert linted.returncode == 0, linted.stdout + linted.stderr
