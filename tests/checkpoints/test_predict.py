"""`kt-exp predict`: a folder of images is labelled by a run's model, or by what was exported."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kt_exp.commands import run_command
from kt_exp.pictograms.drawings import draw_class

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawings of a taught concept and of a known class, one in a sub-folder, and a broken file."""
    folder = tmp_path_factory.mktemp("drawings")
    for name in ("madras", "house"):
        (folder / name).mkdir()
        for number, image in enumerate(draw_class(name, 2, seed=5)):
            Image.fromarray(np.asarray(image)).save(folder / name / f"{number}.png")
    (folder / "broken.png").write_bytes(b"not an image")
    return folder


def predict(*arguments: object) -> int:
    return run_command("predict", [str(argument) for argument in arguments])


def labels(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {"/".join(Path(row["path"]).parts[-2:]): row["label"] for row in rows}


EXPECTED = {"madras/0.png": "madras", "madras/1.png": "madras", "house/0.png": "house",
            "house/1.png": "house"}


def test_a_run_labels_among_its_known_classes_and_the_new_name(closed_form, drawings, tmp_path,
                                                               capsys) -> None:
    out = tmp_path / "labels.csv"
    assert predict(closed_form, drawings, "--concept=madras", "--out", out) == 0
    found = labels(out)
    assert found.pop(f"{drawings.name}/broken.png") == ""
    assert found == EXPECTED
    printed = capsys.readouterr()
    assert "     2  madras\n" in printed.out
    assert "1 images could not be read" in printed.err


@pytest.mark.parametrize("form", ["open_clip", "hf"])
def test_an_export_knows_the_new_name_and_the_prompts(closed_form, drawings, form,
                                                      tmp_path) -> None:
    names, out = tmp_path / "known.txt", tmp_path / "labels.csv"
    names.write_text("house\nwheel\n\nmushroom\n", encoding="utf-8")
    run_command("export", [str(closed_form), "--concept=madras", f"--format={form}",
                           f"--out={tmp_path / form}"])
    assert predict(tmp_path / form, drawings, "--names", names, "--out", out) == 0
    found = labels(out)
    del found[f"{drawings.name}/broken.png"]
    assert found == EXPECTED
    [first, *_] = csv.DictReader(out.open(encoding="utf-8"))
    row = next(row for row in csv.DictReader(out.open(encoding="utf-8")) if row["label"])
    assert list(first) == ["path", "label", "score", "label_2", "score_2", "label_3", "score_3",
                           "label_4", "score_4", "label_5", "score_5"]
    assert float(row["score"]) > float(row["score_2"]) > float(row["score_4"])
    assert row["label_5"] == row["score_5"] == ""


@pytest.mark.parametrize(("arguments", "message"), [
    (["{run}", "{home}/nowhere", "--concept=madras"], "nowhere: no such folder"),
    (["{home}", "{drawings}"], "is neither the folder of a run nor of a model"),
    (["{run}", "{drawings}", "--names={home}/none.txt"], "none.txt: cannot be read"),
    (["{run}", "{drawings}"], "--concept: missing"),
    (["{run}", "{drawings}", "--concept=madras", "--out={home}/no/labels.csv"],
     "--out: cannot write"),
])
def test_mistakes_are_one_line(closed_form, drawings, arguments, message, tmp_path,
                               capsys) -> None:
    filled = [text.format(run=closed_form, home=tmp_path, drawings=drawings) for text in arguments]
    assert predict(*filled) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("kt-exp predict: error: ")
    assert message in line


def test_one_name_is_nothing_to_choose_from(closed_form, drawings, tmp_path, capsys) -> None:
    run_command("export", [str(closed_form), "--concept=madras", f"--out={tmp_path / 'madras'}"])
    assert predict(tmp_path / "madras", drawings) == 2
    assert "--names: 1 names are nothing to choose from" in capsys.readouterr().err
