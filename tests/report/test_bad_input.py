"""Bad input as a user meets it: `kt-report` as a process, one line and exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def kt_report(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kt_exp.report.cli", *map(str, arguments)],
                          cwd=cwd, capture_output=True, text=True, check=False,
                          env=os.environ | {"COLUMNS": "300"})


def refused(ended: subprocess.CompletedProcess[str], message: str) -> bool:
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    assert ended.stderr.count("\n") == 1
    return ended.stderr.startswith(f"kt-report: error: {message}")


@pytest.mark.parametrize("command", ["table", "status", "plot", "page", "controls"])
def test_no_runs_under_the_path(sweeps, command: str) -> None:
    (sweeps.root / "empty" / "deep").mkdir(parents=True)
    options = {"plot": ["--kind", "lr", "--out", "a.png"], "page": ["--out", "a.html"]}
    ended = kt_report(command, "empty", *options.get(command, []), cwd=sweeps.root)
    assert refused(ended, "empty: no runs here; give folders that hold a result.json or a multir")
    assert not (sweeps.root / "a.html").exists()


def test_a_result_of_an_unknown_schema_version(sweeps) -> None:
    path = sweeps.lr_sweep() / "0" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    ended = kt_report("table", "lr", cwd=sweeps.root)
    assert refused(ended, "lr/0/result.json: has schema version 99; this version of kt_exp reads")


def test_a_file_that_is_no_record(sweeps) -> None:
    (sweeps.root / "result.json").write_text('{"schema_version": 2')
    ended = kt_report("table", "result.json", cwd=sweeps.root)
    assert refused(ended, "result.json: is not valid JSON")


@pytest.mark.parametrize("tolerance", ["-1", "nan", "much"])
def test_a_tolerance_that_is_none(sweeps, tolerance: str) -> None:
    ended = kt_report("table", sweeps.lr_sweep(), "--table", "tab1", f"--check={tolerance}",
                      cwd=sweeps.root)
    assert refused(ended, f"command line: argument --check: '{tolerance}' is no number of points")


def test_what_a_reader_of_a_pipe_needs_is_there(sweeps) -> None:
    """A process prints a table to a pipe, whatever the locale."""
    ended = subprocess.run([sys.executable, "-m", "kt_exp.report.cli", "table", sweeps.lr_sweep()],
                           capture_output=True, check=True, env=os.environ | {"LC_ALL": "C"})
    assert b"moongate" in ended.stdout


def test_controls_without_a_completed_run(sweeps) -> None:
    sweeps.failed("a", "out of memory")
    ended = kt_report("controls", "a", cwd=sweeps.root)
    assert refused(ended, "runs: none of them is completed; kt-report status shows how far")


def test_seconds_are_not_checked_against_those_of_another_machine(sweeps) -> None:
    sweeps.lr_sweep()
    ended = kt_report("table", "lr", "--table", "main6", "--check", "1", cwd=sweeps.root)
    assert refused(ended, "--check: seconds and memory depend on the machine; leave it out for ma")


def test_controls_of_runs_without_margins(sweeps) -> None:
    sweeps.run("old", {"moongate": (0, 55, 58.10, 56.43)})
    ended = kt_report("controls", "old", cwd=sweeps.root)
    assert refused(ended, "old/margins.safetensors: there is none, and no interval without; run")


def test_controls_with_a_damaged_file_of_margins(classified) -> None:
    path = classified.run("a") / "margins.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    ended = kt_report("controls", "a", cwd=classified.root)
    assert refused(ended, "a/margins.safetensors: cannot be read: ")
