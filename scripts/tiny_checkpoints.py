"""Small checkpoints with random weights in the formats of the real ones, for tests and smoke.py.

Each takes less than a second to write and to run, MedCLIP's ResNet-50 apart, which is of full size.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.coca_model import CoCa
from record_medclip import TEXT as CLINICAL_BERT
from record_medclip import VISION as SWIN
from record_medclip import fill_state, write_configs
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoTokenizer,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SamProcessor,
    ViltConfig,
    ViltForMaskedLM,
)

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
TIMM = {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"}
# The network's own classifier is the projection, as in EVA and MobileCLIP.
CLASSIFIER = {**TIMM, "timm_pool": "token", "timm_proj": None}
PUBMED_BERT = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "vit": {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True},
    "resnet": {"embed_dim": 16, "vision_cfg": RESNET, "text_cfg": TEXT},
    "custom_text": {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT, "custom_text": True},
    "timm": {"embed_dim": 16, "vision_cfg": TIMM, "text_cfg": TEXT, "custom_text": True},
    "timm_classifier": {"embed_dim": 16, "vision_cfg": CLASSIFIER, "text_cfg": TEXT,
                        "custom_text": True},
    "coca": {
        "embed_dim": 32,
        "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2,
                       "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "biomedclip": {"embed_dim": 16, "vision_cfg": TIMM, "text_cfg": {
        "hf_model_name": PUBMED_BERT, "hf_tokenizer_name": PUBMED_BERT, "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 24}},
}

VILT: dict[str, Any] = {
    "model_type": "vilt", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "image_size": 64, "patch_size": 16, "max_position_embeddings": 40}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = list(dict.fromkeys(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *LETTERS,
     *(f"##{letter}" for letter in LETTERS), "a", "of", "photo", "house", "wheel", "tower"]))

MEDCLIP = Path(__file__).parents[1] / "tests" / "models" / "data" / "medclip.safetensors"


def open_clip_network(architecture: dict[str, Any], text_folder: Path) -> Any:
    """Return a network of open_clip with random weights.

    Args:
        architecture: its `model_cfg`.
        text_folder: where the text tower's configuration is, if that tower is of transformers.
    """
    torch.manual_seed(0)
    settings = deepcopy(architecture)
    custom = settings.pop("custom_text", False)
    if "hf_model_name" in settings["text_cfg"]:
        settings["text_cfg"] |= {"hf_model_name": str(text_folder), "hf_model_pretrained": False}
        return open_clip.CustomTextCLIP(**settings)
    if "multimodal_cfg" in settings:
        network = CoCa(**settings)
        # open_clip leaves the decoder's output layer as the memory happens to be.
        torch.nn.init.normal_(network.text_decoder.text_projection, std=0.3)
        return network
    return (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**settings)


def write_open_clip(folder: Path, name: str, bert: Path) -> Path:
    """Write one of `ARCHITECTURES` in open_clip's local-dir format.

    Args:
        bert: folder with a BERT's configuration and vocabulary, as `write_medclip_configs` writes.
    """
    return write_architecture(folder, ARCHITECTURES[name], bert)


def write_architecture(folder: Path, architecture: dict[str, Any], bert: Path) -> Path:
    """The same of any `model_cfg`."""
    folder.mkdir(parents=True, exist_ok=True)
    if "hf_model_name" in architecture["text_cfg"]:
        AutoTokenizer.from_pretrained(bert).save_pretrained(folder)
        (folder / "config.json").write_bytes((bert / "config.json").read_bytes())
    network = open_clip_network(architecture, folder)
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": architecture, "preprocess_cfg": {"mean": [0.5, 0.4, 0.3]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def vilt_state(*heads: str, config: ViltConfig | None = None) -> dict[str, Tensor]:
    """Return random weights of a ViLT, named as in the published checkpoints.

    Args:
        heads: any of `itm_score`, `mlm_score`, `rank_output`.
        config: None: a small one.
    """
    torch.manual_seed(0)
    config = config or ViltConfig(**VILT, vocab_size=len(WORDS))
    width = config.hidden_size
    # The wider the network, the smaller the weights: its activations stay of one size.
    std = 0.2 * (VILT["hidden_size"] / width) ** 0.5
    whole = ViltForMaskedLM(config).state_dict()
    state = {key: torch.randn(tensor.shape) * std for key, tensor in whole.items()}
    state["vilt.embeddings.text_embeddings.position_ids"] = torch.arange(40)[None]
    state["mlm_score.bias"] = state.pop("mlm_score.decoder.bias")
    state |= {"itm_score.fc.weight": torch.randn(2, width), "itm_score.fc.bias": torch.randn(2),
              "rank_output.weight": torch.randn(1, width), "rank_output.bias": torch.randn(1)}
    return {key: tensor for key, tensor in state.items() if key.split(".")[0] in ("vilt", *heads)}


def write_vilt(folder: Path, state: dict[str, Tensor]) -> Path:
    """Write a small ViLT checkpoint with a BERT tokenizer that spells words it does not know."""
    write_bert_tokenizer(folder, WORDS)
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({**VILT, "vocab_size": len(WORDS)}))
    return folder


def write_bert_tokenizer(folder: Path, words: list[str]) -> Path:
    """Write a lower-case WordPiece tokenizer with these words."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}))
    return folder


def write_medclip_configs(folder: Path) -> tuple[Path, Path]:
    """Write configurations of a small Bio_ClinicalBERT, with its vocabulary, and a small Swin.

    Returns the folders of both.
    """
    write_configs(folder)
    return folder / CLINICAL_BERT, folder / SWIN


def write_medclip(folder: Path, kind: str) -> Path:
    """Write MedCLIP's checkpoint, `swin` or `resnet`, in the layout that the package had.

    Returns its `pytorch_model.bin`.
    """
    with safe_open(MEDCLIP, "pt") as file:
        layout = json.loads(file.metadata()["layouts"])[kind]
    # Constants are no weights: whatever a checkpoint holds for them must not count.
    state = {name: torch.zeros(shape, dtype=torch.long) for name, shape in layout.items()}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({**state, **fill_state(layout)}, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def write_sam(folder: Path) -> Path:
    """Write a SAM of 64 px, as transformers saves it."""
    torch.manual_seed(0)
    SamModel(SamConfig(
        vision_config={"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "image_size": 64, "patch_size": 8, "mlp_dim": 32,
                       "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 8},
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8,
                               "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1,
                             "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    )).save_pretrained(folder)
    SamProcessor(SamImageProcessor(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 16}, mask_pad_size={"height": 16, "width": 16},
    )).save_pretrained(folder)
    return folder
