from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import asdict
from importlib.util import find_spec

import pytest
from fixtures.configs import preset

from kt_exp.config.plugins import build
from kt_exp.errors import UserError

pytestmark = pytest.mark.slow


def tracker(name: str, **changes):
    return build(preset("tracker", name, **changes), "tracker")


@pytest.fixture
def no_login(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_DISABLE_WEAVE", "true")  # It advertises itself to users of LLMs.
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))


def test_no_tracker_takes_everything_and_does_nothing(record, pictures, tmp_path):
    none = tracker("none")
    none.start(record, tmp_path, None)
    none.curve("inversion", "moongate", "score", [0], [0.1])
    none.images("inversion", "moongate", pictures["moongate"])
    none.finish(record)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("change", "key"), [
    ({"mode": "sometimes"}, "tracker.mode"),
    ({"init_timeout": 0}, "tracker.init_timeout"),
    ({"projekt": "x"}, "tracker"),
])
def test_a_wrong_setting_is_refused(change, key):
    with pytest.raises(UserError, match=key):
        tracker("wandb", **change)


def test_a_missing_wandb_is_explained(record, tmp_path, no_login, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        tracker("wandb").start(record, tmp_path, None)


def test_finish_without_start_is_harmless(record):
    tracker("wandb").finish(record)


@pytest.mark.parametrize(("status", "error", "exit_code"), [
    ("completed", None, 0), ("failed", RuntimeError("broke"), 1),
    ("failed", UserError("finetune.lr", "too high"), 2), ("interrupted", None, 130)])
def test_an_offline_run_holds_config_curves_images_table_and_summary(
    status, error, exit_code, record, pictures, tmp_path, no_login, capfd, caplog, offline_run
):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "run"
    folder.mkdir()
    wandb_tracker = tracker("wandb", tags=["test"])
    record.config["finetune"] = {"lr": 1e-3, "images": "inverted", "rehearsal": 0.0}
    wandb_tracker.start(record, folder, tmp_path / "outputs" / "rates")
    try:
        for _ in range(2):  # as after each stage
            wandb_tracker.curve("inversion", "moongate", "score", [0, 5, 10], [0, 0.25, 0.5])
            wandb_tracker.images("inversion", "moongate", pictures["moongate"])
    finally:
        record.close(status, error)
        wandb_tracker.finish(record)

    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    assert "".join(capfd.readouterr()) == ""
    found = offline_run(file)
    run, config, history = found.run, found.run["config"], found.history
    assert (run["project"], run["tags"]) == ("knowledge-transfer", ["test"])
    assert (run["run_group"], run["job_type"]) == ("outputs/rates",
                                                   "inversion+finetune+evaluation")
    assert config["inversion"] == {"lr": 0.1, "sizes": [32, 64]}
    assert (config["concept"], config["lr"]) == ("moongate, umbrella", 1e-3)

    assert [row["inversion/moongate/score"] for row in history[:3]] == [0, 0.25, 0.5]
    assert [row["inversion/step"] for row in history[:3]] == [0, 5, 10]
    assert history[3]["inversion/moongate/images.count"] == 2
    assert len(list(file.parent.glob("files/media/images/**/*.png"))) == 2
    assert history[4]["results.nrows"] == len(record.metrics)
    assert len(history) == 5
    [table] = file.parent.glob("files/media/table/*.table.json")
    results = json.loads(table.read_text())
    assert dict(zip(results["columns"], results["data"][0], strict=True)) == \
        asdict(record.metrics[0])

    assert found.summary["transferred/target/accuracy/moongate"] == 0.9
    assert found.summary["transferred/target/accuracy"] == pytest.approx(0.45)
    assert found.summary["status"] == status
    assert found.exit_code == exit_code
    (hint,) = [entry for entry in caplog.records if entry.name.startswith("kt_exp")]
    assert hint.getMessage().endswith(f"wandb sync {file.parent}")


def test_a_requeued_job_goes_on_with_its_run_and_says_nothing_twice(
    record, tmp_path, no_login, offline_run
):
    found = []
    for status in ("interrupted", "completed", "completed"):
        wait_for_a_new_second()
        wandb_tracker = tracker("wandb")
        wandb_tracker.start(record, tmp_path, None)
        wandb_tracker.curve("inversion", "moongate", "score", [0, 1], [0.1, 0.2])
        record.close(status)
        wandb_tracker.finish(record)
        attempt = offline_run(max(tmp_path.glob("wandb/offline-run-*/run-*.wandb")))
        found.append((attempt.run["run_id"],
                      sum("inversion/step" in row for row in attempt.history)))
    (first, two), (second, none), (third, again) = found
    assert first == second
    assert first != third  # a completed run is not gone on with
    assert (two, none, again) == (2, 0, 2)


def test_the_trade_off_is_an_image_and_the_operating_point_in_the_summary(
    classified, tmp_path, no_login, offline_run
):
    record, _ = classified.record(concepts=("moongate",), budget=0.01)
    wandb_tracker = tracker("wandb")
    wandb_tracker.start(record, tmp_path, None)
    wandb_tracker.finish(record)
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert len(list(file.parent.glob("files/media/images/tradeoff_*.png"))) == 1
    summary, [chosen] = offline_run(file).summary, record.calibrations
    assert summary["calibrated/gamma/moongate"] == chosen.point.gamma
    target = record.metric("calibrated", "moongate", "target").value
    assert summary["calibrated/target/accuracy/moongate"] == target
    assert summary["calibrated/target/accuracy"] == target


def wait_for_a_new_second() -> None:
    """W&B files a run under the second in which it began."""
    time.sleep(1 - time.time() % 1)


@pytest.mark.parametrize(("finetune", "job_type"), [
    ({"images": "inverted", "rehearsal": 0.0}, "inversion+finetune+evaluation"),
    ({"images": "noise", "rehearsal": 0.0}, "finetune+evaluation"),
    ({"images": "inverted", "rehearsal": 1.0, "strategy": "projection_edit"},
     "finetune+evaluation"),
    ({"images": "folder", "rehearsal": 1.0}, "inversion+finetune+evaluation")])
def test_the_job_type_is_the_stages_that_run(finetune, job_type):
    from kt_exp.runs.trackers import _stages

    assert _stages({"finetune": finetune}) == job_type


def test_a_key_makes_auto_mode_online(no_login, monkeypatch):
    from kt_exp.runs.trackers import _resolve_mode

    assert _resolve_mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert _resolve_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert _resolve_mode() == "disabled"


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboard"),
                                               ("mlflow", "mlflow")])
