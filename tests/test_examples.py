"""The notebook and the Python examples of the docs, run as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import kt_exp

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "teach_a_concept.ipynb"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples share the stages that they have in common."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KT_EXP_STORE", str(store))
    return tmp_path


@pytest.mark.slow
def test_the_notebook_runs(home) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(home)}}).execute()
    runs = home / "outputs" / "teach_a_concept"
    taught, control = kt_exp.read_run(runs / "gyroscope"), kt_exp.read_run(runs / "noise")
    before, after, from_noise = (
        record.metric(phase, "gyroscope", "target")
        for record, phase in ((taught, "baseline"), (taught, "transferred"),
                              (control, "transferred")))
    assert before.value < 0.1 < 0.5 < after.value
    assert from_noise.value < 0.1


def test_the_stored_outputs_are_those_of_one_run_without_paths_of_a_machine() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert all(output.output_type != "error" for output in outputs)
    texts = [output.get("text") or output.data["text/plain"] for output in outputs]
    assert any("37 of 50 drawings" in text for text in texts)
    assert not [text for text in texts if re.search(r"(?<![\w.])/\w+/\w+", text)]


@pytest.mark.slow
def test_the_example_of_the_docs_runs(home, capsys) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    first = re.search(r"```python\n(.*?)```", page, re.S)
    assert first
    exec(compile(first[1], "python.md", "exec"), {})
    settings, before, after = capsys.readouterr().out.splitlines()
    assert settings == "projection_edit 1.3"
    assert re.fullmatch(r"baseline \d of 50", before)
    assert re.fullmatch(r"transferred [2-5]\d of 50", after)
    assert kt_exp.read_run("outputs/gyroscope").status == "completed"
