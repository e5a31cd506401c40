"""Several jobs, one after another: what they share, and what a folder holds already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fixtures.configs import SHORT_TRAINING
from hydra.core.hydra_config import HydraConfig
from safetensors.torch import load_file

from kt_exp.benchmarks import pixels
from kt_exp.benchmarks.classification.phase_evaluator import UNTRAINED
from kt_exp.models.loading import CHANGES_FILE
from kt_exp.report import cli
from kt_exp.report.runs import find_jobs
from kt_exp.report.status import state_of
from kt_exp.results.record import read_record

pytestmark = pytest.mark.slow

TINY = [*SHORT_TRAINING, "finetune.rehearsal=0", "benchmark.images_per_target=2"]
KEEP = "on_existing=skip"


@pytest.fixture
def begun(monkeypatch) -> list[str]:
    """The folders of the jobs that are run, not skipped."""
    from kt_exp.pipeline import Experiment

    folders: list[str] = []

    def noted(*args):
        folders.append(Path(HydraConfig.get().runtime.output_dir).name)
        return Experiment(*args)

    monkeypatch.setattr("kt_exp.runs.job.Experiment", noted)
    return folders


@contextmanager
def raising(stage: str, error: BaseException) -> Iterator[None]:
    """Within the block the function `stage`, by its path in the package, raises `error`."""
    def raises(*args: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"kt_exp.{stage}", raises)
        yield


def report(capfd, *arguments: str) -> str:
    """What kt-report prints."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert not ended.value.code
    return capfd.readouterr().out


def test_a_completed_run_is_shown_and_not_computed_again(kt_exp, begun):
    first = kt_exp(*TINY, KEEP)
    written = (first.folder / "result.json").read_bytes()
    second = kt_exp(*TINY, KEEP, "traceback=true", "store.root=elsewhere")
    assert (second.code, second.stderr) == (0, "")
    assert begun == ["run"]
    assert (first.folder / "result.json").read_bytes() == written
    assert re.search(r"gyroscope +\d", second.stdout)
    assert "Skipped, as completed before: " in second.stdout


def test_a_completed_run_of_another_config_is_neither_taken_nor_replaced(kt_exp, begun):
    first = kt_exp(*TINY, KEEP)
    written = (first.folder / "result.json").read_bytes()
    other = kt_exp(*TINY, KEEP, "finetune.lr=0.5", "seed=3")
    assert other.code == 2
    assert other.stderr == (
        f"kt-exp: error: on_existing: {first.folder} holds a completed run of another config: "
        "finetune.lr is 0.001 there, 0.5 here, seed is 0 there, 3 here; give another folder, or "
        "on_existing=rerun\n")
    assert begun == ["run"]
    assert (first.folder / "result.json").read_bytes() == written


@pytest.mark.parametrize(("choice", "problem"), [
    ("error", "holds a completed run; give another folder, or on_existing=skip or rerun"),
    ("skipp", "'skipp' is not an option; did you mean 'skip'?")])
def test_a_completed_run_stays_where_it_shall_be_an_error(kt_exp, begun, choice, problem):
    first = kt_exp(*TINY)
    again = kt_exp(*TINY, f"on_existing={choice}")
    assert again.code == 2
    assert problem in again.stderr
    assert first.record.status == "completed"
    assert begun == ["run"]


def test_a_completed_run_is_computed_again_on_demand(kt_exp):
    first = kt_exp(*TINY).record
    second = kt_exp(*TINY, "on_existing=rerun").record
    assert second.started > first.started
    assert second.metrics == first.metrics


@pytest.mark.parametrize("choice", ["skip", "error"])
@pytest.mark.parametrize("error", [RuntimeError("out of order"), KeyboardInterrupt()],
                         ids=["failed", "interrupted"])
def test_a_run_that_was_not_completed_is_run_again(kt_exp, choice, error):
    with raising("finetune.images.invert_captions", error):
        assert kt_exp(*TINY).code != 0
    again = kt_exp(*TINY, f"on_existing={choice}")
    assert (again.code, again.record.status) == (0, "completed")


