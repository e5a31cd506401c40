"""Implicit beside explicit transfer: one sweep of ViLT, one table."""

from __future__ import annotations

import pytest
import tiny_checkpoints as tiny
from PIL import Image

from kt_exp.pictograms.drawings import draw_class
from kt_exp.report.controls import controls
from kt_exp.report.runs import find_jobs

pytestmark = pytest.mark.slow


@pytest.fixture
def pictures(home):
    """Two drawings of two known classes, and of one concept, as folders."""
    for folder, name in (("known", "house"), ("known", "wheel"), ("rare", "moongate")):
        (home / folder / name).mkdir(parents=True)
        for number, drawing in enumerate(draw_class(name, 2, seed=0)):
            Image.fromarray(drawing).save(home / folder / name / f"{number}.png")
    return ["benchmark.known_root=known", "benchmark.target_root=rare"]


def test_one_table_has_both_transfers_their_noise_and_the_prompts(kt_exp, home, pictures):
    vilt = tiny.write_vilt(home / "vilt", tiny.vilt_state("itm_score", "mlm_score"))
    ended = kt_exp("experiment=implicit_vilt", *pictures, f"model.name={vilt}",
                   "concepts=inline", "concepts.items=[{name: moongate, description: a red gate}]",
                   "hydra.sweep.subdir=${hydra.job.num}", "inversion.images=2", "inversion.steps=1",
                   "finetune.maskings=2", "seed=0", "-m")
    assert ended.code == 0, ended.stderr
    grid = controls(find_jobs([home / "outputs/implicit_vilt"]), draws=20)
    assert {row[0].text for row in grid.rows} == {
        "Fine-tuned", "inverted images, loss itm", "inverted images, loss mlm", "noise, loss itm",
        "implicit transfer, loss mlm", "Not trained", "bias alone", "the name alone as prompt",
        "the description as prompt", "name and description", "parts of the description"}
    about_noise = [note.text for note in grid.notes if "noise shows nothing" in note.text]
    assert all(text.startswith("no knowledge: noise, loss itm") for text in about_noise)
