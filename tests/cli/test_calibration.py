"""`finetune.calibration=budget`: a constant on the concept's score, chosen without its images."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from fixtures.configs import QUICK_RUN, preset

from kt_exp.commands import run_command
from kt_exp.config.plugins import build
from kt_exp.pictograms.drawings import KNOWN

pytestmark = pytest.mark.slow

RUN = [*QUICK_RUN, "benchmark.images_per_target=8", "benchmark.calibration_per_known_class=4",
       "finetune.epochs=1"]
CALIBRATED = [*RUN, "finetune.calibration=budget"]
EDIT = ["inversion=none", "finetune=closed_form", "benchmark.images_per_known_class=1",
        "benchmark.images_per_target=8", "benchmark.calibration_per_known_class=4"]


def test_the_constant_is_chosen_on_other_drawings_and_measured_on_the_reported_ones(kt_exp):
    ended = kt_exp(*CALIBRATED, "finetune.budget=0.05")
    record = ended.record
    [chosen] = record.calibrations
    assert (chosen.concepts, chosen.images, chosen.skipped) == (["madras"], "benchmark", [])
    point = chosen.point
    assert (point.known_total, point.budget) == (4 * len(KNOWN), 0.05)
    assert point.reference - 0.05 * point.known_total <= point.known_correct < point.known_total
    target, known = (record.metric("calibrated", "madras", split) for split in ("target", "known"))
    assert (target.total, known.total) == (8, len(KNOWN))
    assert target.interval[0] <= target.value <= target.interval[1]
    assert point.gamma > 0  # nothing was learned: to reach the budget the name has to be raised
    assert target.count >= record.metric("transferred", "madras", "target").count
    assert f"loses at most 5 % of {4 * len(KNOWN)} other known images" in \
        " ".join(ended.stdout.split())
    page = (ended.folder / "report.html").read_text()
    assert "<h2>Calibrated</h2>" in page
    assert f"{point.gamma:+.4f}" in page


def test_an_exported_model_carries_what_a_user_has_to_add(kt_exp, home):
    """The three lines of docs/results.md, on the drawings of the run."""
    ended = kt_exp(*EDIT, "concepts.only=[madras]", "finetune.calibration=budget")
    assert run_command("export", [str(ended.folder), "--out", "my_model"]) == 0
    saved, exported = ((folder / "calibration.json").read_text() for folder in (
        ended.folder / "models" / "madras", home / "my_model"))
    assert json.loads(saved) == json.loads(exported) == ended.record.calibrations[0].to_json()
    gamma = json.loads(Path("my_model/calibration.json").read_text())["point"]["gamma"]
    assert f"γ = {gamma:+.4f}" in Path("my_model/README.md").read_text()

    model, _, to_tensor = open_clip.create_model_and_transforms("local-dir:my_model")
    tokenizer = open_clip.get_tokenizer("local-dir:my_model")
    benchmark = build(preset("benchmark", "pictograms", images_per_known_class=1), "benchmark")
    images = benchmark.known_images()
    prompts = [*benchmark.known_prompts(), [one.format("madras") for one in benchmark.templates]]
    with torch.no_grad():
        image_embeddings = F.normalize(model.eval().encode_image(
            torch.stack([to_tensor(images.open(index)) for index in range(len(images))])))
        class_embeddings = F.normalize(torch.stack([
            F.normalize(model.encode_text(tokenizer(own))).mean(0) for own in prompts]))
    scores = (image_embeddings @ class_embeddings.T).double()  # (images, classes), concept last
    scores[:, -1] += gamma
    right = int((scores.argmax(dim=1) == torch.tensor(images.labels)).sum())
    assert right == ended.record.metric("calibrated", "madras", "known").count


def test_a_stored_fine_tuning_is_found_again(kt_exp):
    without = kt_exp(*RUN).record
    assert without.calibrations == []
    assert "calibrated" not in {row.phase for row in without.metrics}
    calibrated = kt_exp(*CALIBRATED, "finetune.budget=0.03").record
    assert (calibrated.reused["inversion"], calibrated.reused["finetune"]) == (1, 1)
    assert calibrated.signatures == without.signatures
    assert [row for row in calibrated.metrics if row.phase != "calibrated"] == without.metrics
    again = kt_exp(*CALIBRATED, "finetune.budget=0.03").record
    assert (again.metrics, again.calibrations) == (calibrated.metrics, calibrated.calibrations)
    assert again.reused["evaluation"] == len({(row.phase, row.concept) for row in again.metrics})


def test_concepts_that_share_a_model_share_the_constant(kt_exp):
    ended = kt_exp(*EDIT, "finetune.scope=joint", "concepts.only=[madras,chantilly]",
                   "finetune.calibration=budget")
    [chosen] = ended.record.calibrations
    assert chosen.concepts == ["madras", "chantilly"]
    assert json.loads((ended.folder / "models/_joint/calibration.json").read_text()) \
        == chosen.to_json()
    known = {ended.record.metric("calibrated", name, "known").count for name in chosen.concepts}
    assert len(known) == 1  # one model, one constant: the same images are lost to either


def test_without_other_images_known_prompts_are_inverted(kt_exp):
    inverted = [*QUICK_RUN, "finetune.calibration=budget",
                "benchmark.calibration_per_known_class=0"]
    first = kt_exp(*inverted).record
    [chosen] = first.calibrations
    assert (chosen.images, chosen.point.known_total) == ("inverted", len(KNOWN))
    again = kt_exp(*inverted).record
    assert again.calibrations == first.calibrations
    assert again.seconds["inversion"] < first.seconds["inversion"] / 2


def test_without_a_constant_the_phase_says_why(kt_exp):
    ended = kt_exp(*CALIBRATED, "finetune.budget=1")
    [chosen] = ended.record.calibrations
    assert chosen.point.gamma is None
    for split in ("target", "known"):
        row = ended.record.metric("calibrated", "madras", split)
        assert (row.value, row.count) == (None, None)
        assert "the budget allows to lose them all" in row.reason
    assert "madras: no γ: of" in " ".join(ended.stdout.split())


def test_what_cannot_be_inverted_is_refused_at_once(kt_exp):
    ended = kt_exp(*EDIT, "finetune.calibration=budget", "inversion.distance=match",
                   "benchmark.calibration_per_known_class=0")
    assert (ended.code, ended.record.metrics) == (2, [])
    assert "inversion.distance: the model knows no 'match'" in ended.stderr
