"""Multiruns on a real SLURM: arrays, failures, preemption, time limits, shared results."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from kt_exp.runs.git_state import git_state

pytestmark = pytest.mark.slow

TINY = [
    "inversion.sizes=[]", "inversion.upsize_at=[]", "inversion.images=2",
    "inversion.checkpoint_seconds=1", "finetune.epochs=1", "finetune.batch_size=2",
    "finetune.rehearsal=0", "finetune.save_models=false", "benchmark.images_per_known_class=1",
    "benchmark.images_per_target=2",
]
# Some ten seconds of inversion: time enough to be disturbed.
LONG = ["inversion=fast", "finetune=pictograms", *TINY, "concepts.only=[gyroscope]",
        "inversion.steps=500"]
SLURM = [
    "-m", "hydra/launcher=slurm_cpu", "hydra.launcher.partition=low",
    "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1",
    # Up to ten minutes submitit would take every preemption for a time-out.
    "hydra.launcher.timeout_min=10", "hydra.launcher.signal_delay_s=20",
    "hydra.launcher.max_num_timeout=2",
]


def printed() -> list[str]:
    """The sweep that the page on clusters tries out."""
    page = Path(__file__).parents[2] / "docs" / "cluster.md"
    lines = page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    [line] = [line for line in lines if line.startswith("kt-exp -m ") and "partition=low" in line]
    return shlex.split(line)[1:]


@pytest.fixture(scope="module")
def sweep(cluster):
    """Three jobs of an array; the last one fails when it starts."""
    process = cluster.start(*printed(), *TINY, "inversion.steps=20")
    _, stderr = process.communicate()
    return process.returncode, stderr


def test_all_jobs_of_an_array_run_and_the_failed_one_is_named(sweep, cluster):
    code, stderr = sweep
    states = [cluster.record(f"sweep/{number}").status for number in range(3)]
    assert states == ["completed", "completed", "failed"], stderr
    assert code == 2
    assert "kt-exp: error: sweep/2: finetune.strategy: the model has no parameters for" in stderr
    assert stderr.endswith("kt-exp: error: 1 of 3 jobs failed\n")
    assert "#1 COMPLETED" in stderr
    assert "#2 FAILED" in stderr


def test_two_jobs_that_need_the_same_inversion_at_once_compute_it_once(sweep, cluster):
    first, second = cluster.record("sweep/0"), cluster.record("sweep/1")
    assert first.started < second.finished
    assert second.started < first.finished
    assert sorted([first.reused["inversion"], second.reused["inversion"]]) == [0, 2]
    assert first.signatures["inversion"] == second.signatures["inversion"]
    assert list((cluster.home / "store" / "locks").iterdir()) == []


def test_jobs_run_a_copy_of_the_code_made_at_submission(sweep, cluster):
    [copy] = (cluster.home / "sweep" / ".submitit").glob("code-*")
    assert f"{copy}/kt_exp/pictograms" in cluster.log("sweep/0")
    recorded, state = cluster.record("sweep/0").git, git_state()
    assert (recorded is None) == (state is None)
    if recorded and state:
        assert recorded["commit"] == state["commit"]


def test_preempted_in_mid_inversion_a_job_goes_on_and_ends_bit_equal(cluster):
    undisturbed = cluster.start(*LONG, "hydra.run.dir=undisturbed", store="another_store")
    process = cluster.start(*SLURM, *LONG, "hydra.sweep.dir=preempted", store="store_preempted")
    identifier = cluster.identifier("preempted")
    cluster.until(lambda: any((cluster.home / "store_preempted").glob("inversion_partial/*")))
    cluster.preempt()
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr + cluster.log("preempted/0")
    assert int(cluster.job("Restarts", identifier)) >= 1  # more where a busy machine takes its time
    assert "Going on with the inversion at step" in cluster.log("preempted/0")
    _, stderr = undisturbed.communicate()
    assert undisturbed.returncode == 0, stderr
    images = "images/gyroscope/images.safetensors"
    assert (cluster.home / "preempted/0" / images).read_bytes() \
        == (cluster.home / "undisturbed" / images).read_bytes()
    assert cluster.record("preempted/0").metrics == cluster.record("undisturbed").metrics


def test_submitted_and_left_a_job_outlives_its_time_limit_but_not_scancel(cluster):
    left = cluster.start(*SLURM, *LONG, "hydra.sweep.dir=left", "hydra.launcher.wait=false",
                         store="store_left")
    _, stderr = left.communicate()
    identifier = cluster.identifier("left")
    assert left.returncode == 0
    assert f"Submitted 1 jobs to SLURM as {identifier}" in stderr
    assert "kt-report status" in stderr

    cluster.until(lambda: any((cluster.home / "store_left").glob("inversion_partial/*")))
    cluster.ask("scancel", "--signal=USR2", identifier)  # as SLURM does before the time limit
    cluster.until(lambda: "Going on with the inversion at step" in cluster.log("left/0"))
    restarts = cluster.job("Restarts", identifier)
    assert int(restarts) >= 1

    cluster.ask("scancel", identifier)
    cluster.until(lambda: cluster.job("JobState", identifier) == "CANCELLED")
    cluster.until(lambda: cluster.record("left/0").finished is not None)
    assert cluster.record("left/0").status == "interrupted"
    assert cluster.job("Restarts", identifier) == restarts


def test_a_partition_that_does_not_exist_is_refused(cluster):
    process = cluster.start(*SLURM, "hydra.launcher.partition=lwo", "hydra.sweep.dir=none")
    _, stderr = process.communicate()
    assert process.returncode == 2
    assert stderr == ("kt-exp: error: hydra.launcher.partition: SLURM has no partition 'lwo'; "
                      "did you mean 'low'?\n")
