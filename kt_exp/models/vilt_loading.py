"""Find and load a ViLT checkpoint."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, ViltConfig

from kt_exp.errors import UserError
from kt_exp.models.files import check_hub_folder, first_mismatch, hub_folder, read_state
from kt_exp.models.vilt_network import HEADS, MLM_HEAD, ViltNetwork
from kt_exp.remote_code import loading

CONFIG_FILE, WEIGHTS_FILES = "config.json", ("model.safetensors", "pytorch_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
_SMALL_FILES = [CONFIG_FILE, "tokenizer*", "vocab.txt", "special_tokens_map.json"]
_WORDS, _DECODER = "vilt.embeddings.text_embeddings.word_embeddings.weight", "mlm_score.decoder"
# Buffers that older versions of transformers saved.
_BUFFERS = re.compile(r".*\.text_embeddings\.(position_ids|token_type_ids)")


def load_vilt(name: str, tokenizer: str | None) -> tuple[ViltNetwork, Any]:
    """Return the network, on the CPU, and its tokenizer.

    Args:
        name: hub id, or a folder in the layout of transformers.
        tokenizer: the same, for the tokenizer's files where `name` has none of its own.

    Raises:
        UserError: files that are missing, damaged or cannot be downloaded, or a checkpoint of
            another architecture.
    """
    folder = hub_folder(name, "model.name", _SMALL_FILES, WEIGHTS_FILES)
    network = _network(folder, name)
    if not _has_tokenizer(folder):
        if tokenizer is None:
            raise UserError("model.tokenizer", f"{name} has no tokenizer of its own",
                            "give a hub id or a folder, as dandelin/vilt-b32-mlm")
        folder = hub_folder(tokenizer, "model.tokenizer", _SMALL_FILES)
        if not _has_tokenizer(folder):
            raise UserError("model.tokenizer", f"no tokenizer in {tokenizer}",
                            "put tokenizer.json or vocab.txt there")
    return network, _tokenizer(folder, network.config.vocab_size)


def check_vilt(name: str, tokenizer: str | None) -> None:
    """Check that the files are on this machine or can be fetched, without loading weights.

    Raises:
        UserError: as `load_vilt`, but for what only loading shows.
    """
    folder = check_hub_folder(name, "model.name", _SMALL_FILES, WEIGHTS_FILES)
    if folder:
        _config(folder / CONFIG_FILE)
        _weights_in(folder)
    if tokenizer and not (folder and _has_tokenizer(folder)):
        check_hub_folder(tokenizer, "model.tokenizer", _SMALL_FILES)


def _network(folder: Path, name: str) -> ViltNetwork:
    config = _config(folder / CONFIG_FILE)
    state = _state(folder)
    heads = {key.split(".")[0] for key in state} & set(HEADS)
    network = ViltNetwork(config, heads)
    if MLM_HEAD in heads and f"{_DECODER}.weight" not in state:
        words = network.get_parameter(_WORDS)
        network.get_submodule(_DECODER).register_parameter("weight", words)
        state[f"{_DECODER}.weight"] = state.get(_WORDS, torch.empty(0))
    if problem := first_mismatch(network.state_dict(), state):
        raise UserError("model.name", f"{name} has weights of another architecture: {problem}",
                        f"give the {CONFIG_FILE} that belongs to the weights")
    network.load_state_dict(state)
    return network


def _config(path: Path) -> ViltConfig:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        kind = values.get("model_type")
    except FileNotFoundError:
        raise UserError("model.name", f"{path.parent} has no {CONFIG_FILE}",
                        "give a folder in the layout of transformers") from None
    except (ValueError, AttributeError) as error:
        raise UserError(str(path), f"is not a model's configuration ({error})",
                        "give the one that belongs to the weights") from error
    if kind != "vilt":
        raise UserError("model.name", f"{path.parent} holds a model of type '{kind}', not ViLT",
                        "give a ViLT checkpoint, as dandelin/vilt-b32-mlm-itm")
    config = ViltConfig.from_dict(values)
    if not isinstance(config.image_size, int):
        raise UserError("model.name", f"takes images of {config.image_size} pixels",
                        "choose a model that takes square ones")
    return config


def _state(folder: Path) -> dict[str, Tensor]:
    """Return the weights of the transformer and its heads, in fp32, from the first file found."""
    state = read_state(_weights_in(folder), "model.name")
    # In the published checkpoints this bias is beside the decoder, in some also within it.
    if (bias := state.pop(f"{MLM_HEAD}.bias", None)) is not None:
        state[f"{_DECODER}.bias"] = bias
    ours = ("vilt.", *(f"{head}." for head in HEADS))
    return {key: tensor.float() for key, tensor in state.items()
            if key.startswith(ours) and not _BUFFERS.fullmatch(key)}


def _weights_in(folder: Path) -> Path:
    path = next((folder / file for file in WEIGHTS_FILES if (folder / file).is_file()), None)
    if path is None:
        raise UserError("model.name", f"{folder} holds no weights",
                        f"put {' or '.join(WEIGHTS_FILES)} there")
    return path


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / file).is_file() for file in TOKENIZER_FILES)


def _tokenizer(folder: Path, vocabulary: int) -> Any:
    with loading(folder, "model.tokenizer", f"the tokenizer in {folder} cannot be loaded",
                 "give BERT's files: tokenizer.json and tokenizer_config.json"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True,
                                                  trust_remote_code=False)
    if len(tokenizer) > vocabulary:
        raise UserError("model.tokenizer", f"the tokenizer in {folder} has {len(tokenizer)} words, "
                        f"the model {vocabulary}", "give the one it was trained with")
    return tokenizer
