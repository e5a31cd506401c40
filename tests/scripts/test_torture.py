"""`scripts/torture.py`: a short form of the trials, and that they find what is wrong."""

import json
import random
from importlib.util import find_spec

import pytest
import torture
from trials.damage import damage_trials
from trials.kills import kill_trials
from trials.undisturbed import undisturbed

pytestmark = pytest.mark.slow


def test_nothing_is_lost_or_silent_and_no_traceback_is_shown(capsys):
    inputs = 5 if find_spec("hypothesis") else 0
    code = torture.main(["--kills", "2", "--flips", "1", "--disks", "1", "--no-mount",
                         "--inputs", str(inputs)])
    shown = capsys.readouterr().out
    assert code == 0, shown
    for line in ("kills                      2 trials", "flips and truncations      1 trials",
                 "limited files              1 trials"):
        assert line in shown
    assert shown.count("    5 trials") == (2 if inputs else 0)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return undisturbed(tmp_path_factory.mktemp("good"))


def test_a_run_that_lacks_a_file_is_found(good, tmp_path, monkeypatch):
    monkeypatch.setattr("kt_exp.runs.artifacts.write_page",
                        lambda record, folder, *_: folder / "report.html")
    tally = kill_trials(1, good, tmp_path, random.Random(0))
    assert "completed without report.html" in tally.problems[0]


def test_damage_that_nobody_notices_is_found(good, tmp_path, monkeypatch):
    monkeypatch.setattr("kt_exp.store.store._digest", lambda *_: "")
    unchecked = undisturbed(tmp_path / "unchecked")
    tally = damage_trials(3, unchecked, tmp_path, random.Random(0), kind="inversion")
    assert any("another result than without the damage" in problem for problem in tally.problems)


def test_control_characters_that_are_shown_are_found(good, tmp_path, monkeypatch):
    inputs = pytest.importorskip("trials.inputs", reason="needs hypothesis")
    text = (good.home / "run" / "result.json").read_text()
    content = json.loads(text.replace("gyroscope", "\\u001b[31mgyroscope"))
    case = (("notes",), [])
    assert inputs.report_one(content, case, tmp_path) == "shown"
    monkeypatch.setattr("kt_exp.report.grid.printable", lambda text: text)
    with pytest.raises(AssertionError, match="control characters"):
        inputs.report_one(content, case, tmp_path)
