"""Whole runs, as small as can be, through the entrypoint."""

from __future__ import annotations

import json
import os
import re
import sys

import numpy as np
import open_clip
import pytest
import torch
from fixtures.configs import SHORT_TRAINING
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file

from kt_exp.commands import run_command
from kt_exp.concepts.captions import fill
from kt_exp.config import plugins
from kt_exp.memory import reset_peak
from kt_exp.pictograms.drawings import draw_class
from kt_exp.results.outcome import Phase

pytestmark = pytest.mark.slow

TINY = [*SHORT_TRAINING, "finetune.rehearsal=0"]
PICTOGRAMS = [*TINY, "benchmark.images_per_target=2"]


def test_a_run_and_what_it_leaves_and_a_second_run_from_the_store(kt_exp):
    first = kt_exp(*PICTOGRAMS)
    assert first.code == 0
    assert re.search(r"gyroscope +\d", first.stdout)
    assert not re.search(r"warn|error|Traceback", first.stderr, re.IGNORECASE)
    record = first.record
    assert (record.status, record.error, record.seed) == ("completed", None, 0)
    assert {row.phase for row in record.metrics} == set(Phase) - {Phase.calibrated}
    assert [row.phase for row in record.tradeoffs] == list(dict.fromkeys(
        row.phase for row in record.metrics))
    assert {row.split for row in record.metrics} == {"target", "known", "all", "inverted"}
    assert set(record.signatures) == {"model", "inversion", "finetune"}
    assert {"setup", "inversion", "finetune", "evaluation"} <= set(record.seconds)
    if reset_peak(torch.device("cpu")):
        assert {"inversion", "finetune", "evaluation"} == set(record.peak_gib)
        assert all(0.1 < peak < 20 for peak in record.peak_gib.values())
    assert set(record.files) == {
        "result", "images", "pictures", "models", "margins", "predictions", "overview", "report"}
    assert all((first.folder / path).exists() for path in record.files.values())
    images = load_file(first.folder / "images/gyroscope/images.safetensors")["images"]
    assert images.shape == (2, 3, 64, 64)

    second = kt_exp(*PICTOGRAMS).record
    assert second.reused == {"inversion": 1, "finetune": 1, "evaluation": len(Phase) - 1}
    assert second.metrics == record.metrics


SHORT = ["inversion=fast", "finetune=pictograms", "concepts.only=[gyroscope]", "inversion.images=2",
         "finetune.epochs=1", "finetune.batch_size=2", "finetune.rehearsal=0",
         "finetune.save_models=false", "benchmark.images_per_known_class=1",
         "benchmark.images_per_target=2"]


def test_others_may_read_a_run_as_the_umask_says(kt_exp):
    before = os.umask(0o022)
    try:
        folder = kt_exp(*SHORT, "inversion.steps=1", "finetune.save_models=true").folder
    finally:
        os.umask(before)
    written = {path.name: oct(path.stat().st_mode & 0o777) for path in folder.rglob("*")
               if path.is_file()}
    assert {"images.safetensors", "margins.safetensors", "report.html"} <= written.keys()
    assert written == dict.fromkeys(written, "0o644")


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_run_of_fewer_steps_climbs_the_same_sizes_sooner(kt_exp, steps):
    ended = kt_exp(*SHORT, f"inversion.steps={steps}")
    assert ended.code == 0, ended.stderr
    assert ended.record.config["inversion"]["upsize_at"] == [round(0.4 * steps)]
    images = load_file(ended.folder / "images/gyroscope/images.safetensors")["images"]
    assert images.shape[-1] == 64


def test_steps_and_their_shares_are_one_config(kt_exp):
    shares = kt_exp(*SHORT, "inversion.steps=5", "inversion.upsize_at=[0.4]").record
    steps = kt_exp(*SHORT, "inversion.steps=5", "inversion.upsize_at=[2]").record
    assert steps.signatures == shares.signatures
    assert steps.config == shares.config
    assert steps.reused["inversion"] == 1