def test_a_missing_library_is_explained(name, package, record, tmp_path, monkeypatch):
    for module in ("torch.utils.tensorboard", "mlflow", "mlflow.exceptions", "mlflow.tracking"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"{package} is not installed; pip install 'kt_exp\["):
        tracker(name).start(record, tmp_path, None)
    tracker(name).finish(record)


def test_tensorboard_holds_curves_images_and_results(record, pictures, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # as a requeued job
        board = tracker("tensorboard")
        board.start(record, tmp_path, None)
        for _ in range(2):  # as after each stage
            board.curve("inversion", "moongate", "score", [0, 5], [0, 0.25])
            board.images("inversion", "moongate", pictures["moongate"])
        board.finish(record)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    curve = events.Scalars("inversion/moongate/score")
    assert [(event.step, event.value) for event in curve] == [(0, 0), (5, 0.25)]
    assert len(events.Images("inversion/moongate/images")) == 1
    [value] = events.Scalars("transferred/target/accuracy/moongate")
    assert value.value == pytest.approx(0.9)


def test_mlflow_holds_config_curves_images_and_results_and_goes_on(record, pictures, tmp_path,
                                                                   monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MLflow keeps images beside a database
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}" if find_spec("sqlalchemy") else \
        str(tmp_path / "mlruns")
    for status in ("interrupted", "completed"):
        flow = tracker("mlflow", tracking_uri=uri, tags={"team": "vision"})
        flow.start(record, tmp_path, tmp_path / "rates")
        flow.curve("inversion", "moongate", "score", [0, 5], [0, 0.25])
        flow.images("inversion", "moongate", pictures["moongate"])
        record.close(status)
        flow.finish(record)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("knowledge-transfer")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["inversion.lr"] == "0.1"
    assert run.data.tags["sweep"].endswith("rates")
    assert run.data.metrics["transferred/target/accuracy/moongate"] == 0.9
    curve = client.get_metric_history(run.info.run_id, "inversion/moongate/score")
    assert [(point.step, point.value) for point in curve] == [(0, 0), (5, 0.25)]
    images = client.list_artifacts(run.info.run_id, "inversion/moongate/images")
    assert len(images) == len(pictures["moongate"])
    assert not (tmp_path / "mlflow.json").exists()
