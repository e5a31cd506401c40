"""The joined towers: with small random ones always, with the packaged ones where they are."""

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from kt_exp.benchmarks.classification.photos import SHIPPED
from kt_exp.errors import UserError
from kt_exp.models import effnet_minilm
from kt_exp.models.effnet_lite0 import effnet_lite0
from kt_exp.models.effnet_minilm import EffNetMiniLM, EffNetMiniLMModel, join
from kt_exp.models.effnet_minilm_network import Towers
from kt_exp.models.protocol import DualEncoder

pytestmark = pytest.mark.slow

torch.set_num_threads(1)
CPU = torch.device("cpu")
CAPTIONS = ["a photo of a house", "a wheel", "a photo of a small house and a tower"]
PACKAGED = all(map(importlib.util.find_spec, effnet_minilm._PACKAGES))


def config(**changes):
    keys = {"weights": None, "exclude_names": [], "templates": ["{}"], "ridge": 0.03, "cache": None}
    return EffNetMiniLM(**{**keys, **changes})


def word_tokenizer():
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *sorted({w for c in CAPTIONS for w in c.split()})]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return tokenizer


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    text = BertModel(BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1,
                                num_attention_heads=2, intermediate_size=32),
                     add_pooling_layer=False)
    network = Towers(effnet_lite0(), text, ["pizza"])
    network.set_join(torch.rand(1280), torch.randn(16, 1280), torch.randn(16) / 10)
    return EffNetMiniLMModel(network, word_tokenizer(), CPU)


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def test_it_is_a_dual_encoder_whose_scores_are_cosines_of_unit_embeddings(model, images):
    assert isinstance(model, DualEncoder)
    seen, said = model.encode_image(images), model.encode_text(CAPTIONS)
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(model.score(images, CAPTIONS), (seen * said).sum(1))
    torch.testing.assert_close(model.scorer(CAPTIONS, "l2")(images), -(seen - said).norm(dim=1))
    raw = [embed(x, normalize=False) for embed, x in
           ((model.encode_image, images), (model.encode_text, CAPTIONS))]
    torch.testing.assert_close(model.scorer(CAPTIONS, "l2_unnormalized")(images),
                               -(raw[0] - raw[1]).norm(dim=1))


def test_gradients_reach_every_image_and_no_weight(model, images):
    pixels = images[:2].clone().requires_grad_()
    model.score(pixels, CAPTIONS[:2]).sum().backward()
    assert (pixels.grad.flatten(1).abs().sum(dim=1) > 0).all()
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_a_caption_has_the_same_embedding_alone_and_beside_longer_ones(model):
    alone = torch.cat([model.encode_text([caption]) for caption in CAPTIONS])
    torch.testing.assert_close(model.encode_text(CAPTIONS), alone, rtol=1e-4, atol=1e-5)


def test_tokens_are_counted_with_both_ends_and_long_captions_are_cut(model):
    assert model.count_tokens("a house") == 4
    assert model.count_tokens("house " * 300) == 302 > model.max_text_tokens
    longest = "house " * (model.max_text_tokens - 2)
    assert torch.equal(*model.encode_text([longest + "a wheel", longest]))


def test_the_towers_part_the_parameters_and_the_projection_is_one_of_the_visual(model):
    towers, named = model.towers(), dict(model.module.named_parameters())
    assert towers["visual_projection"].keys() == {"visual.projection.weight"}
    assert towers["visual_projection"].keys() < towers["visual"].keys()
    assert towers["visual"].keys() | towers["text"].keys() == named.keys()
    assert not towers["visual"].keys() & towers["text"].keys()


def test_any_picture_becomes_a_tensor_within_0_and_1(model):
    for mode in ("RGB", "L", "RGBA", "P"):
        picture = Image.linear_gradient("L").resize((300, 200)).convert(mode)
        tensor = model.to_tensor(picture)
        assert tensor.shape == (3, 224, 224)
        assert 0 <= tensor.min() < 0.2 < 0.8 < tensor.max() <= 1


def test_the_join_puts_each_name_where_its_class_scores_highest():
    torch.manual_seed(0)
    names, classifier = F.normalize(torch.randn(30, 64), dim=1), torch.randn(30, 200)
    centre, projection = join(names, classifier, ridge=1e-4)
    embedded = (classifier - classifier.mean(0)) @ projection.T
    assert ((names - centre) @ embedded.T).argmax(0).tolist() == list(range(30))