def test_a_sweep_that_comes_again_runs_what_failed_and_counts_the_rest(kt_exp, begun):
    sweep = [KEEP, "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${finetune.lr}"]
    assert kt_exp(*TINY, *sweep, "finetune.lr=1e-4", "-m").code == 0
    sweep += ["finetune.lr=1e-4,1e-3", "-m"]
    with raising("finetune.images.invert_captions", RuntimeError("out of order")):
        failed = kt_exp(*TINY, *sweep)
    assert failed.code == 1
    assert failed.stderr.endswith("kt-exp: error: sweep/0.001: out of order\n"
                                  "kt-exp: error: 1 of 2 jobs failed\n")
    assert kt_exp(*TINY, "tracker=none", *sweep).code == 0
    assert begun == ["0.0001", "0.001", "0.001"]


def test_a_sweep_into_folders_of_another_config_fails(kt_exp):
    sweep = [*TINY, KEEP, "hydra.sweep.dir=sweep", "-m"]
    assert kt_exp("finetune.lr=1e-4,1e-3", *sweep).code == 0
    other = kt_exp("finetune.lr=1e-4,1e-2", *sweep)
    assert other.code == 2
    assert "sweep/1 holds a completed run of another config: finetune.lr is 0.001 there" \
        in other.stderr


@pytest.mark.parametrize("strategy", ["visual", "projection"])
def test_a_job_is_the_same_alone_and_after_others_of_its_process(kt_exp, home, strategy):
    own = [*TINY, f"finetune.strategy={strategy}"]
    last = [*own, "finetune.lr=0.01"]
    assert kt_exp(*own, "finetune.lr=0.1,0.01", "hydra.sweep.dir=sweep", "store.root=shared",
                  "-m").code == 0
    alone = kt_exp(*last, "store.root=own").record
    [_, second] = sorted(find_jobs([home / "sweep"]), key=lambda job: job.folder)
    assert second.record is not None
    assert second.record.config["finetune"]["lr"] == 0.01
    # Inverted once, and the phases that train nothing evaluated once.
    assert second.record.reused == {"inversion": 1, "finetune": 0, "evaluation": len(UNTRAINED)}
    for field in ("metrics", "confusions", "curves", "signatures"):
        assert getattr(second.record, field) == getattr(alone, field), field
    taught = f"models/gyroscope/{CHANGES_FILE}"
    first, other = (load_file(folder / taught) for folder in (second.folder, home / "run"))
    assert all((first[name] == other[name]).all() for name in first)


def test_a_job_after_one_that_failed_in_fine_tuning_is_the_same(kt_exp, home, monkeypatch):
    from kt_exp.finetune import train

    original, calls = train._refuse_nan, []

    def fails_once(values):
        calls.append(values)
        if len(calls) == 1:
            raise RuntimeError("out of order")
        original(values)

    monkeypatch.setattr(train, "_refuse_nan", fails_once)
    assert kt_exp(*TINY, "finetune.lr=0.1,0.01", "hydra.sweep.dir=sweep", "-m").code == 1
    alone = kt_exp(*TINY, "finetune.lr=0.01", "store.root=own").record
    second = read_record(home / "sweep" / "1")
    assert second.metrics == alone.metrics
    assert second.curves["finetune"] == alone.curves["finetune"]


def test_pixels_from_the_store_change_nothing(kt_exp, home):
    def run(lr, *words):
        pixels.forget()  # as a new process begins
        return kt_exp(*TINY, "finetune.strategy=visual", f"finetune.lr={lr}", *words).record

    decoded = run(0.01, "store.root=own", "store.pixels_gib=0")
    run(0.1, "store.root=shared")
    kept = run(0.01, "store.root=shared")
    assert not (home / "own" / "pixels").exists()
    assert len(list((home / "shared" / "pixels").iterdir())) == 2  # known images, and the concept's
    assert (kept.metrics, kept.signatures) == (decoded.metrics, decoded.signatures)