@pytest.mark.parametrize("settings", [
    ["finetune.images=noise", "finetune.loss=ntxent", "finetune.captions=description"],
    ["finetune.strategy=both", "finetune.captions=templates", "finetune.loss=ntxent"],
    ["finetune.strategy=text"], ["finetune.strategy=projection"],
    ["finetune.strategy=visual_trunk", "finetune.captions=named"],
    ["finetune.scope=joint", "concepts.only=[gyroscope,madras]", "finetune.loss=clip",
     "finetune.batch_size=4"],
], ids=" ".join)
def test_every_way_to_fine_tune_runs_to_its_report(settings, kt_exp):
    ended = kt_exp(*PICTOGRAMS, *settings)
    assert ended.code == 0, ended.stderr
    assert (ended.folder / "report.html").stat().st_size > 10_000
    assert (ended.folder / "overview.png").exists()


def test_exchanged_descriptions_teach_what_another_concept_looks_like(kt_exp):
    whole_set = [*PICTOGRAMS, "concepts.only=[gyroscope,madras]"]
    own = kt_exp(*whole_set).record
    exchanged = kt_exp(*whole_set, "control=exchanged").record
    gyroscope = exchanged.concepts[0]
    assert gyroscope.description == own.concepts[1].description
    assert gyroscope.caption.startswith("A gyroscope is a red, yellow and blue plaid cloth")
    assert exchanged.signatures["inversion"]["gyroscope"] == own.signatures["inversion"]["madras"]
    assert exchanged.reused["inversion"] == 1

    def measured(record, phase):
        return {(row.split, row.metric): row.value for row in record.metrics
                if (row.concept, row.phase) == ("gyroscope", phase)}

    for phase in (Phase.baseline, Phase.name_prompt):
        assert measured(exchanged, phase) == measured(own, phase)


@pytest.mark.parametrize(("control", "key", "value"), [
    ("none", "images", "inverted"), ("noise", "images", "noise"),
    ("nameless", "captions", "description"),
])
def test_a_control_goes_with_any_run(control, key, value, kt_exp):
    record = kt_exp(*PICTOGRAMS, f"control={control}").record
    assert record.status == "completed"
    assert record.config["finetune"][key] == value


def test_the_jobs_of_a_sweep_run_on_after_one_that_failed(kt_exp, home):
    # Only the loaded model shows that it has no decoder.
    ended = kt_exp(*PICTOGRAMS, "finetune.strategy=visual_decoder,visual", "hydra.sweep.dir=sweep",
                   "-m")
    assert ended.code == 2
    assert "the model has no parameters for 'visual_decoder'" in ended.stderr
    assert "1 of 2 jobs failed" in ended.stderr
    statuses = [json.loads((home / "sweep" / job / "result.json").read_text())["status"]
                for job in ("0", "1")]
    assert statuses == ["failed", "completed"]


