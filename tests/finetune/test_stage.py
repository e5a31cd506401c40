"""The stage around the loop: trained once, and signed by all that decides."""

from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest
import torch
from fixtures.configs import preset
from omegaconf import OmegaConf

from kt_exp.concepts import Concept
from kt_exp.config.checks import check
from kt_exp.errors import UserError
from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.finetune.plan import plan_training
from kt_exp.finetune.settings import FinetuneSettings, LoraSettings
from kt_exp.finetune.stage import finetune, finetune_signature
from kt_exp.store import Store

CPU = torch.device("cpu")
CONCEPT = Concept("tower", "a tall house")
PLOUGH = Concept("iron plough", "a blade behind a horse")  # "An iron plough"
KNOWN = [["a photo of a house."], ["a photo of a wheel."]]


@contextmanager
def silent(description, total):
    class Silent:
        def advance(self, n=1, **fields): ...

    yield Silent()


def test_weights_are_trained_once_and_the_model_stays_as_it_was(vit, settings, tmp_path):
    store, before = Store(tmp_path), vit.fingerprint()
    plan = plan_training([CONCEPT], [8], settings(), KNOWN, 0)
    size, asked = vit.image_size, []

    def images():
        asked.append(1)
        return torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(0))

    entries = [finetune(vit, "key", plan, images, torch.empty(0, 3, size, size), settings(),
                        store, silent, "tower", FeatureCache()) for _ in range(2)]
    assert asked == [1]
    assert vit.fingerprint() == before
    assert [entry.found for entry in entries] == [False, True]
    assert entries[0].record == entries[1].record
    assert entries[0].record["steps"] == [1, 2]
    assert entries[0].tensors.keys() == entries[1].tensors.keys() <= vit.towers()["visual"].keys()


def test_what_the_frozen_model_makes_of_things_is_computed_once_for_all_rates(
        vit, settings, tmp_path, monkeypatch):
    asked = []
    for name in ("encode_text", "encode_image"):
        encode = getattr(vit, name)
        monkeypatch.setattr(vit, name, lambda *words, name=name, encode=encode:
                            (asked.append(name), encode(*words))[1])
    size, store, shared = vit.image_size, Store(tmp_path), FeatureCache()
    images, rehearsal = torch.rand(2, 4, 3, size, size)
    changes = {}
    for lr in (0.01, 0.02):
        for features in (shared, FeatureCache()):
            chosen = settings(loss="class_ce", distillation=1.0, rehearsal=1.0, lr=lr)
            plan = plan_training([CONCEPT], [4], chosen, KNOWN, 0)
            before = len(asked)
            taught = finetune(vit, f"{lr} {id(features)}", plan, lambda: images, rehearsal, chosen,
                              store, silent, "tower", features.of(vit.fingerprint()))
            changes[lr, features is shared] = taught.tensors["visual.proj"], Counter(asked[before:])
    for lr in (0.01, 0.02):
        assert torch.equal(changes[lr, True][0], changes[lr, False][0])
    whole = changes[0.01, True][1]
    assert changes[0.02, False][1] == whole
    # Known classes, images and rehearsed ones; what is left are the captions, and the steps.
    assert whole - changes[0.02, True][1] == Counter(encode_text=1, encode_image=2)


def test_a_memo_keeps_apart_what_rounds_otherwise(vit, settings, tmp_path, monkeypatch):
    size, features = vit.image_size, FeatureCache()
    images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0))

    def projection(strategy, features):
        chosen = settings(strategy=strategy, distillation=1.0)
        plan = plan_training([CONCEPT], [4], chosen, KNOWN, 0)
        return finetune(vit, f"{strategy} {id(features)}", plan, lambda: images,
                        torch.empty(0, 3, size, size), chosen, Store(tmp_path), silent, "tower",
                        features).tensors["visual.proj"]

    with monkeypatch.context() as patch:
        encode = vit.encode_image
        patch.setattr(vit, "encode_image", lambda images: encode(images) * 1.01)
        projection("visual", features)
    assert torch.equal(projection("projection", features), projection("projection", FeatureCache()))


def test_a_memo_forgets_what_another_model_made():
    features = FeatureCache()
    assert features.of("one").get("key", lambda: torch.zeros(1)) == 0
    assert features.of("one").get("key", lambda: torch.ones(1)) == 0
    assert features.of("other").get("key", lambda: torch.ones(1)) == 1


DECIDES = {
    "strategy": "both", "loss": "class_ce", "temperature": "model", "distillation": 1.0,
    "rehearsal": 1.0, "optimizer": "adamw", "lr": 0.1, "weight_decay": 0.2, "betas": [0.9, 0.99],
    "eps": 1e-8, "batch_size": 2, "epochs": 2, "mode": "train", "captions": "description",
    "contrastive_weight": 0.5, "caption_weight": 0.1, "mask_probability": 0.3,
    "lora": LoraSettings(rank=2, alpha=16.0, targets=["*"]), "null_space": 0.5,
    "encode_captions": "each_step", "distillation_over": "mean", "article": "a",
}


