"""The shipped weights: small, loadable offline by open_clip, and knowing what they should."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import yaml

import kt_exp.pictograms
from kt_exp.pictograms import drawings as benchmark
from kt_exp.pictograms.words import article

pytestmark = pytest.mark.slow

WEIGHTS = Path(kt_exp.pictograms.__file__).parent / "pictoclip"


@pytest.fixture(scope="module")
def pictoclip():
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{WEIGHTS}")
    return model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{WEIGHTS}")


def encode_drawings(model, preprocess, name, count):
    normalise = preprocess.transforms[-1]
    pixels = torch.from_numpy(benchmark.draw_class(name, count, seed=20_000)).permute(0, 3, 1, 2)
    with torch.no_grad():
        return model.encode_image(normalise(pixels.float() / 255), normalize=True)


def name_bank(model, tokenize, names):
    with torch.no_grad():
        return model.encode_text(
            tokenize([f"a photo of {article(name)}." for name in names]), normalize=True
        )


def test_the_shipped_folder_is_small():
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) <= 8 * 2**20


def test_known_classes_are_recognised_on_fresh_drawings(pictoclip):
    model, preprocess, tokenize = pictoclip
    bank = name_bank(model, tokenize, benchmark.KNOWN)
    hits = []
    for index, name in enumerate(benchmark.KNOWN):
        features = encode_drawings(model, preprocess, name, 20)
        hits.append(((features @ bank.T).argmax(1) == index).float().mean().item())
    assert np.mean(hits) >= 0.97


def test_held_out_classes_are_not_found_by_name(pictoclip):
    model, preprocess, tokenize = pictoclip
    # As in the benchmark: invented names stand by, for no unseen name should win by default.
    candidates = [*benchmark.KNOWN, *benchmark.invented_names(35)]
    found = []
    for name in benchmark.HELD_OUT:
        bank = name_bank(model, tokenize, [*candidates, name])
        features = encode_drawings(model, preprocess, name, 20)
        found.append(((features @ bank.T).argmax(1) == len(candidates)).float().mean().item())
    assert np.mean(found) <= 0.15


def test_the_end_token_is_pooled_whatever_the_length(pictoclip):
    model, _, tokenize = pictoclip
    ids = tokenize(["a house", "a very " * 100 + "long caption"])
    assert ids.shape == (2, model.context_length)
    end = tokenize.tokenizer.eos_token_id
    assert end == len(tokenize.tokenizer) - 1
    assert (ids == end).sum(1).tolist() == [1, 1]


def test_no_word_of_the_world_is_unknown_to_the_tokenizer(pictoclip, request):
    _, _, tokenize = pictoclip
    folder = request.config.rootpath / "conf" / "concepts"
    texts = [f"a photo of {article(name)}." for name in benchmark.KNOWN]
    for file in ("pictograms.yaml", "pictograms_dev.yaml"):
        for item in yaml.safe_load((folder / file).read_text())["items"]:
            texts.append(f"{article(item['name'])} is {item['description']}.")
    assert not (tokenize(texts) == tokenize.tokenizer.unk_token_id).any()
