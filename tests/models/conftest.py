"""Tiny models with random weights, one of each architecture, in the formats of the real ones."""

import importlib.util
import json
from copy import deepcopy
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.coca_model import CoCa
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer

torch.set_num_threads(1)

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
TIMM = {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"}
# The network's own classifier is the projection, as in EVA and MobileCLIP.
CLASSIFIER = {**TIMM, "timm_pool": "token", "timm_proj": None}
COCA = {
    "embed_dim": 32,
    "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
    "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
    "custom_text": True,
}

ARCHITECTURES = {
    "vit": {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True},
    "resnet": {"embed_dim": 16, "vision_cfg": RESNET, "text_cfg": TEXT},
    "custom_text": {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT, "custom_text": True},
    "timm": {"embed_dim": 16, "vision_cfg": TIMM, "text_cfg": TEXT, "custom_text": True},
    "timm_classifier": {"embed_dim": 16, "vision_cfg": CLASSIFIER, "text_cfg": TEXT,
                        "custom_text": True},
    "coca": COCA,
    "biomedclip": {"embed_dim": 16, "vision_cfg": TIMM, "text_cfg": {
        "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        "hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 24}},
}
MEDCLIP = Path(__file__).parent / "data" / "medclip.safetensors"


def script(name):
    path = Path(__file__).parents[2] / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(architecture, folder):
    torch.manual_seed(0)
    settings = deepcopy(architecture)
    custom = settings.pop("custom_text", False)
    if "hf_model_name" in settings["text_cfg"]:
        settings["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
        return open_clip.CustomTextCLIP(**settings)
    if "multimodal_cfg" in settings:
        network = CoCa(**settings)
        # open_clip leaves the decoder's output layer as the memory happens to be.
        torch.nn.init.normal_(network.text_decoder.text_projection, std=0.3)
        return network
    return (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**settings)


@pytest.fixture(scope="session")
def folders(tmp_path_factory, bert):
    """Folders in open_clip's local-dir format, by architecture."""
    made = {}
    for name, architecture in ARCHITECTURES.items():
        made[name] = tmp_path_factory.mktemp(name)
        if "hf_model_name" in architecture["text_cfg"]:
            AutoTokenizer.from_pretrained(bert).save_pretrained(made[name])
            (made[name] / "config.json").write_bytes((bert / "config.json").read_bytes())
        network = build(architecture, made[name])
        save_file(network.state_dict(), made[name] / "open_clip_model.safetensors")
        config = {"model_cfg": architecture, "preprocess_cfg": {"mean": [0.5, 0.4, 0.3]}}
        (made[name] / "open_clip_config.json").write_text(json.dumps(config))
    return made


@pytest.fixture(scope="session")
def built_in(tmp_path_factory):
    """The name of an architecture that open_clip knows, and a checkpoint of it."""
    folder = tmp_path_factory.mktemp("built_in")
    (folder / "tiny-quickgelu.json").write_text(json.dumps(ARCHITECTURES["vit"]))
    open_clip.add_model_config(folder / "tiny-quickgelu.json")
    network = build(ARCHITECTURES["vit"], folder)
    torch.save({"state_dict": network.state_dict()}, folder / "tiny.pt")
    return "tiny-quickgelu", str(folder / "tiny.pt")


VILT = {"model_type": "vilt", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 48, "image_size": 64, "patch_size": 16, "max_position_embeddings": 40}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *LETTERS,
         *(f"##{letter}" for letter in LETTERS), "a", "of", "photo", "house", "wheel", "tower"]


def _vilt_state(*heads):
    """Random weights of a tiny ViLT, named as in the published checkpoints."""
    from transformers import ViltConfig, ViltForMaskedLM

    vocabulary = list(dict.fromkeys(WORDS))
    torch.manual_seed(0)
    whole = ViltForMaskedLM(ViltConfig(**VILT, vocab_size=len(vocabulary))).state_dict()
    state = {key: torch.randn(tensor.shape) * 0.2 for key, tensor in whole.items()}
    state["vilt.embeddings.text_embeddings.position_ids"] = torch.arange(40)[None]
    state["mlm_score.bias"] = state.pop("mlm_score.decoder.bias")
    state |= {"itm_score.fc.weight": torch.randn(2, 32), "itm_score.fc.bias": torch.randn(2),
              "rank_output.weight": torch.randn(1, 32), "rank_output.bias": torch.randn(1)}
    return {key: tensor for key, tensor in state.items() if key.split(".")[0] in ("vilt", *heads)}


def _write_vilt(folder, state):
    """A tiny ViLT checkpoint with a BERT tokenizer that spells words it does not know."""
    vocabulary = list(dict.fromkeys(WORDS))
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({**VILT, "vocab_size": len(vocabulary)}))
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}))
    return folder


@pytest.fixture(scope="session")
def vilt_folders(tmp_path_factory):
    """Checkpoints as those published: pre-trained, and fine-tuned for retrieval."""
    return {
        "itm": _write_vilt(tmp_path_factory.mktemp("itm"), _vilt_state("itm_score", "mlm_score")),
        "rank": _write_vilt(tmp_path_factory.mktemp("rank"), _vilt_state("rank_output")),
    }


@pytest.fixture(scope="session")
def vilt_state():
    return _vilt_state


@pytest.fixture(scope="session")
def write_vilt():
    return _write_vilt


@pytest.fixture(scope="session")
def medclip_script():
    """The script that recorded what the package `medclip` computes."""
    return script("record_medclip")


@pytest.fixture(scope="session")
def converter():
    """The script that converts the BiomedCLIP of MedCLIP-SAMv2."""
    return script("convert_biomedclip")


@pytest.fixture(scope="session")
def bert(medclip_script, tmp_path_factory):
    """A folder with the configuration and vocabulary of a small BERT."""
    folder = tmp_path_factory.mktemp("configs")
    medclip_script.write_configs(folder)
    return folder / medclip_script.TEXT


@pytest.fixture(scope="session")
def swin(medclip_script, bert):
    """A folder with the configuration of a small Swin."""
    return bert.parents[1] / medclip_script.VISION


@pytest.fixture(scope="session")
def medclip_weights(medclip_script, tmp_path_factory):
    """MedCLIP's checkpoints in the published layout, by image tower."""
    with safe_open(MEDCLIP, "pt") as file:
        layouts = json.loads(file.metadata()["layouts"])
    paths = {}
    for kind, layout in layouts.items():
        # Constants are no weights: whatever a checkpoint holds for them must not count.
        state = {name: torch.zeros(shape, dtype=torch.long) for name, shape in layout.items()}
        paths[kind] = tmp_path_factory.mktemp(kind) / "pytorch_model.bin"
        torch.save({**state, **medclip_script.fill_state(layout)}, paths[kind])
    return paths
