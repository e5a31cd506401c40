"""BiomedCLIP: its format without a network, and the converter of MedCLIP-SAMv2's checkpoint."""

import json
import shutil

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from kt_exp.errors import UserError
from kt_exp.models.clip import OpenClip
from kt_exp.models.protocol import TransformerTrunk

CPU = torch.device("cpu")
CLOSE = {"rtol": 0, "atol": 1e-5}
CAPTIONS = ["a photo of benign nodules in the right lung", "cardiomegaly"]


def load(folder):
    return OpenClip(f"local-dir:{folder}", None).load(CPU, "fp32")


def images(count=2):
    return torch.rand(count, 3, 160, 160, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def no_network(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("asked the network")

    monkeypatch.setattr("kt_exp.offline._hub_answers", fail)
    monkeypatch.setattr("huggingface_hub.file_download.hf_hub_download", fail)


def test_a_folder_with_the_text_encoders_config_asks_no_network(folders, no_network):
    model = load(folders["biomedclip"])
    assert model.max_text_tokens == 24
    assert isinstance(model, TransformerTrunk)
    assert (len(model.trunk_layers), model.prefix_tokens) == (6, 1)


def test_embeddings_are_those_of_open_clip(folders, tmp_path):
    """open_clip itself, told in the configuration where the text encoder's one is."""
    folder = shutil.copytree(folders["biomedclip"], tmp_path / "model")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = str(folder)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    network, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(CAPTIONS)
    model = load(folders["biomedclip"])
    with torch.no_grad():
        texts = network.eval().encode_text(tokens, normalize=True)
        seen = network.encode_image(model._normalize(images()), normalize=True)
    torch.testing.assert_close(model.encode_text(CAPTIONS), texts, **CLOSE)
    torch.testing.assert_close(model.encode_image(images()), seen, **CLOSE)


def test_without_config_and_network_it_says_what_to_put_where(folders, tmp_path, monkeypatch):
    folder = shutil.copytree(folders["biomedclip"], tmp_path / "model")
    (folder / "config.json").unlink()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"^model\.name: the text encoder's files of .* put the "
                                        r"text encoder's config\.json beside open_clip_config"):
        load(folder)


class Layer(nn.Module):
    """A layer as MedCLIP-SAMv2 writes it, by its names: norms before (vision) or after (text)."""

    def __init__(self, width, hidden, heads, first):
        super().__init__()
        self.heads, self.first = heads, first
        self.self_attn = nn.ModuleDict(
            {f"{part}_proj": nn.Linear(width, width) for part in ("q", "k", "v", "out")})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})
        self.layer_norm1 = nn.LayerNorm(width, eps=1e-12)
        self.layer_norm2 = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x, mask=None):
        if self.first:
            x = x + self.attend(self.layer_norm1(x), mask)
            return x + self.expand(self.layer_norm2(x))
        x = self.layer_norm1(x + self.attend(x, mask))
        return self.layer_norm2(x + self.expand(x))

    def attend(self, x, mask):
        query, key, value = (self.self_attn[f"{part}_proj"](x).unflatten(-1, (self.heads, -1))
                             .transpose(1, 2) for part in "qkv")
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.self_attn["out_proj"](seen.transpose(1, 2).flatten(2))

    def expand(self, x):
        return self.mlp["fc2"](F.gelu(self.mlp["fc1"](x)))


