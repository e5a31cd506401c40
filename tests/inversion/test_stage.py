"""The stage around the loop: computed once, resumed as it was, and clear about what fails."""

from copy import deepcopy
from dataclasses import asdict, replace

import pytest
import torch
from fixtures.configs import preset
from omegaconf import OmegaConf

from kt_exp.config.checks import check
from kt_exp.errors import UserError
from kt_exp.inversion import stage
from kt_exp.inversion.settings import InversionSettings
from kt_exp.inversion.stage import PARTIAL, inversion_signature, invert_captions
from kt_exp.store import Store

CPU = torch.device("cpu")
CAPTIONS = ["a tower with a roof", "a round dish", "a striped cloth"]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def run(model, store, silent):
    def run(settings, captions=CAPTIONS, at=store, progress=silent, seed=0):
        keys = {caption: inversion_signature("model", CPU, caption, settings, seed)
                for caption in captions}
        wanted = {key: caption for caption, key in keys.items()}
        entries = invert_captions(model, wanted, settings, seed, at, progress)
        assert entries.keys() == wanted.keys()
        return {caption: entries[key] for caption, key in keys.items()}

    return run


def images_of(entries):
    return torch.stack([entry.tensors["images"] for entry in entries.values()])


@pytest.fixture
def killed_after(monkeypatch):
    """Makes the loop die, as if killed, when this many checkpoints are on the disk."""

    def kill(checkpoints):
        save = stage._Partial.save
        left = [checkpoints]

        def save_or_die(partial, state):
            save(partial, state)
            left[0] -= 1
            if left[0] == 0:
                raise MemoryError("killed")

        monkeypatch.setattr(stage._Partial, "save", save_or_die)

    yield kill
    monkeypatch.undo()


def test_each_caption_gets_its_images_and_a_record(run, settings):
    entries = run(settings(steps=40))
    for caption, entry in entries.items():
        assert entry.tensors["images"].shape == (2, 3, 16, 16)
        assert entry.record["caption"] == caption
        assert entry.record["end"] > entry.record["start"]
        assert len(entry.record["steps"]) == len(entry.record["score"]) == 40


@pytest.mark.parametrize("grad_clip", ["image", "batch"])
def test_images_are_the_same_whatever_the_chunk_size(run, settings, tmp_path, grad_clip):
    results = [images_of(run(settings(chunk_size=size, grad_clip=grad_clip, lr=0.01),
                             at=Store(tmp_path / str(size)))) for size in (1, 2, 5, "auto")]
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=1e-3, atol=1e-3)


def test_a_second_run_computes_nothing(run, settings, monkeypatch):
    first = run(settings())
    monkeypatch.setattr(stage, "invert", None)
    assert torch.equal(images_of(run(settings())), images_of(first))


def test_what_is_there_already_is_not_computed_again(run, settings, silent):
    run(settings(chunk_size=2), CAPTIONS[:1])
    assert silent.bar.steps == 8
    run(settings(chunk_size=2))
    assert silent.bar.steps == 8 + 16


@pytest.mark.parametrize("checkpoints", [1, 3, 9, 14, 18])
@pytest.mark.parametrize("grad_clip", ["image", "batch"])
def test_killed_anywhere_it_goes_on_to_the_same_bits(run, settings, tmp_path, killed_after,
                                                     monkeypatch, checkpoints, grad_clip):
    chosen = settings(checkpoint_seconds=1e-9, chunk_size=4, sizes=[8, 16], upsize_at=[3],
                      grad_clip=grad_clip)
    whole = images_of(run(chosen, at=Store(tmp_path / "whole")))
    killed_after(checkpoints)
    with pytest.raises(MemoryError):
        run(chosen)
    monkeypatch.undo()
    assert torch.equal(images_of(run(chosen)), whole)


