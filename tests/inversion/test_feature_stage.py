"""Inversion into features: computed once, near natural features, and matched to the caption."""

from dataclasses import replace

import pytest
import torch

from kt_exp.errors import UserError
from kt_exp.inversion import feature_stage
from kt_exp.inversion.feature_prior import FeaturePrior
from kt_exp.inversion.feature_stage import feature_signature, invert_features, starting_features
from kt_exp.inversion.invert import Task
from kt_exp.inversion.schedule import learning_rate
from kt_exp.inversion.statistics import as_positions, measure
from kt_exp.models.split import split
from kt_exp.store import Store

CPU = torch.device("cpu")
CAPTIONS = ["a tower with a roof", "a round dish", "a striped cloth"]
CUTS = ["last_1", "last_2", "projection"]


@pytest.fixture
def statistics(model):
    images = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return lambda layers: measure([split(model, layers).features_of(images)])


@pytest.fixture
def run(model, statistics, tmp_path, silent):
    def run(settings, captions=CAPTIONS, at=tmp_path, seed=0):
        keys = {caption: feature_signature("model", CPU, caption, settings, seed, "statistics")
                for caption in captions}
        entries = invert_features(split(model, settings.layers),
                                  {key: caption for caption, key in keys.items()}, settings, seed,
                                  lambda: statistics(settings.layers), Store(at), silent)
        return {caption: entries[key] for caption, key in keys.items()}

    return run


def features_of(entries):
    return torch.stack([entry.tensors["features"] for entry in entries.values()])


@pytest.mark.parametrize("prior", ["mahalanobis", "channel"])
@pytest.mark.parametrize("layers", CUTS)
def test_features_come_closer_to_their_caption(run, model, settings, statistics, layers, prior):
    chosen = settings(layers=layers, feature_prior=prior, steps=30)
    top, shape = split(model, layers), statistics(layers).shape
    for caption, entry in run(chosen).items():
        features = entry.tensors["features"]
        assert features.shape == (2, *shape)
        assert entry.record["shape"] == list(shape)
        assert entry.record["layers"] == layers
        assert not torch.equal(features[0], features[1])
        with torch.no_grad():
            score = top.score(features, [caption] * 2).mean().item()
        assert entry.record["end"] == pytest.approx(score, abs=1e-5)
        assert entry.record["end"] > entry.record["start"]
        points = 0 if layers == "projection" else 30
        assert len(entry.record["steps"]) == len(entry.record["score"]) == points


@pytest.mark.parametrize("prior", ["mahalanobis", "channel"])
@pytest.mark.parametrize("layers", CUTS)
def test_a_larger_weight_keeps_them_nearer_to_natural_features(run, settings, statistics, layers,
                                                               prior):
    chosen = settings(layers=layers, feature_prior=prior, steps=30)
    measured = FeaturePrior(statistics(layers), prior, CPU)
    distances = [measured.distance(as_positions(features_of(
        run(replace(chosen, feature_weight=weight))).flatten(0, 1))).mean()
        for weight in (0.01, 10.0)]
    assert distances[1] < distances[0]


@pytest.mark.parametrize("layers", CUTS)
def test_a_second_run_computes_nothing(run, settings, monkeypatch, layers):
    first = run(settings(layers=layers))
    monkeypatch.setattr(feature_stage, "_Inversion", None)
    assert torch.equal(features_of(run(settings(layers=layers))), features_of(first))


@pytest.mark.parametrize("layers", CUTS)
def test_features_are_the_same_whatever_the_chunk_size(run, settings, tmp_path, layers):
    results = [features_of(run(settings(layers=layers, chunk_size=size), at=tmp_path / str(size)))
               for size in (1, 4, "auto")]
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=1e-3, atol=1e-3)


def test_stopped_it_keeps_the_chunks_that_are_finished(run, settings, tmp_path, monkeypatch):
    chosen = settings(layers="last_1", chunk_size=2)
    whole = features_of(run(chosen, at=tmp_path / "whole"))
    rates = []

    def stop_in_the_second_chunk(settings, step):
        if len(rates) == settings.steps:
            raise KeyboardInterrupt
        rates.append(learning_rate(settings, step))
        return rates[-1]

    monkeypatch.setattr(feature_stage, "learning_rate", stop_in_the_second_chunk)
    with pytest.raises(KeyboardInterrupt):
        run(chosen)
    monkeypatch.undo()
    assert len(Store(tmp_path).keys("features")) == 1
    assert torch.equal(features_of(run(chosen)), whole)


def test_noise_is_what_inversion_starts_from(settings, statistics):
    tasks = [Task("a tower", index) for index in range(3)]
    started = [starting_features(tasks, settings(layers="last_1"), statistics("last_1"), seed, CPU)
               for seed in (0, 0, 1)]
    assert started[0].shape == (3, *statistics("last_1").shape)
    assert torch.equal(started[0], started[1])
    assert not torch.equal(started[0], started[2])


def test_the_signature_changes_with_what_decides_at_the_cut(settings):
    def key(settings, caption="a tower", statistics="statistics", seed=0):
        return feature_signature("model", CPU, caption, settings, seed, statistics)

    base = settings(layers="last_1")
    different = [replace(base, **{name: value}) for name, value in {
        "layers": "last_2", "feature_prior": "channel", "feature_weight": 1.0, "images": 3,
        "steps": 9, "lr": 0.1, "lr_schedule": "constant", "lr_period": 5, "distance": "l2"}.items()]
    keys = [key(base), *map(key, different), key(base, caption="a dish"),
            key(base, statistics="other"), key(base, seed=1)]
    assert len(set(keys)) == len(keys)
    pixels = replace(base, tv_weight=1.0, sizes=[8, 16], upsize_at=[2], init="normal")
    assert key(pixels) == key(base)
    closed = settings(layers="projection")
    assert key(replace(closed, steps=9, lr=0.1)) == key(closed)


def test_the_lean_tower_finds_the_same_features(run, settings, tmp_path):
    for layers in ("last_1", "last_2"):
        plain, lean = (features_of(run(settings(layers=layers, speed={"tower": tower}),
                                       at=tmp_path / tower)) for tower in ("model", "lean"))
        torch.testing.assert_close(plain, lean, rtol=1e-3, atol=1e-3)
        assert not torch.equal(plain, lean)


def test_features_that_become_nan_name_their_caption(run, settings):
    with pytest.raises(UserError, match=r"a tower.*features became NaN"):
        run(settings(layers="last_1", lr=1e37))
