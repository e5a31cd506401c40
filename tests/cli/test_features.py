"""`inversion.layers`: concepts taught from features at a cut, without an inverted image."""

from __future__ import annotations

import pytest
from PIL import Image
from safetensors.torch import load_file

from kt_exp.models.loading import CHANGES_FILE

pytestmark = pytest.mark.slow

RUN = ("inversion=features", "inversion.layers=projection", "inversion.images=4",
       "inversion.steps=3", "finetune=pictograms", "finetune.save_models=true",
       "finetune.epochs=1", "concepts.only=[madras]", "benchmark.images_per_known_class=2",
       "benchmark.images_per_target=4")


@pytest.mark.parametrize("layers", ["projection", "last_2"])
def test_a_concept_is_taught_from_features(kt_exp, home, layers) -> None:
    record = kt_exp(*RUN, f"inversion.layers={layers}", "finetune.strategy=visual").record
    assert record.status == "completed"
    features = load_file(home / "run" / "features" / "madras.safetensors")["features"]
    assert features.shape == {"projection": (4, 128), "last_2": (4, 65, 128)}[layers]
    assert not (home / "run" / "images").exists()
    note = f"Inverted features (inversion.layers={layers}): no images."
    assert note in record.notes
    assert note in (home / "run" / "report.html").read_text(encoding="utf-8")
    changed = load_file(home / "run" / "models" / "madras" / CHANGES_FILE).keys()
    assert "visual.proj" in changed
    above = ("visual.proj",) if layers == "projection" else (
        "visual.proj", "visual.ln_post.", "visual.transformer.resblocks.3.",
        "visual.transformer.resblocks.4.")
    assert all(name.startswith(above) for name in changed)
    assert kt_exp(*RUN, f"inversion.layers={layers}",
                  "finetune.strategy=visual").record.reused["finetune"] == 1


def test_statistics_of_a_run_serve_another(kt_exp, home) -> None:
    first = kt_exp(*RUN).record
    (home / "run" / "feature_statistics.safetensors").rename(home / "kept.safetensors")
    from_file = (*RUN, "inversion.statistics=file", "inversion.statistics_path=kept.safetensors")
    second = kt_exp(*from_file).record
    assert second.curves["inversion"] == first.curves["inversion"]
    assert "statistics of features (128,), and last_1 of this model takes (65, 128)" in \
        kt_exp(*from_file, "inversion.layers=last_1").stderr


def test_statistics_may_come_from_any_images_or_from_prompts(kt_exp, home) -> None:
    folder = home / "any"
    folder.mkdir()
    for number in range(3):
        Image.effect_noise((80, 80), 40 + 20 * number).save(folder / f"{number}.png")
    ends = [kt_exp(*RUN, f"inversion.statistics={source}", f"inversion.statistics_path={folder}"
                   ).record.curves["inversion"]["madras"]["end"]
            for source in ("folder", "prompts", "known")]
    assert len(set(ends)) == 3


@pytest.mark.parametrize("images", ["noise", "folder"])
def test_other_images_of_fine_tuning_become_features_too(kt_exp, home, images) -> None:
    folder = home / "pictures" / "madras"
    folder.mkdir(parents=True)
    for number in range(4):
        Image.effect_noise((80, 80), 40 + 20 * number).save(folder / f"{number}.png")
    record = kt_exp(*RUN, "inversion.layers=last_1", f"finetune.images={images}",
                    f"finetune.folder={folder.parent}").record
    assert record.status == "completed"
    assert record.curves["inversion"] == {}


@pytest.mark.parametrize("others", [
    ["finetune.start=closed_form"], ["finetune.null_space=0.9", "finetune.rehearsal=1"],
    ["finetune.calibration=budget"], ["finetune.interpolation=0.5"]])
def test_features_go_with_what_else_fine_tuning_offers(kt_exp, others) -> None:
    assert kt_exp(*RUN, "inversion.layers=last_1", *others).record.status == "completed"