def test_it_goes_on_and_does_not_start_again(run, settings, store, killed_after, monkeypatch,
                                            caplog):
    caplog.set_level("INFO")
    chosen = settings(checkpoint_seconds=1e-9, chunk_size=100)
    killed_after(5)
    with pytest.raises(MemoryError):
        run(chosen)
    monkeypatch.undo()
    assert len(store.keys(PARTIAL)) == 1
    run(replace(chosen, chunk_size=1))  # What was begun is finished as it was cut.
    assert "Going on with the inversion at step 5 of 8." in caplog.text
    assert store.keys(PARTIAL) == []


def test_another_request_leaves_what_was_begun_for_later(run, settings, store, killed_after,
                                                        monkeypatch):
    chosen = settings(checkpoint_seconds=1e-9)
    killed_after(5)
    with pytest.raises(MemoryError):
        run(chosen)
    monkeypatch.undo()
    begun = store.keys(PARTIAL)
    run(settings(lr=0.02))
    run(chosen, CAPTIONS[2:])
    assert store.keys(PARTIAL) == begun
    run(chosen)
    assert store.keys(PARTIAL) == []


def test_a_damaged_checkpoint_is_started_again(run, settings, store, killed_after, monkeypatch,
                                              tmp_path):
    chosen = settings(checkpoint_seconds=1e-9)
    whole = images_of(run(chosen, at=Store(tmp_path / "whole")))
    killed_after(5)
    with pytest.raises(MemoryError):
        run(chosen)
    monkeypatch.undo()
    for path in (store.root / PARTIAL).iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert torch.equal(images_of(run(chosen)), whole)


def test_pixels_that_become_nan_name_their_caption(run, settings, model, monkeypatch):
    encode = model.encode_text

    def broken(captions, normalize=True):
        texts = encode(captions, normalize)
        return torch.stack([text * (float("nan") if "dish" in caption else 1)
                            for text, caption in zip(texts, captions, strict=True)])

    monkeypatch.setattr(model, "encode_text", broken)
    with pytest.raises(UserError, match=r"a round dish.*pixels became NaN .*lower inversion\.lr"):
        run(settings(chunk_size=100))


