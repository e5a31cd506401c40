"""What cannot be launched: one line, exit code 2, and nothing is submitted or started."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.configs import QUICK_RUN

from kt_exp.errors import UserError
from kt_exp.launch import slurm

pytestmark = pytest.mark.slow

SLURM = ["-m", "hydra/launcher=slurm_cpu", "hydra.sweep.dir=sweep", "seed=0,1"]
LAUNCHERS = ["in_process", "local_processes", "slurm_cpu"]


def refused(ended: tuple[int, str], home) -> str:
    """Return the one line of a call that did nothing."""
    code, stderr = ended
    assert code == 2, stderr
    [line] = stderr.splitlines()
    assert {path.name for path in (home.path / "sweep").glob("*")} <= {"multirun.yaml"}
    assert not (home.path / "store").exists()
    return line


def test_without_the_commands_of_slurm(home, no_slurm):
    assert refused(home.call(*SLURM, path=no_slurm), home) == (
        "kt-exp: error: hydra/launcher: SLURM's sbatch, srun, squeue, scontrol, sinfo not found on "
        "PATH; submit from a machine of the cluster, or take local_processes")


def test_a_partition_that_does_not_exist(home, scripted_slurm):
    line = refused(home.call(*SLURM, "hydra.launcher.partition=lwo", path=scripted_slurm), home)
    assert line == ("kt-exp: error: hydra.launcher.partition: SLURM has no partition 'lwo'; "
                    "did you mean 'low'?")


SETTINGS = {"partition": None, "array_parallelism": 1, "cpus_per_task": None, "timeout_min": 9,
            "signal_delay_s": 120, "max_num_timeout": 0}


@pytest.mark.parametrize(("key", "value", "said"), [
    ("partition", "low,gpu", "SLURM has no partition 'gpu'; known: high, low"),
    ("timeout_min", 2, "not below the time limit"),
    ("array_parallelism", 0, "0 is out of range; give a whole number at least 1"),
    ("cpus_per_task", 0, "0 is out of range; give a whole number at least 1"),
    ("max_num_timeout", -1, "-1 is out of range; give a whole number at least 0"),
])
def test_a_setting_that_slurm_does_not_take(key, value, said, scripted_slurm, monkeypatch):
    monkeypatch.setenv("PATH", scripted_slurm)
    slurm.check(SETTINGS)
    with pytest.raises(UserError, match=re.escape(said)):
        slurm.check(SETTINGS | {key: value})


def test_what_sbatch_says_is_passed_on(home, scripted_slurm):
    code, stderr = home.call(*SLURM, path=scripted_slurm)
    assert code == 2
    assert stderr.splitlines()[-1].startswith("kt-exp: error: hydra.launcher: sbatch refused (")
    assert "invalid account" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr


def test_a_slurm_that_does_not_answer(home, scripted_slurm):
    Path(scripted_slurm, "sinfo").write_text("#!/bin/sh\necho 'Unable to contact' >&2; exit 1\n")
    assert refused(home.call(*SLURM, "hydra.launcher.partition=low", path=scripted_slurm), home) \
        == ("kt-exp: error: hydra/launcher: sinfo fails (Unable to contact); is SLURM running, and "
            "SLURM_CONF right?")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_jobs_into_one_folder(launcher, home, scripted_slurm):
    line = refused(home.call(*SLURM, f"hydra/launcher={launcher}", "hydra.sweep.subdir=all",
                             path=scripted_slurm), home)
    assert line == (f"kt-exp: error: hydra.sweep.subdir: jobs 0 and 1 would both write into "
                    f"{home.path}/sweep/all; let the folder depend on the job: ${{hydra.job.num}}")
    assert not (home.path / "sbatch_was_called").exists()


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_folder_whose_name_is_too_long(launcher, home, scripted_slurm):
    line = refused(home.call(*SLURM, f"hydra/launcher={launcher}",
                             f"hydra.sweep.subdir={'a' * 256}", path=scripted_slurm), home)
    assert line == ("kt-exp: error: hydra.sweep.subdir: the name of job 0's folder has more "
                    "than 255 bytes; name it by ${hydra.job.num}")
    assert not (home.path / "sbatch_was_called").exists()


@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["run", "sweep"])
@pytest.mark.parametrize(("folder", "reason"), [
    ("a" * 256, "File name too long"), ("file/below", "Not a directory")], ids=["long", "file"])
def test_a_folder_that_cannot_be_made(flags, folder, reason, home):
    (home.path / "file").touch()
    key = "hydra.sweep.dir" if flags else "hydra.run.dir"
    code, stderr = home.call(*flags, f"{key}={folder}")
    assert (code, stderr) == (2, f"kt-exp: error: {key}: cannot write to '{folder}' ({reason}); "
                                 "free some space, or name another folder\n")


@pytest.mark.parametrize("override", ["array_parallelism=0", "cpus_per_task=0"])
def test_a_setting_that_local_processes_do_not_take(override, home):
    line = refused(home.call("-m", "hydra/launcher=local_processes", "hydra.sweep.dir=sweep",
                             f"hydra.launcher.{override}"), home)
    assert line.startswith(f"kt-exp: error: hydra.launcher.{override.partition('=')[0]}")
    assert "give a whole number" in line


@pytest.mark.parametrize("launcher", ["slurm_gpu", "local_processes"])
def test_a_launcher_without_a_multirun(launcher, home):
    code, stderr = home.call(f"hydra/launcher={launcher}", "hydra.run.dir=run")
    assert (code, stderr) == (2, f"kt-exp: error: hydra/launcher: {launcher} launches the jobs of "
                                 "multiruns; add -m\n")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_each_problem_of_a_sweep_is_said_once_and_nothing_runs(launcher, home, scripted_slurm):
    code, stderr = home.call("-m", f"hydra/launcher={launcher}", "hydra.sweep.dir=sweep",
                             "seed=0,1", "inversion.steps=0,2", "finetune=closed_form,papr",
                             "finetune.epochs=0", path=scripted_slurm)
    assert code == 2
    assert stderr.splitlines() == [
        "kt-exp: error: 4 jobs (1, 3, 5, 7): finetune: no option 'papr'; did you mean 'paper'?",
        "kt-exp: error: 2 jobs (0, 4): inversion.steps: 0 is out of range; give a number at "
        "least 1",
        "kt-exp: error: 2 jobs (2, 6): finetune.epochs: 0 is out of range; give a number at "
        "least 1",
        "kt-exp: error: sweep: 8 of 8 jobs cannot run, so none was started"]
    assert {path.name for path in (home.path / "sweep").glob("*")} <= {"multirun.yaml"}
    assert not (home.path / "store").exists()
    assert not (home.path / "sbatch_was_called").exists()


def test_the_end_of_a_sweep_says_once_what_several_jobs_failed_of(home):
    # Only the plan of training shows that batches of one image are too small for this loss.
    code, stderr = home.call("-m", *QUICK_RUN, "hydra.sweep.dir=sweep", "finetune.loss=ntxent",
                             "finetune.batch_size=1", "seed=0,1")
    assert code == 2
    assert stderr.splitlines()[-2:] == [
        "kt-exp: error: 2 jobs (sweep/0, sweep/1): finetune.batch_size: leaves a batch of one "
        "image, from which 'ntxent' learns nothing; choose another batch size, or "
        "finetune.loss=class_ce",
        "kt-exp: error: 2 of 2 jobs failed"]


@pytest.mark.parametrize(("arguments", "problem"), [
    (["seed=0", "-m", "finetune.lr=1e-4,1e-3"], "unrecognized arguments: finetune.lr=1e-4,1e-3"),
    (["--multi", "seed=0,1", "--dry"], "unrecognized arguments: --dry"),
    (["--cfg", "jobs"], "argument --cfg/-c: invalid choice: 'jobs'"),
], ids=["option in the middle", "unknown option", "unknown choice"])
def test_options_that_cannot_be_read(arguments, problem, home):
    line = refused(home.call(*arguments), home)
    assert line.startswith(f"kt-exp: error: command line: {problem}")
    assert line.endswith("; options go before all overrides: kt-exp -m key=value …")


def test_without_the_extra(home):
    hidden = ("import os, hydra_plugins\n"
              "hydra_plugins.__path__ = [path for path in hydra_plugins.__path__\n"
              "                          if 'hydra_submitit_launcher' not in os.listdir(path)]\n"
              "from kt_exp.cli import main; main()")
    ended = subprocess.run([sys.executable, "-c", hidden, *SLURM], cwd=home.path,
                           capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (
        2, "kt-exp: error: hydra/launcher: SLURM's launcher is not installed; pip install "
           "'kt_exp[slurm]'\n")
