"""Images inverted from one model teach another: `model@inversion.model=…`."""

from __future__ import annotations

import pytest
import tiny_checkpoints as tiny
from fixtures.configs import SHORT_TRAINING
from safetensors.torch import load_file

from kt_exp.benchmarks.classification import inverted_images

pytestmark = pytest.mark.slow

SHORT = [*SHORT_TRAINING, "finetune.rehearsal=0", "benchmark.images_per_target=4"]
OTHER = "model@inversion.model=pictoclip_small"


def test_a_models_images_teach_it_and_another_one(kt_exp, home) -> None:
    ended = kt_exp(*SHORT, OTHER)
    assert ended.code == 0, ended.stderr
    crossed = ended.record
    images = load_file(home / "run/images/gyroscope/images.safetensors")["images"]
    assert crossed.signatures["inversion_model"] != crossed.signatures["model"]
    own = kt_exp(*SHORT, "model=pictoclip_small").record
    assert own.reused["inversion"] == 1  # the images of the run before
    assert own.signatures["inversion"] == crossed.signatures["inversion"]
    assert own.signatures["model"] == crossed.signatures["inversion_model"]
    assert (load_file(home / "run/images/gyroscope/images.safetensors")["images"] == images).all()
    assert kt_exp(*SHORT).record.signatures["inversion"] != own.signatures["inversion"]
    same = kt_exp(*SHORT, "model@inversion.model=pictoclip").record
    assert "inversion_model" not in same.signatures
    assert same.reused == {"inversion": 1, "finetune": 1, "evaluation": 6}


def test_what_the_taught_model_makes_of_the_images(kt_exp, home) -> None:
    ended = kt_exp(*SHORT, OTHER)
    rows = [row for row in ended.record.metrics if row.split == "inverted"]
    assert [(row.phase, row.metric, row.total) for row in rows] == [
        ("baseline", "accuracy", 2), ("description_prompt", "accuracy", 2),
        ("baseline", "frechet_distance", 2), ("baseline", "frechet_floor", 2)]
    assert all(row.value is not None and row.value >= 0 for row in rows)
    assert rows[2].reason == "2 images a set, 128 dimensions"
    for text in (ended.stdout, (home / "run/report.html").read_text(encoding="utf-8")):
        assert "What the untrained model makes of the inverted images" in text
        assert f"{rows[2].value:.3f}" in text


def test_the_distance_is_measured_once(kt_exp, monkeypatch) -> None:
    first = kt_exp(*SHORT).record.metrics
    monkeypatch.setattr(inverted_images, "frechet_distance", None)
    assert kt_exp(*SHORT, "on_existing=rerun").record.metrics == first


def test_images_of_another_size_are_resized(kt_exp, home) -> None:
    clip = tiny.write_open_clip(home / "clip", "vit", home)
    ended = kt_exp(*SHORT, "model@inversion.model=open_clip",
                   f"inversion.model.name=local-dir:{clip}")
    assert ended.code == 0, ended.stderr
    images = load_file(home / "run/images/gyroscope/images.safetensors")["images"]
    assert images.shape[-1] != 64
    assert ended.record.metric("transferred", "gyroscope", "target")


@pytest.mark.parametrize(("settings", "line"), [
    ([OTHER], "inversion.model: finetune.strategy 'projection_edit' learns from no images"),
    ([*SHORT, OTHER, "finetune.images=noise"], "inversion.model: nothing is inverted"),
    ([*SHORT, OTHER, "inversion.layers=last_1"], "inversion.layers: 'last_1', but features can"),
    ([*SHORT, "inversion.model=pictoclip_small"], "inversion.model: 'pictoclip_small' is no "
     "section; name an option of the group model: model@inversion.model=…"),
    ([*SHORT, "model@inversion.model=open_clip"], "inversion.model.name: missing; set it"),
    ([*SHORT, "model@inversion.model=pictoclap"], "model: no option 'pictoclap'; did you mean"),
    ([*SHORT, OTHER, "inversion.distance=match"], "inversion.distance: the model knows no 'match'"),
    ([*SHORT, OTHER, "+inversion.model.z=1"], "inversion.model.z: SmallPictoClip has no such key"),
])
def test_what_cannot_be_inverted_is_refused(kt_exp, home, settings, line) -> None:
    ended = kt_exp(*settings)
    assert ended.code == 2
    assert line in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not list(home.glob("store/inversion/*"))
