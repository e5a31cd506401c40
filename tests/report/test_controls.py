"""Controls: what fine-tuning gained over bias alone, in numbers and in words."""

from __future__ import annotations

import csv
import io
from statistics import fmean

import pytest

from kt_exp.errors import UserError
from kt_exp.report.controls import controls
from kt_exp.report.grid import as_csv
from kt_exp.report.runs import find_jobs
from kt_exp.results.margins_file import FILE_NAME


def grid_of(folder):
    return controls(find_jobs([folder]), draws=200)


def labels(grid) -> list[str]:
    return [row[0].text for row in grid.rows]


def test_a_row_for_each_variant_and_each_prompt(classified) -> None:
    grid = grid_of(classified.controls())
    assert labels(grid) == [
        "Fine-tuned", "inverted images", "noise", "captions without the name",
        "exchanged descriptions",
        "Not trained", "bias alone", "the name alone as prompt", "the description as prompt",
        "name and description", "parts of the description"]
    assert [row[-1].text for row in grid.rows[1:5]] == ["2"] * 4


def test_the_sentences_tell_knowledge_from_bias(classified) -> None:
    sentences = [note.text for note in grid_of(classified.controls()).notes]
    assert [sentence.split(", ")[0] for sentence in sentences[:4]] == [
        "learned: inverted images", "not more than bias: noise",
        "learned: captions without the name", "no knowledge: exchanged descriptions"]
    assert sentences[3].endswith("each concept was taught with another one's description")
    assert sentences[4].startswith("Means over moongate, umbrella. Brackets: 95 % bootstrap")


def test_a_pure_bias_gains_plain_accuracy_only(classified) -> None:
    _, noise, _, _, bias, *_ = grid_of(classified.controls(seeds=1)).data
    assert (noise["variant"], bias["variant"]) == ("noise", "bias alone")
    assert noise["target"] > bias["target"] + 20
    assert noise["known_change"] < -1
    assert noise["target_at_2"] == bias["target_at_2"]
    assert (noise["gain"], noise["gain_low"], noise["gain_high"]) == (0, 0, 0)


def test_numbers_are_means_over_concepts_then_over_seeds(classified) -> None:
    folder = classified.controls()
    values = [fmean(100 * job.measured("transferred", name, "target", "target_at_2")
                    for name in classified.CONCEPTS)
              for job in find_jobs([folder / "recipe0", folder / "recipe1"])]
    grid = grid_of(folder)
    [row, *_] = csv.DictReader(io.StringIO(as_csv(grid)))
    assert float(row["target_at_2"]) == pytest.approx(fmean(values))
    assert float(row["target_at_2_std"]) == pytest.approx(abs(values[0] - values[1]) / 2 ** 0.5)
    assert float(row["gain"]) == pytest.approx(fmean(values) - grid.data[4]["target_at_2"])
    assert 0 < float(row["gain_low"]) < float(row["gain"]) < float(row["gain_high"])


def test_prompts_are_those_of_the_concepts_own_descriptions(classified) -> None:
    folder = classified.controls(seeds=1)
    paths = {row["phase"]: row["paths"] for row in grid_of(folder).data}
    assert paths["description_prompt"] == str(folder / "recipe0")


def test_one_run_says_what_its_interval_leaves_open(classified) -> None:
    classified.run("one", concepts=("moongate",))
    notes = [note.text for note in grid_of(classified.root).notes]
    assert notes[0].startswith("learned: inverted images, +")
    assert notes[1].endswith("One concept and one seed: they say nothing about others.")


def test_other_training_settings_are_variants_too(classified) -> None:
    for lr in (1e-5, 1e-4):
        classified.run(f"{lr}", finetune__lr=lr)
    assert labels(grid_of(classified.root))[1:3] == [
        "inverted images, lr 1e-5", "inverted images, lr 1e-4"]


def test_a_concept_that_only_some_runs_have_is_left_out(classified) -> None:
    classified.run("a")
    classified.run("b", concepts=("moongate",), finetune__images="noise")
    grid = grid_of(classified.root)
    assert grid.notes[-1].text == "Left out, not measured in all runs: umbrella."
    assert {row["concepts"] for row in grid.data} == {1}


def test_a_failed_run_is_left_out_and_named(classified) -> None:
    classified.controls(seeds=1)
    classified.sweeps.failed("controls/1", "loss became NaN", finetune__images="noise", seed=1)
    notes = [note.text for note in grid_of(classified.root).notes]
    assert notes[-1] == f"[1] {classified.root / 'controls' / '1'}: failed: loss became NaN"


def test_runs_of_different_models_have_no_bias_in_common(classified) -> None:
    for model in ("ViT-B-32", "ViT-L-14"):
        classified.run(model, model__name=model)
    with pytest.raises(UserError, match=r"differ in model\.name.*--where model\.name=…"):
        grid_of(classified.root)


def test_variants_without_a_concept_in_common(classified) -> None:
    classified.run("a", concepts=("moongate",))
    classified.run("b", concepts=("umbrella",), finetune__images="noise")
    with pytest.raises(UserError, match="no measured concept in common"):
        grid_of(classified.root)


def test_a_margins_file_without_a_part_of_a_phase(classified) -> None:
    from safetensors.numpy import load_file, save_file

    path = classified.run("a") / FILE_NAME
    arrays = load_file(path)
    del arrays["baseline/moongate/right"]
    save_file(arrays, path)
    with pytest.raises(UserError, match="lacks baseline/moongate/right; run the job again"):
        grid_of(classified.root)


def test_an_edit_is_named_for_what_it_is_since_it_uses_no_images(classified) -> None:
    folder = classified.run("edit", finetune__strategy="projection_edit")
    assert labels(grid_of(folder))[:2] == ["Fine-tuned", "closed form"]
