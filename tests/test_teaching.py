"""`kt_exp.teach`: one call teaches a model in memory, and gives the same kind back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPProcessor

import kt_exp
from kt_exp.checkpoints import hub
from kt_exp.checkpoints.export import export_model
from kt_exp.concepts import load_concepts
from kt_exp.models.clip import OpenClip
from kt_exp.pictograms.drawings import KNOWN, draw_class
from kt_exp.pictograms.weights import FOLDER

pytestmark = pytest.mark.slow

PICTOCLIP = f"local-dir:{FOLDER}"
CONFIG = kt_exp.compose(["concepts.only=[madras]"])
[MADRAS] = load_concepts(CONFIG.concepts)
KNOWN_NAMES = CONFIG.benchmark.known_names()
TAUGHT = {"name": "madras", "known": KNOWN_NAMES, "templates": CONFIG.benchmark.templates}


def drawings(name: str, count: int = 3) -> list[Image.Image]:
    return [Image.fromarray(np.asarray(image)) for image in draw_class(name, count, seed=9)]


@pytest.fixture(scope="module")
def taught() -> kt_exp.Taught:
    return kt_exp.teach(MADRAS.description, model="pictoclip", **TAUGHT)


def test_the_edit_is_that_of_a_run(taught, tmp_path) -> None:
    kt_exp.run(["inversion=none", "finetune=closed_form", "concepts.only=[madras]",
                "benchmark.images_per_known_class=1", "benchmark.images_per_target=1",
                f"store.root={tmp_path / 'store'}"], folder=tmp_path / "run")
    [weight] = load_file(tmp_path / "run/models/madras/changes.safetensors").values()
    torch.testing.assert_close(taught.model.module.visual.proj, weight, rtol=0, atol=1e-5)


def test_pictures_files_and_folders_are_classified(taught, tmp_path) -> None:
    pictures = [*drawings("madras"), *drawings(KNOWN[0])]
    assert [row.label for row in taught.classify(pictures)] == ["madras"] * 3 + [KNOWN[0]] * 3
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    (tmp_path / "9.png").write_bytes(b"no image")
    rows = taught.classify(tmp_path, names=["house", "wheel"])
    assert [row.label for row in rows][:3] == ["madras"] * 3
    assert (rows[-1].path, rows[-1].names) == (str(tmp_path / "9.png"), [])
    assert rows[0].scores == sorted(rows[0].scores, reverse=True)
    [one] = taught.classify([tmp_path / "0.png"])
    assert one.label == "madras"


def test_an_open_clip_network_stays_and_an_edited_one_comes_back(taught, tmp_path) -> None:
    network = open_clip.create_model(PICTOCLIP)
    before = network.visual.proj.clone()
    found = kt_exp.teach(MADRAS.description, model=network,
                         tokenizer=open_clip.get_tokenizer(PICTOCLIP), **TAUGHT)
    assert type(found.model) is open_clip.CLIP
    assert torch.equal(network.visual.proj, before)
    torch.testing.assert_close(found.model.visual.proj, taught.model.module.visual.proj)
    folder = found.export(tmp_path / "taught")
    again = open_clip.create_model(f"local-dir:{folder}")
    assert all(torch.equal(one, other) for one, other in
               zip(again.state_dict().values(), found.model.state_dict().values(), strict=True))


def test_a_model_of_transformers_comes_back_as_one(taught, tmp_path) -> None:
    untaught = OpenClip(PICTOCLIP, None).load(torch.device("cpu"), "fp32")
    folder = export_model(untaught, taught.card, tmp_path / "hf", "hf")
    network = CLIPModel.from_pretrained(folder)
    found = kt_exp.teach(MADRAS.description, model=network, **TAUGHT)
    assert isinstance(found.model, CLIPModel)
    torch.testing.assert_close(found.model.visual_projection.weight.T,
                               taught.model.module.visual.proj, rtol=0, atol=1e-4)
    assert not torch.equal(network.visual_projection.weight, found.model.visual_projection.weight)
    assert {row.label for row in found.classify(drawings("madras"))} == {"madras"}
    given = kt_exp.teach(MADRAS.description, model=network, name="madras", known=KNOWN_NAMES[:2],
                         processor=CLIPProcessor.from_pretrained(folder))
    loaded = CLIPModel.from_pretrained(given.export(tmp_path / "again"))
    assert torch.equal(loaded.visual_projection.weight, given.model.visual_projection.weight)


def test_a_model_of_kt_exp_is_copied(taught) -> None:
    model = OpenClip(PICTOCLIP, None).load(torch.device("cpu"), "fp32")
    before = model.fingerprint()
    found = kt_exp.teach(MADRAS.description, model=model, **TAUGHT)
    assert (type(found.model), model.fingerprint()) == (type(model), before)
    assert found.model.fingerprint() == taught.model.fingerprint()


def test_keys_of_the_edit_and_stand_ins_for_known_names_change_it(taught) -> None:
    weights = [kt_exp.teach(MADRAS.description, name="madras", **change).encoder.module.visual.proj
               for change in ({}, {"strength": 2.0}, {"target": "description"}, {"ridge": 0.1},
                              {"others": KNOWN_NAMES}, {"others": KNOWN_NAMES, "ridge": 0.1})]
    different = [(i, j) for i in range(6) for j in range(i)
                 if not torch.allclose(weights[i], weights[j], atol=1e-6)]
    assert len(different) == 14  # without known names or stand-ins the ridge has no effect
    assert (3, 0) not in different


def test_a_budget_counts_the_known_names(taught) -> None:
    within = kt_exp.teach(MADRAS.description, strength="budget", budget=0.0, most=2.0, **TAUGHT)
    assert not torch.allclose(within.model.module.visual.proj, taught.model.module.visual.proj)
    with pytest.raises(kt_exp.UserError, match="known: missing: strength='budget' counts"):
        kt_exp.teach(MADRAS.description, name="madras", strength="budget")


def test_a_budget_keeps_to_the_least_strength() -> None:
    weak, strong = (kt_exp.teach(MADRAS.description, strength="budget", budget=0.0, least=least,
                                 most=3.0, **TAUGHT).model.module.visual.proj
                    for least in (0.1, 3.0))
    three = kt_exp.teach(MADRAS.description, strength=3.0, **TAUGHT).model.module.visual.proj
    torch.testing.assert_close(strong, three)
    assert not torch.allclose(weak, strong, atol=1e-4)


def test_images_are_measured_as_a_run_does(tmp_path) -> None:
    """The same drawings, names and prompts give the same numbers as the pictogram benchmark."""
    record = kt_exp.run(["concepts.only=[madras]", "benchmark.images_per_known_class=2",
                         "benchmark.images_per_target=5", "finetune.save_models=false",
                         f"store.root={tmp_path / 'store'}"], folder=tmp_path / "run")
    benchmark = kt_exp.compose(["benchmark.images_per_known_class=2",
                                "benchmark.images_per_target=5"]).benchmark
    of_known, own = benchmark.known_images(), benchmark.target_images(MADRAS)
    known_images: dict[str, list[Image.Image]] = {}
    for index, label in enumerate(of_known.labels):
        known_images.setdefault(KNOWN[label], []).append(of_known.open(index))
    found = kt_exp.teach(MADRAS.description, images=[own.open(i) for i in range(len(own))],
                         known_images=known_images, **TAUGHT)
    assert {row.phase for row in found.metrics} == {"baseline", "transferred"}
    for row in found.metrics:
        expected = record.metric(row.phase, "madras", row.split, row.metric)
        assert (row.count, row.total) == (expected.count, expected.total)
        assert row.value == pytest.approx(expected.value, abs=1e-6)
    after = found.metric("transferred", "target")
    assert (after.count, after.total) == (5, 5)
    assert found.metric("baseline", "target", "target_at_2").value is not None
    card = (found.export(tmp_path / "taught") / "README.md").read_text()
    assert "| madras | " in card
    assert "(5/5)" in card


def test_images_of_the_concept_alone_give_target_accuracy_alone(tmp_path, caplog) -> None:
    for number, picture in enumerate(drawings("madras")):
        picture.save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    found = kt_exp.teach(MADRAS.description, images=tmp_path, **TAUGHT)
    assert found.metric("transferred", "target").total == 3
    assert found.metric("transferred", "known") is None
    assert found.metric("transferred", "target", "target_at_2").value is None
    assert found.metric("transferred", "target", "target_at_2").reason == \
        "no images of known classes"
    assert "1 unreadable images were left out" in caplog.text


def test_a_folder_of_known_classes_adds_their_names(tmp_path) -> None:
    for name in KNOWN[:2]:
        (tmp_path / name).mkdir()
        drawings(name, 1)[0].save(tmp_path / name / "0.png")
    found = kt_exp.teach(MADRAS.description, name="madras", images=drawings("madras"),
                         known_images=tmp_path)
    assert found.known == sorted(KNOWN[:2])
    assert found.metric("baseline", "known").total == 2


@pytest.mark.parametrize(("change", "message"), [
    ({"images": [], "known": ["house"]}, "images: none are given"),
    ({"images": [__file__], "known": ["house"]}, "Embedding images: not one readable image"),
    ({"known_images": {"house": []}}, "images: missing: known_images are measured beside"),
    ({"images": drawings("madras", 1)}, "known: missing: an image is assigned"),
    ({"images": drawings("madras", 1), "known": ["Madras"]}, "known: holds 'madras'"),
    ({"images": "no/such/folder", "known": ["house"]}, "no/such/folder: no such folder"),
])
def test_images_that_cannot_be_measured_on_are_refused(change, message) -> None:
    with pytest.raises(kt_exp.UserError, match=message):
        kt_exp.teach(MADRAS.description, name="madras", **change)


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A hub that keeps the names of the files it gets."""
    got: dict[str, list[str]] = {}

    class Hub:
        def create_repo(self, repo, private, exist_ok):
            class Url(str):
                repo_id = f"user/{repo}"
            return Url(f"https://hub/user/{repo}")

        def upload_folder(self, repo_id, folder_path, commit_message):
            got[repo_id] = sorted(path.name for path in Path(folder_path).iterdir())

    monkeypatch.setattr(hub, "HfApi", Hub)
    return got