def test_an_error_in_the_code_leaves_its_traceback_in_a_file(kt_exp, monkeypatch):
    def broken(*args: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr("kt_exp.finetune.images.invert_captions", broken)
    ended = kt_exp(*PICTOGRAMS)
    assert ended.code == 1
    assert "RuntimeError: out of order (traceback: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "out of order" in (ended.folder / "traceback.txt").read_text()
    assert ended.record.status == "failed"
    assert ended.record.metrics  # of the baseline


def test_ctrl_c_leaves_a_record_and_says_how_to_go_on(kt_exp, monkeypatch):
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kt_exp.finetune.images.invert_captions", interrupted)
    ended = kt_exp(*PICTOGRAMS)
    assert ended.code == 130
    assert ended.stderr.endswith("\nInterrupted: the same command goes on where it stopped.\n")
    assert "Traceback" not in ended.stderr
    assert (ended.record.status, ended.record.error) == ("interrupted", None)


def test_a_tracker_that_cannot_start_ends_the_run_before_inversion(kt_exp, monkeypatch, home):
    monkeypatch.setitem(sys.modules, "wandb", None)
    ended = kt_exp(*PICTOGRAMS, "tracker=wandb")
    assert ended.code == 2
    assert "tracker: the package wandb is not installed" in ended.stderr
    assert not list(home.glob("store/inversion/*"))


def export(run):
    assert run_command("export", [str(run)]) == 0
    return run / "exports" / "gyroscope-native"


def write_images(folder, images) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(np.asarray(image)).save(folder / f"{number}.png")


def test_own_model_own_concepts_own_images(kt_exp, home):
    for name in ("house", "wheel", "mushroom"):
        write_images(home / "known" / name, draw_class(name, 2, seed=1))
    write_images(home / "new" / "gyroscope", draw_class("gyroscope", 4, seed=1))
    not_utf_8 = os.fsdecode(b"9\xe4.png")
    (home / "new" / "gyroscope" / not_utf_8).write_bytes(b"not an image")
    (home / "concepts.csv").write_text("name,description\ngyroscope,three grey rings\n")
    first = kt_exp(*PICTOGRAMS)
    whole = f"model.name=local-dir:{export(first.folder)}"
    own = [
        *TINY, "model=open_clip", whole,
        "concepts=file", "concepts.path=concepts.csv", "benchmark=folders",
        "benchmark.known_root=known", "benchmark.target_root=new", "finetune.lr=1e-9",
        "hydra.run.dir=own",
    ]
    alone = kt_exp(*own, f"model.name=local-dir:{first.folder}/models/gyroscope")
    assert "holds the changes of a fine-tuned model alone; write a whole model by" in alone.stderr
    refused = kt_exp(*own)
    assert refused.code == 2
    assert r"new/gyroscope/9\udce4.png: not a readable image" in refused.stderr

    ended = kt_exp(*own, "benchmark.on_bad_image=skip")
    assert ended.code == 0, ended.stderr
    assert "1 unreadable images skipped: " in ended.stdout
    record = json.loads((home / "own" / "result.json").read_text())
    assert not_utf_8 in record["warnings"][-1]
    totals = {row["total"] for row in record["metrics"] if row["split"] == "target"}
    assert totals == {4}

    real = kt_exp(*own, "benchmark.on_bad_image=skip", "finetune.images=folder",
                  "finetune.folder=real")
    assert real.code == 2
    assert "finetune.folder: " in real.stderr


def test_the_exported_model_scores_as_in_the_run(kt_exp):
    ended = kt_exp(*PICTOGRAMS, "finetune.lr=1e-3")
    source = f"local-dir:{export(ended.folder)}"
    model, _, preprocess = open_clip.create_model_and_transforms(source)
    tokenizer = open_clip.get_tokenizer(source)
    benchmark = plugins.build(OmegaConf.create(ended.record.config["benchmark"]), "benchmark")
    names = [*benchmark.known_names(), "gyroscope"]
    model.eval()
    with torch.no_grad():
        classes = torch.stack([
            model.encode_text(tokenizer([fill(template, name) for template in benchmark.templates]),
                              normalize=True).mean(dim=0) for name in names])
        pixels = torch.stack([preprocess(Image.fromarray(image))
                              for image in draw_class("gyroscope", 2, seed=0)])
        taken_for = (model.encode_image(pixels, normalize=True)
                     @ torch.nn.functional.normalize(classes, dim=-1).T).argmax(dim=1)
    row = ended.record.metric("transferred", "gyroscope", "target")
    assert row is not None
    assert row.count == sum(names[i] == "gyroscope" for i in taken_for.tolist())
    confusions = {row.predicted: row.count for row in ended.record.confusions
                  if row.phase == Phase.transferred}
    found = [names[i] for i in taken_for.tolist()]
    assert confusions == {name: found.count(name) for name in set(found)}


def test_a_smoke_run_is_a_whole_run(kt_exp):
    record = kt_exp("debug=smoke", "inversion=fast", "finetune=pictograms",
                    "concepts.only=[gyroscope]").record
    assert record.status == "completed"
    assert record.metric("transferred", "gyroscope", "target").total == 2
    assert len(record.curves["finetune"]["gyroscope"]["loss"]) == 1
