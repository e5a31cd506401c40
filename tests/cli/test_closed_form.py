"""`finetune=closed_form`: from descriptions to an ordinary checkpoint, without images."""

from __future__ import annotations

import csv
import shutil

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
    shutil.rmtree(run / "exports", ignore_errors=True)
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
    (["finetune.edit.strength=most"], "finetune.edit.strength: 'most'"),
    (["finetune.edit.least=4"], "finetune.edit.least: 4 is above finetune.edit.most, 2"),
    (["finetune.edit.budget=2"], "finetune.edit.budget: 2"),
    (["finetune.edit.others=nowhere.txt"], "finetune.edit.others: cannot read 'nowhere.txt'"),
    (["finetune.edit.others_weight=1.1"], "finetune.edit.others_weight: 1.1"),
    (["finetune.edit.protected=[madras]"], "the text encoder cannot tell the names apart"),
    (["finetune.start=closed_form"], "finetune.start: 'closed_form'"),
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


def text_scores(folder, prompts: list[str]) -> torch.Tensor:
    """The scores of drawings of the known classes with prompts, before normalisation."""
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(prompts)
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.encode_image(images) @ model.encode_text(tokens, normalize=True).T


def test_other_names_are_moved_less_where_a_list_stands_for_them(kt_exp, home, tmp_path) -> None:
    others = ["a photo of a tench.", "a photo of a harp.", "a photo of a barn."]
    names = tmp_path / "others.txt"
    names.write_text("tench\nharp\nbarn\nmadras\n", encoding="utf-8")
    before = text_scores(FOLDER, others)
    moved = []
    for given in ("null", str(names)):
        kt_exp(*EDIT, "concepts.only=[madras]", f"finetune.edit.others={given}",
               "finetune.edit.others_weight=0.5", "finetune.edit.strength=1.3",
               "on_existing=rerun")
        moved.append((text_scores(export(home / "run", "madras"), others) - before).norm())
    assert moved[1] < 0.2 * moved[0]


def test_imagenet_s_names_may_stand_for_the_rest_and_are_embedded_once(kt_exp) -> None:
    given = (*EDIT, "concepts.only=[madras]", "finetune.edit.others=imagenet")
    first = kt_exp(*given).record
    again = kt_exp(*given, "finetune.edit.ridge=0.01", "on_existing=rerun").record
    assert again.reused["finetune"] == 0
    assert again.seconds["finetune"] < first.seconds["finetune"]


def test_a_protected_name_keeps_its_scores(kt_exp, home) -> None:
    prompts = [f"a {word} of a zebra." for word in ("photo", "picture", "drawing")]
    kt_exp(*EDIT, "concepts.only=[madras]", "finetune.edit.protected=[zebra]")
    before, after = (text_scores(folder, prompts).mean(dim=1)
                     for folder in (FOLDER, export(home / "run", "madras")))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_each_strength_is_the_largest_within_the_budget(kt_exp) -> None:
    ended = kt_exp(*EDIT, "finetune.edit.strength=budget", "finetune.edit.most=2.5")
    strengths = {concept.name: concept.strength for concept in ended.record.concepts}
    assert all(0 < strength < 2.5 for strength in strengths.values())
    assert "strength of the edit: madras " in ended.stdout


def test_a_name_never_finds_less_than_its_description_for_the_budget_s_sake(kt_exp) -> None:
    ended = kt_exp(*EDIT, "finetune.edit.strength=budget", "finetune.edit.budget=0",
                   "finetune.edit.least=1.4")
    assert all(concept.strength >= 1.4 for concept in ended.record.concepts)
    assert "1.4 is taken (finetune.edit.least)" in ended.stderr + ended.stdout


def test_texts_stand_in_for_calibration_images_where_there_are_none(kt_exp) -> None:
    ended = kt_exp(*EDIT, "finetune.edit.strength=budget",
                   "benchmark.calibration_per_known_class=0")
    assert "the texts of the known classes stand in" in ended.stderr + ended.stdout


def test_a_fixed_strength_is_in_the_record_too(kt_exp) -> None:
    ended = kt_exp(*EDIT, "finetune.edit.strength=1.3")
    assert {concept.strength for concept in ended.record.concepts} == {1.3}
    assert "strength of the edit: 1.3\n" in ended.stdout


def test_training_may_start_from_the_edit(kt_exp, home) -> None:
    trained = ("inversion=fast", "inversion.steps=2", "inversion.upsize_at=[1]",
               "inversion.images=2", "finetune=pictograms", "finetune.rehearsal=0",
               "finetune.lr=1e-9", "finetune.start=closed_form", "concepts.only=[madras]",
               *EDIT[3:])
    record = kt_exp(*trained).record
    assert record.curves["finetune"]["madras"]["loss"]
    on_top = weights(export(home / "run", "madras"))["visual.proj"]
    kt_exp(*EDIT, "concepts.only=[madras]", "finetune.edit.strength=1",
           "finetune.edit.target=description", "finetune.edit.ridge=0.001", "on_existing=rerun")
    edited = weights(export(home / "run", "madras"))["visual.proj"]
    # At such a learning rate training changes next to nothing: the edit is what is left.
    torch.testing.assert_close(on_top, edited, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(edited, weights(FOLDER)["visual.proj"], rtol=1e-3, atol=1e-4)
