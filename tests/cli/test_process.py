"""What only a process of its own can show: start-up, pipes, signals, and going on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kt_exp import __version__

pytestmark = pytest.mark.slow

LONG = [
    "inversion=fast", "finetune=pictograms",
    "concepts.only=[gyroscope]", "inversion.steps=150", "inversion.sizes=[]",
    "inversion.upsize_at=[]", "inversion.images=2", "inversion.checkpoint_seconds=0.001",
    "finetune.epochs=1", "finetune.batch_size=2", "finetune.rehearsal=0",
    "finetune.save_models=false", "benchmark.images_per_known_class=1",
    "benchmark.images_per_target=2",
]
IMAGES = "images/gyroscope/images.safetensors"


def start(*arguments: str, store: str = "store") -> subprocess.Popen[str]:
    environment = os.environ | {"KT_EXP_STORE": store}
    return subprocess.Popen([sys.executable, "-m", "kt_exp.run", *arguments], text=True,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_until_inverting(home: Path, process: subprocess.Popen[str]) -> None:
    partial = home / "store" / "inversion_partial"
    before = _newest(partial)
    while _newest(partial) <= before:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def _newest(folder: Path) -> float:
    times = []
    for path in folder.glob("*.safetensors"):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:
            continue  # just replaced
    return max(times, default=0.0)


def test_a_terminal_is_told_at_once_where_results_go(home):
    ours, theirs = os.openpty()
    process = subprocess.Popen([sys.executable, "-m", "kt_exp.run", "hydra.run.dir=here"],
                               stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        line = terminal.readline().decode()
        process.kill()
    process.wait()
    assert line.rstrip() == "Results go to here"


def test_a_run_killed_and_stopped_goes_on_and_ends_bit_equal(home):
    undisturbed = start(*LONG, "hydra.run.dir=whole", store="other_store")

    killed = start(*LONG, "hydra.run.dir=killed")
    wait_until_inverting(home, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    record = json.loads((home / "killed" / "result.json").read_text())
    assert record["status"] == "interrupted"

    stopped = start(*LONG, "hydra.run.dir=stopped")
    wait_until_inverting(home, stopped)
    stopped.send_signal(signal.SIGTERM)
    _, stderr = stopped.communicate()
    assert stopped.returncode == 130
    assert "Going on with the inversion at step" in stderr
    assert stderr.endswith("Interrupted: the same command goes on where it stopped.\n")
    record = json.loads((home / "stopped" / "result.json").read_text())
    assert (record["status"], record["error"]) == ("interrupted", None)

    final = start(*LONG, "hydra.run.dir=final")
    _, stderr = final.communicate()
    assert final.returncode == 0, stderr
    assert undisturbed.wait() == 0
    assert (home / "final" / IMAGES).read_bytes() == (home / "whole" / IMAGES).read_bytes()


@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"], ["-sc", "query=bash"]])
def test_what_computes_nothing_does_not_import_torch(flags, home):
    code = (
        "import atexit, sys; sys.argv[0] = 'kt-exp'\n"
        "from kt_exp.cli import main\n"
        "try: main()\n"
        "except SystemExit as ended: assert not ended.code, ended.code\n"
        "assert 'torch' not in sys.modules"
    )
    environment = os.environ | {"COMP_LINE": "kt-exp inversion=", "COMP_POINT": "17"}
    shown = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True,
                           env=environment)
    assert shown.returncode == 0, shown.stderr
    assert "inversion" in shown.stdout
    assert "???" not in shown.stdout


@pytest.mark.parametrize(("module", "name"), [("kt_exp.run", "kt-exp"),
                                              ("kt_exp.report.cli", "kt-report")])
def test_both_programs_say_their_version(module, name):
    said = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True,
                          text=True, check=True)
    assert said.stdout == f"{name} {__version__}\n"


@pytest.mark.parametrize(("override", "line"), [
    ("inversion.steps=0", "inversion.steps: 0 is out of range"),
    ("concepts.only=[gyroscop]", "did you mean 'gyroscope'?"),
    ("benchmark=folders", "set them: benchmark.target_root=… benchmark.known_root=…"),
    ("finetune.loss=nothing", "finetune.loss: 'nothing' is not an option"),
], ids=str)
def test_a_wrong_config_is_refused_before_torch_is_imported(override, line, home):
    code = (
        "import sys; sys.argv[0] = 'kt-exp'\n"
        "from kt_exp.cli import main\n"
        "try: main()\n"
        "except SystemExit as ended: print(ended.code, 'torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code, override, "hydra.run.dir=run"],
                           capture_output=True, text=True)
    assert ended.stdout == "2 False\n"
    assert line in ended.stderr
    assert json.loads((home / "run" / "result.json").read_text())["status"] == "failed"


def test_a_job_is_imported_without_torchmetrics(home):
    code = "import sys, kt_exp.runs.job; print('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=True).stdout == "False\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_help_into_a_closed_pipe_ends_quietly(unbuffered, home, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    process = start("--help")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait()
