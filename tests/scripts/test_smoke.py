"""`scripts/smoke.py` on some of its pairs, and on pairs that do not end as they should."""

from __future__ import annotations

import logging
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
import smoke

from kt_exp.benchmarks.captioning.metrics import java_version

pytestmark = pytest.mark.slow

CAPTIONING = java_version() is not None and find_spec("pycocoevalcap") is not None


@pytest.fixture(autouse=True)
def left_alone(tmp_path, monkeypatch):
    """Give back the process's logging and signals, which a run sets up for itself."""
    monkeypatch.chdir(tmp_path)
    handlers, level = logging.root.handlers[:], logging.root.level
    on_sigterm = signal.getsignal(signal.SIGTERM)
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    signal.signal(signal.SIGTERM, on_sigterm)


def verdicts(capsys) -> dict[str, str]:
    """Return what was said of each pair as it ended."""
    lines = capsys.readouterr().out.splitlines()
    return dict(line.split(": ", 1) for line in lines if " × " in line)


def test_what_a_model_can_do_runs_through_and_what_it_cannot_is_refused(capsys):
    assert smoke.main(["--models", "open_clip", "vilt", "medclip",
                       "--tasks", "classification", "closed_set", "segmentation"]) == 0
    said = verdicts(capsys)
    refused = {pair: line for pair, line in said.items() if line != "ok"}
    assert len(said) == 9
    assert refused.keys() == {"vilt × closed_set", "vilt × segmentation", "medclip × segmentation"}
    assert all(line.startswith("refused (model: ") for line in refused.values())


@pytest.mark.skipif(not CAPTIONING, reason="no Java, or no pycocoevalcap, on this machine")
def test_captions(capsys, monkeypatch):
    # METEOR alone takes longer than all the rest; it has a test of its own.
    monkeypatch.setattr("kt_exp.benchmarks.captioning.metrics._meteor",
                        lambda truth, said: (0.5, [0.5] * len(said)))
    assert smoke.main(["--models", "coca", "biomedclip", "--tasks", "captioning"]) == 0
    said = verdicts(capsys)
    assert said["coca × captioning"] == "ok"
    assert said["biomedclip × captioning"].startswith("refused (model: OpenClipTransformer writes")


def test_the_table_is_whole_also_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(smoke, "smoke", lambda models, tasks, root, tell: [
        smoke.Result(model, task, "refused", "", 100) for model in models for task in tasks])
    assert smoke.main([]) == 0
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if line.count("refused 100 s") == len(smoke.TASKS)]
    assert [row.split()[1] for row in rows] == list(smoke.MODELS)
    assert "45 pairs, 0 failed, 4500 s (" in said


def test_the_page_on_what_was_verified_has_the_same_pairs():
    page = Path(__file__).parents[2] / "docs" / "verified.md"
    [header, *rows] = [[cell.strip(" `") for cell in line.strip("|").split("|")]
                       for line in page.read_text(encoding="utf-8").split("## Runs")[1].splitlines()
                       if line.startswith("| ")][:1 + len(smoke.MODELS)]
    assert header[1:] == list(smoke.TASKS)
    assert [row[0] for row in rows] == list(smoke.MODELS)
    for model, *cells in rows:
        for task, cell in zip(smoke.TASKS, cells, strict=True):
            assert (cell == "refused") == (model in smoke.CAN_NOT.get(task, ("", set()))[1])


def test_what_this_machine_lacks_is_left_out(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert smoke.main(["--models", "coca", "--tasks", "captioning"]) == 0
    assert "left out (benchmark: " in verdicts(capsys)["coca × captioning"]


def test_what_ends_otherwise_than_expected_has_failed(capsys, monkeypatch):
    monkeypatch.setitem(smoke.CAN_NOT, "segmentation", ("", set()))
    monkeypatch.setitem(smoke.CAN_NOT, "retrieval", ("", {"pictoclip"}))
    monkeypatch.setitem(smoke.TASKS, "captioning", lambda folder: ["benchmark=none"])
    assert smoke.main(["--models", "pictoclip", "--tasks", "retrieval"]) == 1
    assert verdicts(capsys)["pictoclip × retrieval"] == "FAILED (not refused)"
    assert smoke.main(["--models", "vilt", "--tasks", "segmentation", "captioning"]) == 1
    said = verdicts(capsys)
    assert said["vilt × segmentation"].startswith("FAILED (model: ViLTModel cannot segment")
    assert said["vilt × captioning"].startswith("FAILED (benchmark: no option 'none'")


def test_a_run_without_all_of_its_results_has_failed(tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr("kt_exp.runs.artifacts.write_page", broken)
    folder = tmp_path / "runs"
    assert smoke.main(["--models", "open_clip", "--tasks", "retrieval", "--keep", str(folder)]) == 1
    assert "FAILED (" in verdicts(capsys)["open_clip × retrieval"]
    assert (folder / "runs" / "open_clip-retrieval" / "result.json").exists()
    with pytest.raises(SystemExit):
        smoke.main(["--keep", str(folder)])