def test_a_model_goes_to_the_hub_with_its_card(taught, fake_hub) -> None:
    assert taught.push_to_hub("madras-clip", format="hf") == "https://hub/user/madras-clip"
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json",
            "preprocessor_config.json", "kt_exp.json"} <= set(fake_hub["user/madras-clip"])


def test_without_a_network_the_way_out_is_told(taught, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(kt_exp.UserError, match=r"the hub cannot be reached.*export\(FOLDER\)"):
        taught.push_to_hub("user/madras-clip")


@pytest.mark.parametrize(("change", "message"), [
    ({"method": "magic"}, "method: 'magic' is not an option"),
    ({"name": " "}, "name: ' ' is no text"),
    ({"strength": 0}, "strength: 0 is out of range"),
    ({"target": "image"}, "target: 'image' is not an option"),
    ({"model": 3}, "model: int is no dual encoder"),
    ({"model": "pictoclop"}, "pictoclop"),
    ({"model": "ViT-B-99/openai"}, "model.name: open_clip has no model 'ViT-B-99'"),
    ({"description": "very " * 60}, "a caption takes"),
])
def test_mistakes_are_told_by_name(change, message) -> None:
    given = {"description": MADRAS.description, "name": "madras", "model": "pictoclip", **change}
    with pytest.raises(kt_exp.UserError, match=message):
        kt_exp.teach(given.pop("description"), **given)


def test_a_network_with_another_vocabulary_needs_its_tokenizer() -> None:
    network = open_clip.create_model(PICTOCLIP)
    with pytest.raises(kt_exp.UserError, match="tokenizer: missing: the model's vocabulary"):
        kt_exp.teach(MADRAS.description, name="madras", model=network)


def test_the_name_alone_is_nothing_to_choose_from() -> None:
    alone = kt_exp.teach(MADRAS.description, name="madras")
    with pytest.raises(kt_exp.UserError, match="names: the name taught alone"):
        alone.classify(drawings("madras"))