def test_too_little_memory_says_what_to_try(run, settings, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(stage, "invert", full)
    with pytest.raises(UserError, match=r"inversion\.chunk_size: 4 images at once .*try 2"):
        run(settings(chunk_size=4))


DECIDES = {
    "images": 3, "steps": 9, "init": "normal", "sizes": [8], "upsize_at": [1],
    "restart_optimizer": False, "lr": 0.1, "lr_schedule": "constant", "lr_period": "stage",
    "distance": "l2", "tv_form": "anisotropic", "tv_weight": 0.1, "grad_clip": "none",
    "grad_clip_norm": 2.0, "clamp": "none",
}
# `model` decides by the fingerprint of the weights alone.
ONLY_HOW = {"model": "another", "chunk_size": "auto", "checkpoint_seconds": 1.0, "png": "stretch"}
FEATURES_ONLY = {"layers": "last_1", "feature_prior": "channel", "feature_weight": 1.0,
                 "statistics": "file", "statistics_path": "a"}


def test_the_signature_changes_with_all_that_decides_and_nothing_else(settings):
    base = settings()
    without_effect = ONLY_HOW | FEATURES_ONLY
    assert DECIDES.keys() | without_effect.keys() | {"affine", "speed"} == asdict(base).keys()

    def key(settings=base, model="model", device=CPU, caption="a tower", seed=0):
        return inversion_signature(model, device, caption, settings, seed)

    different = [replace(base, **{name: value}) for name, value in DECIDES.items()]
    for name, value in {"probability": 0.1, "degrees": 1, "translate": 0.2, "scale": [1, 1],
                        "padding": "zeros", "per_sample": False}.items():
        different.append(deepcopy(base))
        setattr(different[-1].affine, name, value)
    for name, value in {"tower": "lean", "bf16": True, "native_size": True, "patch_dropout": 0.5,
                        "compile": True}.items():
        different.append(deepcopy(base))
        setattr(different[-1].speed, name, value)
    keys = [key(), *(key(settings) for settings in different), key(model="other"),
            key(device=torch.device("cuda")), key(caption="a dish"), key(seed=1)]
    assert len(set(keys)) == len(keys)
    assert all(key(replace(base, **{name: value})) == key()
               for name, value in without_effect.items())


def test_entries_of_earlier_versions_still_count(settings):
    # As computed when the settings also had `speed.packed`, which was false here.
    assert inversion_signature("model", CPU, "a tower", settings(), 0) == "e7bf55d8795f329f4815d4c1"


def shipped(name):
    typed = OmegaConf.merge(OmegaConf.structured(InversionSettings), preset("inversion", name))
    return OmegaConf.to_object(typed)


@pytest.mark.parametrize(("name", "upsize_at"), [
    ("paper", []), ("authors", [899, 1799]), ("kazemi", [900, 1800]), ("fast", [16]),
    ("photos", [40, 80])])
def test_shares_of_the_presets_are_the_steps_of_their_sources(name, upsize_at):
    settings = shipped(name).in_steps()
    assert settings.upsize_at == upsize_at
    assert all(type(at) is int for at in settings.upsize_at)  # as in the store's signatures
    assert settings.in_steps() == settings


@pytest.mark.parametrize(("name", "steps"), [("paper", 5000), ("authors", 3000), ("kazemi", 3400),
                                             ("fast", 40), ("features", 40)])
def test_presets_are_valid_and_say_what_their_source_says(name, steps):
    settings = shipped(name)
    check(settings, "inversion")
    assert settings.steps == steps
    assert settings.tv_weight == 0.005


@pytest.mark.parametrize(("changes", "line"), [
    ({"sizes": [8, 16]}, "inversion.upsize_at: 0 steps for 2 sizes; "
                         "give 1: one step for each change of size"),
    ({"upsize_at": [2]}, "inversion.upsize_at: steps without sizes; "
                         "give inversion.sizes, or leave it empty"),
    ({"sizes": [16, 8], "upsize_at": [2]}, "inversion.sizes: [16, 8] does not grow; "
                                           "order the sizes from small to large"),
    ({"sizes": [8, 16, 32], "upsize_at": [4, 2]}, "inversion.upsize_at: [4, 2] does not grow; "
                                                  "order the steps"),
    ({"sizes": [8, 16], "upsize_at": [8]}, "inversion.upsize_at: step 8 is never reached; "
                                           "inversion.steps is 8: give smaller steps, or shares of "
                                           "them (0.4)"),
    ({"sizes": [8, 16], "upsize_at": [1.5]}, "inversion.upsize_at: 1.5 is no step; "
                                             "give whole numbers, or shares below 1"),
    ({"affine": {"scale": [1.2, 0.7]}}, "inversion.affine.scale: [1.2, 0.7] is not a range; "
                                        "give [smallest, largest]"),
    ({"lr": 0.0}, "inversion.lr: 0.0 is out of range; give a number above 0"),
    ({"lr_period": "epoch"}, "inversion.lr_period: 'epoch' is not a number; "
                             "give a whole number at least 1 or 'run' or 'stage'"),
    ({"layers": "last_0"}, "inversion.layers: 'last_0' is not an option; choose all, projection, "
                           "or last_K with a whole number K such as last_2"),
    ({"layers": "last_1", "statistics": "folder"}, "inversion.statistics_path: missing, but "
     "inversion.statistics is 'folder'; give the folder of images, or the file that a run wrote"),
    ({"feature_weight": -1.0}, "inversion.feature_weight: -1.0 is out of range; "
                               "give a number at least 0"),
])
def test_settings_that_cannot_be(settings, changes, line):
    with pytest.raises(UserError) as caught:
        check(settings(**changes), "inversion")
    assert str(caught.value) == line
