"""`finetune=closed_form`: from descriptions to an ordinary checkpoint, without images."""

from __future__ import annotations

import csv

import open_clip
import pytest
import torch

from kt_exp.commands import run_command
from kt_exp.pictograms.drawings import KNOWN
from kt_exp.pictograms.weights import FOLDER

pytestmark = pytest.mark.slow

EDIT = ("inversion=none", "finetune=closed_form", "concepts.only=[madras,chantilly]",
        "benchmark.images_per_known_class=1", "benchmark.images_per_target=4")


def weights(folder) -> dict[str, torch.Tensor]:
    return open_clip.create_model(f"local-dir:{folder}").state_dict()


def export(run, concept):
    assert run_command("export", [str(run), "--concept", concept]) == 0
    return run / "exports" / f"{concept}-native"


def test_concepts_are_taught_without_an_image(kt_exp, home) -> None:
    record = kt_exp(*EDIT).record
    after = [record.metric("transferred", name, "target") for name in ("madras", "chantilly")]
    assert [row.count for row in after] == [4, 4]
    assert set(record.curves["inversion"]) == set()
    assert not (home / "run" / "images").exists()
    before, edited = weights(FOLDER), weights(export(home / "run", "madras"))
    assert [name for name in before if not torch.equal(before[name], edited[name])] == [
        "visual.proj"]


def test_several_concepts_go_into_one_model(kt_exp) -> None:
    record = kt_exp(*EDIT, "finetune.scope=joint").record
    assert record.metric("transferred", "madras", "target").count == 4
    assert record.metric("transferred", "chantilly", "target").count == 4


@pytest.mark.parametrize("target", ["parts", "name_and_description"])
def test_the_target_may_be_other_texts(kt_exp, target) -> None:
    record = kt_exp(*EDIT, "concepts.only=[madras]", f"finetune.edit.target={target}").record
    assert record.status == "completed"


def test_a_second_run_edits_nothing(kt_exp) -> None:
    kt_exp(*EDIT)
    assert kt_exp(*EDIT).record.reused["finetune"] == 2


@pytest.mark.parametrize(("overrides", "message"), [
    (["finetune.edit.ridge=0"], "finetune.edit.ridge: 0"),
    (["finetune.edit.strength=-1"], "finetune.edit.strength: -1"),
    (["finetune.edit.target=image"], "finetune.edit.target: 'image'"),
])
def test_bad_keys_are_told(kt_exp, overrides, message) -> None:
    ended = kt_exp(*EDIT, *overrides)
    assert ended.code == 2
    assert message in ended.stderr


def test_the_known_classes_stay(kt_exp) -> None:
    record = kt_exp(*EDIT, "concepts.only=[madras]").record
    known = record.metric("transferred", "madras", "known")
    assert known.total == len(KNOWN)
    assert known.value > 0.9


def test_single_images_are_listed_and_marked(kt_exp, home) -> None:
    record = kt_exp(*EDIT, "concepts.only=[madras]", "benchmark.images_per_known_class=2").record
    with (home / "run" / record.files["predictions"]).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for phase, when in (("baseline", "before"), ("transferred", "after")):
        for split in ("target", "known"):
            measured = record.metric(phase, "madras", split)
            of_split = [row for row in rows if row["split"] == split]
            assert len(of_split) == measured.total
            assert sum(int(row[f"correct_{when}"]) for row in of_split) == measured.count
    first = rows[0]
    assert (first["path"], first["label"]) == ("madras/0", "madras")
    assert first["top5_after"].split("|")[0] == "madras"
    assert len(first["top5_after"].split("|")) == len(first["scores_after"].split("|")) == 5
    assert float(first["margin_before"]) < 0 < float(first["margin_after"])
    page = (home / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count("✓ now</b>") == 4
    lost = sum(row["correct_before"] > row["correct_after"] for row in rows)
    assert page.count("known image lost: ") == min(lost, 10)


def test_predictions_come_from_the_store_too(kt_exp, home) -> None:
    kt_exp(*EDIT, "concepts.only=[madras]")
    first = (home / "run" / "predictions.csv").read_bytes()
    (home / "run" / "predictions.csv").unlink()
    kt_exp(*EDIT, "concepts.only=[madras]")
    assert (home / "run" / "predictions.csv").read_bytes() == first
