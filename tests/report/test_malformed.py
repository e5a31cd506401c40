"""Records and pictures that are damaged: named, and the other runs are shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from PIL import Image

from kt_exp.errors import UserError
from kt_exp.report.cli import main
from kt_exp.results.record import read_record


@pytest.fixture
def spoiled(sweeps, record):
    """Saves the run of two concepts beside a good one, with something else at a place in it."""

    def save(place: str, value: Any):
        sweeps.run("good", {"dice": (0, 50, 58, 57)})
        folder = sweeps.save("bad", record)
        content = json.loads((folder / "result.json").read_text())
        *parents, last = [int(key) if key.isdigit() else key for key in place.split(".")]
        inner = content
        for key in parents:
            inner = inner[key]
        inner[last] = value
        (folder / "result.json").write_text(json.dumps(content))
        return folder

    return save


@pytest.mark.parametrize(("place", "value", "problem"), [
    ("status", "done", "status is 'done'"),
    ("started", "yesterday", "started is 'yesterday', which is no time"),
    ("started", "2026-03-01", "which is no time"),
    ("metrics.0.total", "x", "metrics[0].total is 'x'"),
    ("metrics.0.count", 99, "metrics[0] has 99 of 20"),
    ("metrics.0.value", float("nan"), "metrics[0].value is nan"),
    ("metrics.0.phase", "before", "'before' is not a valid Phase"),
    ("metrics", [None], "is not a run record"),
    ("concepts.0.diagnosis.nearest", [["wheel", "near"]], "nearest[0][1] is 'near'"),
    ("config", [], "config is a list"),
    ("overrides", [1], "overrides[0] is 1"),
    ("curves.finetune.moongate", [1], "curves.finetune.moongate has no steps"),
    ("curves.finetune.moongate.loss", [1], "curves.finetune.moongate has no steps with as many"),
    ("files.overview", "../../etc/passwd", "which is not in the folder of the run"),
    ("files.overview", "/etc/passwd", "which is not in the folder of the run"),
    ("seconds.inversion", True, "seconds.inversion is True"),
])
def test_a_malformed_record_is_named_and_the_rest_is_shown(spoiled, sweeps, capsys, place, value,
                                                           problem):
    folder = spoiled(place, value)
    with pytest.raises(UserError) as error:
        read_record(folder)
    assert str(error.value).startswith(f"{folder}/result.json: is not a run record: ")
    assert problem in str(error.value)
    for command in (["table"], ["status"], ["page", "--out", str(sweeps.root / "page.html")]):
        with pytest.raises(SystemExit) as ended:
            main([command[0], str(sweeps.root), *command[1:]])
        assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "dice" in shown
    assert "is not a run record" in shown


def page(sweeps) -> str:
    out = sweeps.root / "page.html"
    with pytest.raises(SystemExit) as ended:
        main(["page", str(sweeps.root), "--out", str(out)])
    assert ended.value.code == 0
    return out.read_text()


@pytest.fixture
def with_picture(sweeps, record):
    record.files["overview"] = "overview.png"
    folder = sweeps.save("run", record)
    Image.effect_noise((200, 100), 80).save(folder / "overview.png")
    return folder


def test_the_picture_of_a_run_is_embedded(sweeps, with_picture):
    assert "data:image/jpeg;base64," in page(sweeps)


def test_a_truncated_picture_is_named(sweeps, with_picture):
    path = with_picture / "overview.png"
    path.write_bytes(path.read_bytes()[:5000])
    shown = page(sweeps)
    assert "data:image/jpeg;base64," not in shown
    assert "overview.png cannot be read" in shown


def test_a_picture_that_leads_out_of_the_folder_is_not_opened(sweeps, with_picture, tmp_path):
    path = with_picture / "overview.png"
    path.rename(tmp_path / "secret.png")
    path.symlink_to(tmp_path / "secret.png")
    shown = page(sweeps)
    assert "data:image/jpeg;base64," not in shown
    assert "overview.png is not in the folder of the run" in shown
