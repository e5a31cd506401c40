from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kt_exp.errors import UserError
from kt_exp.plugins import build

CONF = Path(__file__).parents[2] / "conf" / "tracker"


def tracker(name: str, **changes):
    return build(OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), changes), "tracker")


@pytest.fixture
def no_login(tmp_path, monkeypatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))


def test_no_tracker_takes_everything_and_does_nothing(record, pictures, tmp_path):
    none = tracker("none")
    none.start(record, tmp_path)
    none.log("inversion", "moongate", 0, {"score": 0.1})
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
        tracker("wandb").start(record, tmp_path)


def test_finish_without_start_is_harmless(record):
    tracker("wandb").finish(record)


@pytest.mark.parametrize(("status", "exit_code"), [
    ("completed", 0), ("failed", 1), ("interrupted", 130)])
def test_an_offline_run_holds_config_curves_images_and_summary(
    status, exit_code, record, pictures, tmp_path, no_login, capfd, caplog
):
    caplog.set_level(logging.INFO)
    pytest.importorskip("wandb")
    folder = tmp_path / "run"
    folder.mkdir()
    wandb_tracker = tracker("wandb", tags=["test"])
    wandb_tracker.start(record, folder)
    try:
        for step in range(3):
            wandb_tracker.log("inversion", "moongate", step, {"score": step / 4})
        wandb_tracker.images("inversion", "moongate", pictures["moongate"])
    finally:
        record.status = status
        wandb_tracker.finish(record)

    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    records = wait_for_the_end(file)
    run = next(r.run for r in records if r.HasField("run"))
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert (run.project, list(run.tags)) == ("knowledge-transfer", ["test"])
    assert config["inversion"] == {"lr": 0.1, "sizes": [32, 64]}

    history = [name_and_value(r.history.item) for r in records if r.HasField("history")]
    assert [row["inversion/moongate/score"] for row in history[:3]] == [0, 0.25, 0.5]
    assert [row["inversion/step"] for row in history[:3]] == [0, 1, 2]
    assert history[3]["inversion/moongate/images/count"] == 2
    assert len(list(file.parent.glob("files/media/images/**/*.png"))) == 2

    summary: dict = {}
    for r in records:
        if r.HasField("summary"):
            summary |= name_and_value(r.summary.update)
    assert summary["transferred/target/accuracy/moongate"] == 0.9
    assert summary["transferred/target/accuracy"] == pytest.approx(0.45)
    assert summary["status"] == status
    assert [r.exit.exit_code for r in records if r.HasField("exit")] == [exit_code]
    assert "".join(capfd.readouterr()) == ""
    (hint,) = [entry for entry in caplog.records if entry.name.startswith("kt_exp")]
    assert hint.getMessage().endswith(f"wandb sync {file.parent}")


def test_a_key_makes_auto_mode_online(no_login, monkeypatch):
    from kt_exp.report.trackers import _resolve_mode

    assert _resolve_mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert _resolve_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert _resolve_mode() == "disabled"


def name_and_value(items) -> dict:
    """Join nested keys with a slash, as W&B shows them."""
    return {(item.key or "/".join(item.nested_key)): json.loads(item.value_json)
            for item in items}


def wait_for_the_end(path: Path) -> list:
    """W&B's service writes the last bytes a moment after `finish` returned."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        records = list(read_offline_run(path))
        if records and records[-1].HasField("exit"):
            return records
        time.sleep(0.05)
    raise TimeoutError(f"no end in {path}")


def read_offline_run(path: Path) -> Iterator:
    """Read a .wandb file: records in LevelDB's log format (32 KiB blocks) after a 7-byte header."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(content[position + 4:position + 6], "little"), \
            content[position + 6]
        if kind == 0:
            position += left
            continue
        parts += content[position + 7:position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