def test_the_signature_changes_with_all_that_decides_and_nothing_else(settings):
    base = settings()

    def key(settings=base, model="model", device=CPU, images=("a",), counts=8, seed=0):
        plan = plan_training([PLOUGH], [counts], settings, KNOWN, seed)
        return finetune_signature(model, device, plan, images, settings, seed)

    keys = [key(), *(key(replace(base, **{name: value})) for name, value in DECIDES.items()),
            key(model="other"), key(device=torch.device("cuda")), key(images=("b",)),
            key(counts=6), key(seed=1)]
    assert len(set(keys)) == len(keys)
    assert key(replace(base, save_models=True, interpolation=0.5,
                       calibration="budget", budget=0.1)) == key()
    # Keys of an option that is off decide nothing.
    assert key(replace(base, lora=replace(base.lora, alpha=1.0))) == key()
    mixed = settings(captions="mixed", templates=["a {}."])
    assert key(mixed) != key(replace(mixed, templates=["one {}."]))
    for loss, changes in ((settings(loss="itm"), {"itm_negatives_per_image": 2}),
                          (settings(loss="mlm"), {"maskings": 3}),
                          (settings(caption_weight=1.0, caption_targets=["a {}."]),
                           {"caption_targets": ["the {}."]})):
        assert key(loss) != key(replace(loss, **changes))
        assert key(replace(base, **changes)) == key()
    undecided = {"scope", "images", "images_as", "folder", "templates", "save_models",
                 "rehearsal_per_class",
                 "rehearsal_batch", "itm_negatives", "itm_negatives_per_image", "maskings",
                 "caption_targets", "start", "edit", "calibration", "budget", "interpolation"}
    assert DECIDES.keys() | undecided == asdict(base).keys()


def test_an_entry_of_loss_bank_is_found_by_its_new_name_class_ce(settings):
    plan = plan_training([CONCEPT], [8], settings(), KNOWN, 0)
    keys = {loss: finetune_signature("model", CPU, plan, ("a",), settings(loss=loss), 0)
            for loss in ("bank", "class_ce", "ntxent")}
    assert keys["bank"] == keys["class_ce"] != keys["ntxent"]


@pytest.mark.parametrize("name", [
    "paper", "authors", "pictograms", "photos", "vilt", "vilt_mlm", "coca", "medclip"])
def test_presets_are_valid(name):
    typed = OmegaConf.merge(OmegaConf.structured(FinetuneSettings), preset("finetune", name))
    chosen = OmegaConf.to_object(typed)
    check(chosen, "finetune")


@pytest.mark.parametrize(("changes", "line"), [
    ({"lr": 0.0}, "finetune.lr: 0.0 is out of range; give a number above 0"),
    ({"batch_size": 0},
     "finetune.batch_size: 0 is out of range; give a number at least 1 and at most 100000"),
    ({"temperature": "cold"}, "finetune.temperature: 'cold' is not a number; "
                              "give a number above 0 or 'model'"),
    ({"betas": [0.9, 1.0]}, "finetune.betas: [0.9, 1.0] are not Adam's betas; "
                            "give two numbers below 1"),
    ({"images": "folder"}, "finetune.folder: missing, but finetune.images is 'folder'; give the "
                           "folder that holds one sub-folder of images for each concept"),
    ({"captions": "mixed", "templates": []}, "finetune.templates: empty, but finetune.captions is "
     "'mixed'; give at least one template such as 'a photo of a {}.'"),
    ({"caption_weight": 0.1}, "finetune.caption_targets: empty, but finetune.caption_weight is not "
     "0; give at least one template such as 'a photo of a {}.'"),
    ({"caption_targets": ["a photo"]}, "finetune.caption_targets: 'a photo' has no single {}; "
                                       "mark the name's place by {}"),
    ({"contrastive_weight": 0.0}, "finetune.contrastive_weight: 0, and finetune.caption_weight "
     "too: nothing is learned; give one of them a weight"),
    ({"loss": "itm", "rehearsal": 1.0}, "finetune.rehearsal: not possible with finetune.loss "
     "'itm'; set finetune.rehearsal=0, or choose one of: ntxent, clip, class_ce"),
    ({"templates": ["a photo"]}, "finetune.templates: 'a photo' has no single {}; "
                                 "mark the name's place by {}"),
    ({"lora": LoraSettings(rank=2, alpha=0.0, targets=["*"])},
     "finetune.lora.alpha: 0.0 is out of range; give a number above 0"),
    ({"lora": LoraSettings(rank=2, alpha=1.0, targets=[])},
     "finetune.lora.targets: empty, but finetune.lora.rank is not 0; give patterns of parameters' "
     "names, such as '*' for all linear layers"),
    ({"null_space": 0.9}, "finetune.null_space: needs images of known classes, but "
     "finetune.rehearsal is 0; give finetune.rehearsal a weight, or set finetune.null_space=0"),
    ({"null_space": 0.9, "loss": "mlm"}, "finetune.null_space: not possible with finetune.loss "
     "'mlm'; set finetune.null_space=0, or choose one of: ntxent, clip, class_ce"),
    ({"null_space": 0.9, "strategy": "projection_edit"}, "finetune.null_space: not possible with "
     "finetune.strategy 'projection_edit', which trains nothing; set finetune.null_space=0, or "
     "choose another strategy"),
])
def test_settings_that_cannot_be(settings, changes, line):
    with pytest.raises(UserError) as caught:
        check(settings(**changes), "finetune")
    assert str(caught.value) == line
