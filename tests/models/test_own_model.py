"""The models of one's own that docs/own_model.md shows, as they stand there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from kt_exp.config.plugins import build
from kt_exp.errors import UserError
from kt_exp.models.factory import load_model
from kt_exp.models.protocol import DualEncoder

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "own_model.md").read_text(encoding="utf-8")
SMALL = [
    "concepts.only=[gyroscope]", "inversion=paper", "inversion.steps=2", "inversion.sizes=[]",
    "inversion.upsize_at=[]", "inversion.images=2", "finetune=paper",
    "benchmark.images_per_known_class=1", "benchmark.images_per_target=2",
]


def block(language, word):
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return next(text for text in blocks if word in text)


def load(node):
    return load_model(build(node, "model"), torch.device("cpu"), "fp32")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Saves an example as the page says; returns the config of its model."""
    def save(name, most_lines):
        code = block("python", f"class {name}:")
        assert len(code.splitlines()) <= most_lines
        (tmp_path / "my_model.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        return OmegaConf.create(block("yaml", name))

    yield save
    sys.modules.pop("my_model", None)


@pytest.fixture(scope="module")
def my_clip(tmp_path_factory):
    """A small CLIP of transformers with random weights, and a tokenizer that spells."""
    folder = tmp_path_factory.mktemp("my_clip")
    letters = "abcdefghijklmnopqrstuvwxyz.,"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 2}
    CLIPModel(CLIPConfig(
        text_config={**small, "vocab_size": len(words), "max_position_embeddings": 300,
                     "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=16,
    )).save_pretrained(folder)
    return folder


def test_the_whole_example_goes_through_the_command_line_and_what_it_wrote_loads(
        own, my_clip, tmp_path):
    node = own("TransformersClip", 60)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "transformers_clip.yaml").write_text(
        block("yaml", "TransformersClip"))
    command = re.search(r"```\nPYTHONPATH=\. kt-exp (.*transformers_clip.*)\n",
                        PAGE)[1].replace("my_clip", str(my_clip)).split()
    search = os.pathsep.join([".", *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    ended = subprocess.run(
        [sys.executable, "-m", "kt_exp.run", *command, *SMALL, "hydra.run.dir=run"], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": search, "KT_EXP_STORE": "store"}, capture_output=True,
        text=True)
    assert ended.returncode == 0, ended.stderr
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert {row["phase"] for row in record["metrics"]} >= {"baseline", "transferred"}

    subprocess.run([sys.executable, "-m", "kt_exp.run", "export", "run", "--out", "again"],
                   cwd=tmp_path, env=os.environ | {"PYTHONPATH": search}, check=True)

    before = load(OmegaConf.merge(node, {"folder": str(my_clip)}))
    after = load(OmegaConf.merge(node, {"folder": str(tmp_path / "again")}))
    assert isinstance(after, DualEncoder)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(after.encode_text(["a cup"]), before.encode_text(["a cup"]))
    assert not torch.equal(after.encode_image(images), before.encode_image(images))
    assert after.fingerprint() != before.fingerprint()


def test_the_whole_example_embeds_as_transformers_does(own, my_clip):
    model = load(OmegaConf.merge(own("TransformersClip", 60), {"folder": str(my_clip)}))
    network, tokenizer = CLIPModel.from_pretrained(my_clip), CLIPTokenizer.from_pretrained(my_clip)
    images, captions = torch.rand(2, 3, 32, 32), ["a tower", "a dish of soup"]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in
                 ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)))
    with torch.no_grad():
        theirs = network(pixel_values=(images - mean) / std,
                         **tokenizer(captions, padding=True, return_tensors="pt"))
        ours = model.logit_scale * model.encode_image(images) @ model.encode_text(captions).T
    torch.testing.assert_close(ours, theirs.logits_per_image, rtol=0, atol=1e-5)


def test_the_whole_example_refuses_what_it_cannot_do(own, my_clip):
    node = own("TransformersClip", 60)
    with pytest.raises(UserError, match=r"^model\.folder: no such folder: nowhere"):
        load(OmegaConf.merge(node, {"folder": "nowhere"}))
    with pytest.raises(UserError, match=r"^precision: this model computes in fp32 only"):
        load_model(build(OmegaConf.merge(node, {"folder": str(my_clip)}), "model"),
                   torch.device("cpu"), "bf16")


def test_the_short_example_is_a_model(own, tmp_path):
    node = own("NarrowClip", 40)
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    network = open_clip.CLIP(16, vision, text)
    save_file(network.state_dict(), tmp_path / "narrow.safetensors")
    node.weights = str(tmp_path / "narrow.safetensors")
    model = load(node)
    assert isinstance(model, DualEncoder)
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    model.score(images, ["a tower", "a dish"]).sum().backward()
    assert images.grad.abs().max() > 0


def test_the_short_example_refuses_bad_values(own):
    node = own("NarrowClip", 40)
    with pytest.raises(UserError, match=r"^model\.weights: missing"):
        load(node)
    node.weights = "nowhere.safetensors"
    with pytest.raises(UserError, match=r"^model\.weights: no such file"):
        load(node)
    node.width = 1
    with pytest.raises(UserError, match=r"^model\.width: 1 is out of range"):
        load(node)