class Reference(nn.Module):
    """MedCLIP-SAMv2's BiomedCLIP, in its names and with its order of operations, small."""

    def __init__(self):
        super().__init__()
        vision, text = nn.Module(), nn.Module()
        vision.embeddings, text.embeddings = nn.Module(), nn.Module()
        vision.encoder, text.encoder = nn.Module(), nn.Module()
        vision.embeddings.class_embedding = nn.Parameter(torch.randn(64))
        vision.embeddings.patch_embedding = nn.Conv2d(3, 64, 16, 16)
        vision.embeddings.position_embedding = nn.Embedding(101, 64)
        vision.encoder.layers = nn.ModuleList(Layer(64, 192, 2, first=True) for _ in range(6))
        vision.post_layernorm = nn.LayerNorm(64, eps=1e-12)
        text.embeddings.token_embedding = nn.Embedding(33, 32)
        text.embeddings.position_embedding = nn.Embedding(128, 32)
        text.embeddings.token_type_embedding = nn.Embedding(2, 32)
        text.embeddings.layer_norm = nn.LayerNorm(32, eps=1e-12)
        text.encoder.layers = nn.ModuleList(Layer(32, 48, 2, first=False) for _ in range(4))
        self.vision_model, self.text_model = vision, text
        self.visual_projection = nn.Linear(64, 16, bias=False)
        self.text_projection = nn.ModuleDict({"fc1": nn.Linear(32, 24, bias=False),
                                              "fc2": nn.Linear(24, 16, bias=False)})
        self.logit_scale = nn.Parameter(torch.tensor(4.4454))

    def image_features(self, pixels):
        embeddings = self.vision_model.embeddings
        patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        start = embeddings.class_embedding.expand(len(pixels), 1, -1)
        x = torch.cat([start, patches], dim=1) + embeddings.position_embedding.weight
        for layer in self.vision_model.encoder.layers:
            x = layer(x)
        return self.visual_projection(self.vision_model.post_layernorm(x[:, 0]))

    def text_features(self, ids):
        embeddings = self.text_model.embeddings
        x = embeddings.token_embedding(ids) + embeddings.token_type_embedding.weight[0]
        x = embeddings.layer_norm(x + embeddings.position_embedding.weight[:ids.shape[1]])
        for layer in self.text_model.encoder.layers:
            x = layer(x, mask=(ids > 0)[:, None, None])
        return self.text_projection["fc2"](F.gelu(self.text_projection["fc1"](x[:, 0])))


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(5)
    network = Reference()
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1 and "logit" not in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return network.requires_grad_(False)


@pytest.fixture
def checkpoint(reference, tmp_path):
    # Older versions of transformers save the positions' numbers with the weights.
    positions = {"vision_model.embeddings.position_ids": torch.arange(101)[None]}
    torch.save({**reference.state_dict(), **positions}, tmp_path / "pytorch_model.bin")
    return tmp_path / "pytorch_model.bin"


def convert(converter, checkpoint, base, out):
    converter.run(checkpoint, f"local-dir:{base}", out)
    return load(out)


def test_converted_weights_give_the_same_embeddings(converter, reference, checkpoint, folders,
                                                    tmp_path):
    model = convert(converter, checkpoint, folders["biomedclip"], tmp_path / "out")
    tokens = model._tokenizer(CAPTIONS)
    torch.testing.assert_close(model.encode_text(CAPTIONS, normalize=False),
                               reference.text_features(tokens), **CLOSE)
    torch.testing.assert_close(model.encode_image(images(), normalize=False),
                               reference.image_features(model._normalize(images())), **CLOSE)
    torch.testing.assert_close(model.logit_scale, torch.tensor(4.4454).exp())


def test_safetensors_are_taken_too(converter, reference, folders, tmp_path):
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    model = convert(converter, tmp_path / "model.safetensors", folders["biomedclip"],
                    tmp_path / "out")
    weights = load_file(tmp_path / "out" / "open_clip_model.safetensors")
    assert weights.keys() == model.module.state_dict().keys()


def test_a_checkpoint_of_something_else_names_the_first_key(converter, reference, folders,
                                                            tmp_path):
    state = reference.state_dict()
    del state["vision_model.embeddings.class_embedding"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="another architecture: it lacks 'visual"):
        convert(converter, tmp_path / "pytorch_model.bin", folders["biomedclip"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="no such file"):
        convert(converter, tmp_path / "none.bin", folders["biomedclip"], tmp_path / "out")


def test_a_layer_without_its_keys_is_told(converter, reference, folders, tmp_path):
    state = reference.state_dict()
    del state["vision_model.encoder.layers.0.self_attn.k_proj.bias"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"'visual.trunk.blocks.0.attn.qkv.bias' is \[128\]"):
        convert(converter, tmp_path / "pytorch_model.bin", folders["biomedclip"], tmp_path / "out")
