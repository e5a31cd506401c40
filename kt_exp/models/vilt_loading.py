"""Find and load a ViLT checkpoint, or say in one line why that cannot be."""

from __future__ import annotations

import json
import pickle
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, ViltConfig

from kt_exp.errors import UserError
from kt_exp.models.loading import fails_fast_offline
from kt_exp.models.vilt_network import HEADS, MLM_HEAD, ViltNetwork

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
        UserError: files that are absent, out of reach or damaged, or a checkpoint of another
            architecture.
    """
    folder = _folder(name, "model.name", weights=True)
    network = _network(folder, name)
    if not _has_tokenizer(folder):
        if tokenizer is None:
            raise UserError("model.tokenizer", f"{name} has no tokenizer of its own",
                            "give a hub id or a folder, as dandelin/vilt-b32-mlm")
        folder = _folder(tokenizer, "model.tokenizer", weights=False)
        if not _has_tokenizer(folder):
            raise UserError("model.tokenizer", f"no tokenizer in {tokenizer}",
                            "put tokenizer.json or vocab.txt there")
    return network, _tokenizer(folder, network.config.vocab_size)


def _folder(name: str, where: str, weights: bool) -> Path:
    """Return the folder of a checkpoint: as given, or the hub's in the local cache."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
        raise UserError(where, f"no such folder: {name}", "give a folder, or a hub id (ORG/REPO)")
    try:
        with fails_fast_offline(True):
            folder = Path(snapshot_download(name, allow_patterns=_SMALL_FILES))
            if weights:
                _download_weights(name)
    except Exception as error:
        raise UserError(where, f"'{name}' is no folder here, is not in the hub's cache, and cannot "
                        "be fetched", f"copy the repository's files into a folder and give its "
                        f"path: {where}=/path/to/folder") from error
    return folder


def _download_weights(name: str) -> None:
    *others, last = WEIGHTS_FILES
    for file in others:
        with suppress(EntryNotFoundError):
            hf_hub_download(name, file)
            return
    hf_hub_download(name, last)


def _network(folder: Path, name: str) -> ViltNetwork:
    config = _config(folder / CONFIG_FILE)
    state = _state(folder)
    heads = {key.split(".")[0] for key in state} & set(HEADS)
    network = ViltNetwork(config, heads)
    if MLM_HEAD in heads and f"{_DECODER}.weight" not in state:
        words = network.get_parameter(_WORDS)
        network.get_submodule(_DECODER).register_parameter("weight", words)
        state[f"{_DECODER}.weight"] = state.get(_WORDS, torch.empty(0))
    _check(network.state_dict(), state, name)
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
    """Return the weights that the network has a place for, in fp32, from the first file there."""
    path = next((folder / file for file in WEIGHTS_FILES if (folder / file).is_file()), None)
    if path is None:
        raise UserError("model.name", f"{folder} holds no weights",
                        f"put {' or '.join(WEIGHTS_FILES)} there")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else \
            torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(str(path), "damaged, or holds more than tensors, which loading could run "
                        "as code", "give it as safetensors") from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise UserError(str(path), f"cannot be loaded ({str(error).splitlines()[0]})",
                        "it may be damaged or cut short") from error
    # The published checkpoints have the words' bias beside the decoder, some of them twice.
    if (bias := state.pop(f"{MLM_HEAD}.bias", None)) is not None:
        state[f"{_DECODER}.bias"] = bias
    ours = ("vilt.", *(f"{head}." for head in HEADS))
    return {key: tensor.float() for key, tensor in state.items()
            if key.startswith(ours) and not _BUFFERS.fullmatch(key)}


def _check(wanted: dict[str, Tensor], found: dict[str, Tensor], name: str) -> None:
    for key in (*wanted, *found):
        if key not in found:
            problem = f"it lacks '{key}'"
        elif key not in wanted:
            problem = f"the model has no '{key}'"
        elif wanted[key].shape != found[key].shape:
            problem = f"'{key}' is {list(found[key].shape)} in the checkpoint, " \
                f"{list(wanted[key].shape)} by its {CONFIG_FILE}"
        else:
            continue
        raise UserError("model.name", f"{name} has weights of another architecture: {problem}",
                        f"give the {CONFIG_FILE} that belongs to the weights")


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / file).is_file() for file in TOKENIZER_FILES)


def _tokenizer(folder: Path, vocabulary: int) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise UserError("model.tokenizer", f"the tokenizer in {folder} cannot be loaded "
                        f"({str(error).splitlines()[0][:200]})",
                        "give BERT's files: tokenizer.json and tokenizer_config.json") from error
    if len(tokenizer) > vocabulary:
        raise UserError("model.tokenizer", f"the tokenizer in {folder} has {len(tokenizer)} words, "
                        f"the model {vocabulary}", "give the one it was trained with")
    return tokenizer
