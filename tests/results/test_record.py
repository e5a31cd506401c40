from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from kt_exp.errors import UserError
from kt_exp.results.outcome import Confusion, Metric, Outcome, Phase
from kt_exp.results.record import (
    ErrorEntry,
    RunRecord,
    collect_versions,
    read_record,
    write_record,
)
from kt_exp.runs.git_state import git_state

DOCS = Path(__file__).parents[2] / "docs" / "results.md"


def test_what_is_written_is_what_is_read(record, tmp_path):
    path = write_record(record, tmp_path)
    assert read_record(path) == record
    assert read_record(str(tmp_path)) == record


def test_a_started_run_counts_as_interrupted_until_it_is_closed(tmp_path):
    write_record(RunRecord(command=["kt-exp"], config={}), tmp_path)
    started = read_record(tmp_path)
    assert (started.status, started.finished, started.error) == ("interrupted", None, None)
    assert started.started.endswith("+00:00")


def test_a_failure_is_kept_with_its_type_and_message(tmp_path):
    record = RunRecord(command=[], config={})
    record.close("failed", RuntimeError("out of memory"))
    write_record(record, tmp_path)
    assert read_record(tmp_path).error == ErrorEntry("RuntimeError", "out of memory")


def test_numbers_that_json_lacks_become_null(tmp_path):
    loss = {"moongate": {"steps": [0, 1], "loss": [1.0, math.nan]}}
    write_record(RunRecord(command=[], config={}, curves={"finetune": loss}), tmp_path)
    assert read_record(tmp_path).curves["finetune"]["moongate"]["loss"] == [1.0, None]


def test_an_object_in_the_record_is_refused_and_the_old_file_stays(record, tmp_path):
    write_record(record, tmp_path)
    broken = RunRecord(command=[], config={"model": object()})
    with pytest.raises(TypeError, match="object"):
        write_record(broken, tmp_path)
    assert read_record(tmp_path) == record


def test_a_crash_while_writing_leaves_the_old_file_and_no_other(record, tmp_path, monkeypatch):
    write_record(record, tmp_path)

    def crash(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="disk full"):
        write_record(RunRecord(command=["other"], config={}), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert read_record(tmp_path) == record


@pytest.mark.parametrize(("text", "problem"), [
    ("{", "not valid JSON"),
    ("[]", "it has no schema_version"),
    ('{"schema_version": 99}', "schema version 99"),
    ('{"schema_version": 2, "status": "completed"}', "missing or unknown"),
])
def test_a_file_that_is_no_record_is_refused_by_name(text, problem, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(UserError, match=problem) as refusal:
        read_record(path)
    assert refusal.value.where == str(path)


def test_a_record_from_before_there_were_notes_is_read(record, tmp_path):
    path = write_record(record, tmp_path)
    content = json.loads(path.read_text())
    del content["notes"]
    path.write_text(json.dumps(content | {"schema_version": 1}))
    assert read_record(path) == record


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_record_from_before_there_were_operating_points_is_read(version, classified, tmp_path):
    record, _ = classified.record()
    content = json.loads(write_record(record, tmp_path).read_text())
    del content["calibrations"]
    if version < 3:
        del content["tradeoffs"]
        record.tradeoffs = []
    (tmp_path / "result.json").write_text(json.dumps(content | {"schema_version": version}))
    assert read_record(tmp_path) == record


def test_a_record_from_before_memory_was_measured_is_read(classified, tmp_path):
    record, _ = classified.record(budget=0.01)
    content = json.loads(write_record(record, tmp_path).read_text())
    del content["peak_gib"]
    (tmp_path / "result.json").write_text(json.dumps(content | {"schema_version": 4}))
    assert read_record(tmp_path) == record
    assert record.calibrations


def test_an_operating_point_is_read_as_it_was_written(classified, tmp_path):
    record, _ = classified.record(budget=0.01)
    write_record(record, tmp_path)
    again = read_record(tmp_path)
    assert again == record
    assert again.calibration("umbrella") == record.calibrations[1]
    assert again.calibration("zorb") is None


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.*cannot be read"):
        read_record(tmp_path / "nowhere")


def test_a_metric_is_found_by_its_four_names(record):
    row = record.metric("transferred", "moongate", "target")
    assert row is not None
    assert (row.count, row.total, row.value) == (18, 20, 0.9)
    assert record.metric("transferred", "moongate", "known", "mean_per_class_accuracy") is None


def test_confusions_come_most_frequent_first_and_without_the_concept_itself(record):
    record.confusions.append(
        Confusion(Phase.baseline, "moongate", "moongate", 99))
    assert [row.predicted for row in record.mistaken_for("baseline", "moongate")] == [
        "wheel", "dice"]


def test_an_evaluation_goes_into_the_record_as_it_is(tmp_path):
    row = Metric(Phase.baseline, "moongate", "known", "mean_per_class_accuracy", 0.75, None, 8)
    outcome = Outcome([row], [Confusion(Phase.baseline, "moongate", "wheel", 3)], skipped=[])
    record = RunRecord(command=[], config={})
    record.add_outcome(outcome)
    write_record(record, tmp_path)
    again = read_record(tmp_path)
    assert again.metric("baseline", "moongate", "known", "mean_per_class_accuracy") == row
    assert [answer.count for answer in again.mistaken_for("baseline", "moongate")] == [3]


def test_versions_name_python_and_leave_out_what_is_not_installed(monkeypatch):
    monkeypatch.setattr("kt_exp.results.record.REPORTED_PACKAGES", ("numpy", "no-such-package"))
    assert set(collect_versions()) == {"python", "numpy"}


def test_git_state_names_the_commit_of_the_checkout(tmp_path, monkeypatch):
    checkout = _package_in_a_repository(tmp_path, monkeypatch)
    state = git_state()
    assert state is not None
    assert re.fullmatch(r"[0-9a-f]{40}", state["commit"])
    assert state["dirty"] is False
    (checkout / "__init__.py").write_text("changed = True")
    assert git_state() == {**state, "dirty": True}


def test_a_package_that_the_repository_does_not_track_has_no_git_state(tmp_path, monkeypatch):
    _package_in_a_repository(tmp_path, monkeypatch)
    wheel = tmp_path / "venv" / "kt_exp" / "__init__.py"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    monkeypatch.setattr("kt_exp.__file__", str(wheel))
    assert git_state() is None


def test_an_absent_git_is_tolerated(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_state() is None


def test_records_need_no_torch():
    code = ("import sys, kt_exp.runs.console, kt_exp.report.page, kt_exp.runs.trackers;"
            "assert not {'torch', 'wandb', 'matplotlib'} & sys.modules.keys()")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_field_is_documented():
    text = DOCS.read_text(encoding="utf-8")
    assert [f.name for f in fields(RunRecord) if f"`{f.name}`" not in text] == []


def test_schema_version_comes_first_in_the_file(record, tmp_path):
    content = json.loads(write_record(record, tmp_path).read_text(encoding="utf-8"))
    assert next(iter(content)) == "schema_version"


def _package_in_a_repository(folder: Path, monkeypatch) -> Path:
    package = folder / "kt_exp"
    package.mkdir()
    (package / "__init__.py").touch()
    for arguments in (["init", "-q"], ["add", "kt_exp"],
                      ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True)
    monkeypatch.setattr("kt_exp.__file__", str(package / "__init__.py"))
    return package