def test_exported_it_is_the_same_model_again(model, images, tmp_path):
    model.export(tmp_path)
    again = config(weights=str(tmp_path), exclude_names=["pizza"]).load(CPU, "fp32")
    assert again.fingerprint() == model.fingerprint()
    assert torch.equal(again.score(images, CAPTIONS), model.score(images, CAPTIONS))
    next(again.module.parameters())[0, 0].add_(1e-3)
    assert again.fingerprint() != model.fingerprint()


def test_a_model_that_kt_exp_0_1_0_exported_is_loaded(model, lite0_state, recorded_lite0, tmp_path):
    """Its image tower had the names of the packaged checkpoint, which `lite0_state` has."""
    model.export(tmp_path)
    state = {name: tensor for name, tensor in load_file(tmp_path / "model.safetensors").items()
             if not name.startswith("visual.trunk.")}
    state |= {f"visual.trunk.{name}": tensor for name, tensor in lite0_state.items()}
    save_file(state, tmp_path / "model.safetensors")
    again = config(weights=str(tmp_path), exclude_names=["pizza"]).load(CPU, "fp32")
    pixels = torch.tensor(np.random.RandomState(224).uniform(size=(2, 3, 224, 224)))
    torch.testing.assert_close(again.encode_trunk(pixels.float()), recorded_lite0["made.features"],
                               rtol=1e-5, atol=1e-5)
    assert torch.equal(again.encode_text(CAPTIONS), model.encode_text(CAPTIONS))


def test_weights_are_refused_where_the_join_has_met_an_excluded_name(model, tmp_path):
    model.export(tmp_path)
    with pytest.raises(UserError, match=r"model\.exclude_names: .*has met 'daisy'"):
        config(weights=str(tmp_path), exclude_names=["daisy"]).load(CPU, "fp32")


def test_a_folder_without_a_model_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"model\.weights: .* has no config\.json"):
        config(weights=str(tmp_path)).load(CPU, "fp32")
    (tmp_path / "config.json").write_text(json.dumps({"excluded": []}))
    with pytest.raises(UserError, match=r"model\.weights: cannot load"):
        config(weights=str(tmp_path)).load(CPU, "fp32")


def test_an_excluded_name_has_to_be_a_class():
    with pytest.raises(UserError, match=r"model\.exclude_names: .*'piza'; did you mean 'pizza'"):
        config(exclude_names=["piza"]).load(CPU, "fp32")


def test_missing_packages_are_told_with_the_extra(monkeypatch):
    monkeypatch.setattr(effnet_minilm, "_PACKAGES", ("no_such_package_a", "no_such_package_b"))
    with pytest.raises(UserError, match=r"no_such_package_a is not installed; pip install 'kt_exp"):
        config().load(CPU, "fp32")


@pytest.mark.skipif(not PACKAGED, reason="needs pip install 'kt_exp[photos]'")
def test_the_packaged_towers_know_photos_by_name_but_not_those_left_out(tmp_path):
    spec = config(exclude_names=["pizza", "daisy"], cache=str(tmp_path))
    model = spec.load(CPU, "fp32")
    rows = [row for row in csv.DictReader(SHIPPED.open()) if int(row["class_index"]) % 3 == 0][:30]
    names = effnet_minilm.imagenet.class_names()
    texts = model.encode_text(names)
    photos = torch.stack([model.to_tensor(Image.open(SHIPPED.parent / row["file"]))
                          for row in rows])
    best = (model.encode_image(photos) @ texts.T).topk(5).indices
    hits = sum(int(row["class_index"]) in own for row, own in zip(rows, best.tolist(), strict=True))
    assert hits >= 20
    assert spec.load(CPU, "fp32").fingerprint() == model.fingerprint()
    assert config(cache=str(tmp_path)).load(CPU, "fp32").fingerprint() != model.fingerprint()


def test_the_photos_shipped_are_there_with_author_and_licence():
    rows = list(csv.DictReader(SHIPPED.open(encoding="utf-8")))
    assert all(row["author"] and row["landing_url"] and "/by/2.0" in row["license"]
               for row in rows)
    files = [SHIPPED.parent / row["file"] for row in rows]
    assert sum(Path(file).stat().st_size for file in files) < 3e6