def test_what_is_computed_once_is_what_would_be_computed_each_time(kt_exp, monkeypatch):
    quick = kt_exp(*TINY, "finetune.strategy=projection", "store.root=quick").record

    class Nothing:
        pass

    for module in ("kt_exp.benchmarks.classification.evaluator", "kt_exp.finetune.objectives"):
        monkeypatch.setattr(f"{module}.ProjectedEncoder", Nothing)
    slow = kt_exp(*TINY, "finetune.strategy=projection", "store.root=slow").record
    assert quick.metrics == slow.metrics
    assert quick.confusions == slow.confusions
    losses = [record.curves["finetune"]["gyroscope"]["loss"] for record in (quick, slow)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_seeds_are_an_axis_of_which_tables_show_mean_and_spread(kt_exp, home, capfd):
    assert kt_exp(*TINY, "seed=0,1", "hydra.sweep.dir=sweep", "-m").code == 0
    seeds = [job.record.seed for job in find_jobs([home / "sweep"])]
    assert sorted(seeds) == [0, 1]
    assert re.search(r"gyroscope.*±.*", report(capfd, "table", "sweep", "--format", "md"))


def test_status_shows_the_stage_of_a_running_job_and_the_error_of_a_failed_one(
        kt_exp, home, monkeypatch, capfd):
    from kt_exp.finetune import images

    shown = []
    original = images.invert_captions

    def watched(*arguments):
        original(*arguments)
        [job] = find_jobs([home / "run"])
        shown.append(state_of(job))
        raise RuntimeError("out of order")

    monkeypatch.setattr(images, "invert_captions", watched)
    assert kt_exp(*TINY).code == 1
    [running] = shown
    assert running.name == "running"
    assert running.detail.startswith("inversion: ")
    assert running.detail.endswith(", 100%")
    out = report(capfd, "status", "run")
    assert "1 failed" in out
    assert "out of order" in out


def test_wandb_follows_a_job_that_is_preempted_then_fails_and_comes_again(
        kt_exp, home, offline_run):
    sweep = [*TINY, KEEP, "tracker=wandb", "tracker.mode=offline", "hydra.sweep.dir=outputs/lr",
             "finetune.lr=0.01", "-m"]

    with raising("pipeline.finetune", KeyboardInterrupt()):
        assert kt_exp(*sweep).code == 130
    with raising("pipeline.finetune", RuntimeError("out of order")):
        assert kt_exp(*sweep).code == 1
    assert kt_exp(*sweep).code == 0

    files = sorted(home.glob("outputs/lr/0/wandb/offline-run-*/run-*.wandb"))
    attempts = [offline_run(file) for file in files]
    first, second, third = (attempt.run for attempt in attempts)
    assert first["run_id"] == second["run_id"] == third["run_id"]
    assert {run["run_group"] for run in (first, second, third)} == {"outputs/lr"}
    assert first["job_type"] == "inversion+finetune+evaluation"
    config = third["config"]
    assert (config["concept"], config["lr"], config["seed"]) == ("gyroscope", 0.01, 0)
    assert [attempt.exit_code for attempt in attempts] == [130, 1, 0]

    told = [{key for row in attempt.history for key in row} for attempt in attempts]
    score, loss = "inversion/gyroscope/score", "finetune/gyroscope/loss"
    assert [score in names for names in told] == [True, False, False]
    assert [loss in names for names in told] == [False, False, True]
    assert "inversion/gyroscope/images.count" in told[0]
    assert "results.nrows" in told[2]
    assert len(list(files[0].parent.glob("files/media/images/inversion/**/*.png"))) == 2
    summary = attempts[2].summary
    [metric] = [row for row in read_record(home / "outputs/lr/0").metrics
                if (row.phase, row.split, row.metric) == ("transferred", "known", "accuracy")]
    assert summary["status"] == "completed"
    assert summary["transferred/known/accuracy/gyroscope"] == metric.value
