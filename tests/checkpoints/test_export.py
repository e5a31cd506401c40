"""`kt-exp export`: whole checkpoints that open_clip and transformers load without kt_exp."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import open_clip
import pytest
import torch
import yaml
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, CLIPModel

from kt_exp.checkpoints.card import Card
from kt_exp.checkpoints.export import export_model
from kt_exp.checkpoints.usage import Usage, read_usage
from kt_exp.commands import run_command
from kt_exp.models.clip import OpenClip
from kt_exp.pictograms.weights import FOLDER
from kt_exp.results.operating_point import Calibration, OperatingPoint
from kt_exp.results.record import read_record, write_record

pytestmark = pytest.mark.slow

TEXTS = ["a photo of a house", "Two  wheels, red & blue", "madras", "a " * 100]
CPU = torch.device("cpu")
CARD = Card(base={}, usage=Usage({"madras": "a plaid cloth"}), method={})


def export(*arguments: object) -> int:
    return run_command("export", [str(argument) for argument in arguments])


def embedded(folder: Path, images: torch.Tensor, texts: list[str]):
    """What transformers alone makes of pixels and texts."""
    network, tokenizer = CLIPModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        both = network(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask,
                       pixel_values=images)
    return both.image_embeds, both.text_embeds, network.logit_scale


@pytest.mark.parametrize("source", ["pictoclip", "openai_vocabulary"])
def test_transformers_computes_the_embeddings_of_open_clip(source, small_clip, load_open_clip,
                                                           tmp_path) -> None:
    folder = FOLDER if source == "pictoclip" else small_clip
    model = OpenClip(f"local-dir:{folder}", None).load(CPU, "fp32")
    export_model(model, CARD, tmp_path / "hf", "hf")
    network, tokenizer = load_open_clip(folder)
    images = torch.randn(3, 3, model.image_size, model.image_size)
    theirs = embedded(tmp_path / "hf", images, TEXTS)
    with torch.no_grad():
        ours = (network.encode_image(images, normalize=True),
                network.encode_text(tokenizer(TEXTS), normalize=True), network.logit_scale)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_a_picture_becomes_the_same_pixels_in_both_libraries(small_clip, tmp_path) -> None:
    from PIL import Image

    model = OpenClip(f"local-dir:{small_clip}", None).load(CPU, "fp32")
    export_model(model, CARD, tmp_path / "hf", "hf")
    picture = Image.linear_gradient("L").resize((90, 60)).convert("RGB")
    theirs = AutoImageProcessor.from_pretrained(tmp_path / "hf")(picture, return_tensors="pt")
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{small_clip}")
    torch.testing.assert_close(theirs.pixel_values[0], preprocess(picture), rtol=0, atol=0.02)
    assert AutoProcessor.from_pretrained(tmp_path / "hf").tokenizer.model_max_length == 16


def test_a_run_holds_the_changes_alone_and_exports_a_whole_model(closed_form, load_open_clip,
                                                                 tmp_path) -> None:
    changes = list((closed_form / "models" / "madras").iterdir())
    assert sum(path.stat().st_size for path in changes) < 100_000
    assert export(closed_form, "--concept", "Madras", "--out", tmp_path / "whole") == 0
    before, after = (load_open_clip(folder)[0].state_dict() for folder in
                     (FOLDER, tmp_path / "whole"))
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["visual.proj"]
    assert export(closed_form, "--concept=madras", "--format=hf", "--out", tmp_path / "hf") == 0
    other = CLIPModel.from_pretrained(tmp_path / "hf").visual_projection.weight
    torch.testing.assert_close(other, after["visual.proj"].T)


def test_without_a_folder_it_is_written_into_the_run(closed_form, capsys) -> None:
    run = closed_form.with_name("copy")
    shutil.copytree(closed_form, run)
    assert export(run, "--concept=chantilly", "--format=open_clip") == 0
    assert Path(capsys.readouterr().out.strip()) == run / "exports" / "chantilly-open_clip"
    assert export(run, "--concept=chantilly", "--format=open_clip") == 2


def test_files_are_readable_as_any_new_file(closed_form, tmp_path) -> None:
    before = os.umask(0o022)
    try:
        for form in ("open_clip", "hf"):
            export(closed_form, "--concept=madras", f"--format={form}", "--out", tmp_path / form)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {0o644}


def test_the_card_names_base_concepts_method_and_what_was_measured(closed_form, tmp_path) -> None:
    export(closed_form, "--concept=madras", "--format=hf", "--out", tmp_path / "hf")
    _, front, text = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["library_name"] == "transformers"
    assert about["license"] == "mit"
    assert "# PictoClip, taught madras" in text
    assert "- **madras**: " in text
    assert "closed-form edit" in text
    assert "100.0 % [51.0, 100.0] (4/4)" in text
    row = next(line for line in text.splitlines() if line.startswith("| madras |"))
    assert row.count("[") == 8  # every number has its interval
    assert "chantilly" not in text


def test_the_licence_is_the_base_models_unless_given(closed_form, tmp_path) -> None:
    export(closed_form, "--concept=madras", "--license=cc-by-4.0", "--out", tmp_path / "own")
    text = (tmp_path / "own" / "README.md").read_text(encoding="utf-8")
    assert "license: cc-by-4.0\n" in text


def test_weights_come_from_the_store_where_a_run_saved_none(closed_form, load_open_clip,
                                                            tmp_path) -> None:
    run = closed_form.with_name("unsaved")
    shutil.copytree(closed_form, run)
    shutil.rmtree(run / "models")
    assert export(run, "--concept=madras", "--out", tmp_path / "stored") == 0
    export(closed_form, "--concept=madras", "--out", tmp_path / "saved")
    stored, saved = (load_open_clip(tmp_path / name)[0].state_dict() for name in
                     ("stored", "saved"))
    assert all(torch.equal(stored[name], saved[name]) for name in saved)


def test_whole_models_of_earlier_runs_are_read(closed_form, load_open_clip, tmp_path) -> None:
    run = closed_form.with_name("earlier")
    shutil.copytree(closed_form, run)
    shutil.rmtree(run / "models" / "madras")
    export(closed_form, "--concept=madras", "--out", run / "models" / "madras")
    assert export(run, "--concept=madras", "--format=hf", "--out", tmp_path / "hf") == 0
    theirs = CLIPModel.from_pretrained(tmp_path / "hf").visual_projection.weight
    assert torch.equal(theirs.T, load_open_clip(run / "models" / "madras")[0].visual.proj)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--concept=madrass"], "--concept: the run has no concept 'madrass'; did you mean 'madras'"),
    ([], "--concept: missing: the run has a model for each of 2 concepts"),
    (["--format=onnx"], "argument --format: invalid choice: 'onnx'"),
])
def test_mistakes_are_one_line(closed_form, arguments, message, capsys) -> None:
    assert export(closed_form, *arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_folder_that_is_no_run_is_told(tmp_path, capsys) -> None:
    assert export(tmp_path) == 2
    assert "is not the folder of a run: it has no result.json" in capsys.readouterr().err


def test_a_base_model_that_is_no_longer_the_same_is_refused(closed_form, capsys) -> None:
    run = closed_form.with_name("other_base")
    shutil.copytree(closed_form, run)
    path = run / "models" / "madras" / "changes.json"
    path.write_text(path.read_text().replace('"fp32"', '"bf16"'))
    assert export(run, "--concept=madras") == 2
    assert "belongs to other weights" in capsys.readouterr().err


def test_the_constant_that_was_chosen_is_in_the_card_and_beside_it(closed_form, tmp_path) -> None:
    run = closed_form.with_name("calibrated")
    shutil.copytree(closed_form, run)
    record = read_record(run)
    record.calibrations = [Calibration(["madras"], "benchmark", OperatingPoint(
        gamma=0.0125, budget=0.01, reference=690, known_correct=685, known_total=700), [])]
    write_record(record, run)
    assert export(run, "--concept=madras", "--out", tmp_path / "whole") == 0
    text = (tmp_path / "whole" / "README.md").read_text(encoding="utf-8")
    assert "Adding γ = +0.0125 to the score" in text
    assert "at most 1 % of 700 known images other than those above" in text
    assert (tmp_path / "whole" / "calibration.json").is_file()
    usage = read_usage(tmp_path / "whole")
    assert (list(usage.concepts), usage.gamma) == (["madras"], 0.0125)
    export(closed_form, "--concept=madras", "--out", tmp_path / "plain")
    assert read_usage(tmp_path / "plain").gamma is None
