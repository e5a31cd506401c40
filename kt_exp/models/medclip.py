"""MedCLIP (Wang et al. 2022): a dual encoder of chest radiographs and reports."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Optional

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor
from transformers import AutoConfig, AutoTokenizer

from kt_exp.config.checks import choice
from kt_exp.errors import UserError
from kt_exp.models.digest import digest_of
from kt_exp.models.files import check_hub_folder, hub_folder, read_state, refuse_bomb
from kt_exp.models.layers import split_tower
from kt_exp.models.medclip_network import MedClipNetwork, load_published, published_state
from kt_exp.models.preprocessing import Preprocessing
from kt_exp.models.protocol import Scorer, SplitTower
from kt_exp.models.similarity import embedding_scorer
from kt_exp.remote_code import loading
from kt_exp.store import signature

WEIGHTS_FILE, CONFIG_FILE = "pytorch_model.bin", "config.json"
TEXT_FOLDER, VISION_FOLDER = "text", "vision"
# Of CheXpert and MIMIC-CXR, for all three channels, as in the package `medclip`.
_MEAN, _STD = 0.5862785803043838, 0.27950088968644304
_IMAGE_SIZE, _MAX_TOKENS, _CHUNK = 224, 77, 128
_MAX_LOGIT_SCALE = 4.6052
_TEXT_FILES = [CONFIG_FILE, "vocab.txt", "tokenizer*", "special_tokens_map.json"]


@dataclass(kw_only=True)
class MedClip:
    """Config of MedCLIP (`model=medclip`, `model=medclip_resnet`)."""

    weights: str
    text: str
    vision: Optional[str]
    padding: str = choice("class", "none")
    resize: str = choice("bilinear", "bicubic")

    def load(self, device: torch.device, precision: str) -> MedClipModel:
        """Return the model with its weights on `device`, in evaluation mode.

        Raises:
            UserError: files that are missing, damaged or cannot be downloaded, or a checkpoint of
                another architecture.
        """
        path = _find(Path(self.weights).expanduser())
        folder = hub_folder(self.text, "model.text", _TEXT_FILES)
        text, tokenizer = _config(folder, "model.text"), _tokenizer(folder)
        vision = None if self.vision is None else _config(
            hub_folder(self.vision, "model.vision", [CONFIG_FILE]), "model.vision")
        network = MedClipNetwork(text, vision)
        if problem := load_published(network, _read(path)):
            raise UserError("model.weights", f"{path} has weights of another architecture: "
                            f"{problem}", "MedCLIP-ViT is model=medclip, MedCLIP-ResNet "
                            "model=medclip_resnet")
        return MedClipModel(network, tokenizer, (text, vision), self.padding, self.resize,
                            device, precision)


    def check_files(self) -> None:
        """Check that all files are here or can be fetched, without loading weights.

        Raises:
            UserError: they are not.
        """
        _find(Path(self.weights).expanduser())
        check_hub_folder(self.text, "model.text", _TEXT_FILES)
        if self.vision is not None:
            check_hub_folder(self.vision, "model.vision", [CONFIG_FILE])


class MedClipModel:
    """MedCLIP behind `models.protocol.DualEncoder`.

    Args:
        tokenizer: transformers' tokenizer of the text tower.
        configs: transformers' configurations of text and image tower (None: ResNet-50).
        padding: `class`: the prompts of a class to its longest; or `none`. The text tower pools
            over padding too, so that padding changes the embeddings.
        resize: `bilinear` or `bicubic`.
    """

    max_text_tokens = _MAX_TOKENS

    def __init__(self, network: MedClipNetwork, tokenizer: Any, configs: tuple[Any, Optional[Any]],
                 padding: str, resize: str, device: torch.device,
                 precision: str = "fp32") -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._text_config, self._vision_config = configs
        self._padding = padding
        self._precision = precision
        self.device = device
        self.image_size = getattr(self._vision_config, "image_size", _IMAGE_SIZE)
        # Pixels stored before there was a choice are bicubic.
        self.to_tensor = Preprocessing(
            partial(_grey_square, side=self.image_size, resize=resize), "MedCLIP",
            self.image_size, *([] if resize == "bicubic" else [resize]))
        self._resize = resize

    @property
    def module(self) -> nn.Module:
        return self._network

    @property
    def logit_scale(self) -> Tensor:
        return self._network.logit_scale.clamp(0, _MAX_LOGIT_SCALE).exp()

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        with self._autocast():
            features = self._network.vision_model((images.to(self.device) - _MEAN) / _STD)
        return F.normalize(features.float(), dim=-1) if normalize else features.float()

    @property
    def layer_count(self) -> int:
        tower = self._network.vision_model.layered()
        return len(tower.layers) if tower else 0

    def split(self, above: int) -> SplitTower:
        tower = self._network.vision_model.layered()
        assert tower
        return split_tower(lambda: tower, above,
                           lambda images: (images.to(self.device) - _MEAN) / _STD, self._autocast,
                           self.towers()["visual"].items())

    def encode_text(self, captions: Sequence[str], normalize: bool = True) -> Tensor:
        features = self._encode_captions(captions, together=False)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_class(self, prompts: Sequence[str]) -> Tensor:
        return F.normalize(self._encode_captions(prompts, self._padding == "class"), dim=-1)

    def _encode_captions(self, captions: Sequence[str], together: bool) -> Tensor:
        """Return features `(T, D)`; `together` pads all captions to the longest of them."""
        ids = self._tokenizer(list(captions), truncation=True, max_length=_MAX_TOKENS).input_ids
        tokens = [torch.tensor(row) for row in ids]
        longest = max(map(len, tokens))
        lengths = [longest if together else len(row) for row in tokens]
        order = sorted(range(len(tokens)), key=lambda i: lengths[i])
        features = torch.cat([self._encode([tokens[i] for i in chunk], lengths[chunk[0]])
                              for chunk in _of_one_length(order, lengths)])
        return features[torch.tensor(order).argsort().to(self.device)]

    def _encode(self, tokens: list[Tensor], length: int) -> Tensor:
        padded = [F.pad(row, (0, length - len(row)), value=self._tokenizer.pad_token_id)
                  for row in tokens]
        real = torch.tensor([len(row) for row in tokens])[:, None]
        mask = (torch.arange(length) < real).long()
        with self._autocast():
            features = self._network.text_model(torch.stack(padded).to(self.device),
                                                mask.to(self.device))
        return features.float()

    def scorer(self, captions: Sequence[str], distance: str = "cosine") -> Scorer:
        return embedding_scorer(self, captions, distance)

    def score(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        return self.scorer(captions)(images)

    def towers(self) -> dict[str, dict[str, nn.Parameter]]:
        named = dict(self._network.named_parameters())
        heads = ("vision_model.projection_head.", "vision_model.model.fc.")
        return {
            "visual": {n: p for n, p in named.items() if n.startswith("vision_model.")},
            "visual_projection": {n: p for n, p in named.items() if n.startswith(heads)},
            "text": {n: p for n, p in named.items() if n.startswith("text_model.")},
        }

    def count_tokens(self, caption: str) -> int:
        return len(self._tokenizer(caption, verbose=False).input_ids)

    def fingerprint(self) -> str:
        words = json.loads(self._tokenizer.backend_tokenizer.to_str())
        # Each call of the tokenizer sets these.
        words = {key: words[key] for key in words if key not in ("padding", "truncation")}
        configs = [config and config.to_json_string(use_diff=True)
                   for config in (self._text_config, self._vision_config)]
        return signature([digest_of(self._network), words, configs, self._padding,
                          self._resize, self._precision])

    def export(self, folder: Path) -> None:
        """Write the weights in the published layout, the towers' configurations and the tokenizer.

        `weights` takes the folder, `text` and `vision` its sub-folders of these names.
        """
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(published_state(self._network), folder / WEIGHTS_FILE)
        self._text_config.save_pretrained(folder / TEXT_FOLDER)
        self._tokenizer.save_pretrained(folder / TEXT_FOLDER)
        if self._vision_config is not None:
            self._vision_config.save_pretrained(folder / VISION_FOLDER)

    def _autocast(self) -> AbstractContextManager:
        enabled = self._precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


def _grey_square(image: Image.Image, side: int, resize: str) -> Tensor:
    """Return a greyscale image, padded with black to a square, `(3, side, side)` in [0, 1]."""
    grey = image.convert("L")
    longest = max(side, *grey.size)
    square = Image.new("L", (longest, longest))
    square.paste(grey, ((longest - grey.width) // 2, (longest - grey.height) // 2))
    square = square.resize((side, side), Image.Resampling[resize.upper()])
    return (pil_to_tensor(square) / 255).expand(3, -1, -1)


def _of_one_length(order: list[int], lengths: list[int]) -> list[list[int]]:
    """Split `order`, which is sorted by length, into chunks of one length, of at most `_CHUNK`."""
    chunks: list[list[int]] = []
    for i in order:
        if not chunks or lengths[chunks[-1][0]] != lengths[i] or len(chunks[-1]) == _CHUNK:
            chunks.append([])
        chunks[-1].append(i)
    return chunks


def _find(path: Path) -> Path:
    found = path / WEIGHTS_FILE if path.is_dir() else path
    if not found.is_file():
        raise UserError("model.weights", f"no such file: {found}", "give the published zip, its "
                        f"{WEIGHTS_FILE}, or the folder that holds it (docs/models.md)")
    return found


def _read(path: Path) -> dict[str, Tensor]:
    refuse_bomb(path, path, "model.weights")
    content = None
    if zipfile.is_zipfile(path):  # torch.save writes a zip too, but not this file
        try:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if Path(name).name == WEIGHTS_FILE:
                        content = BytesIO(archive.read(name))
        except Exception as error:  # On damaged archives zipfile raises almost anything.
            raise UserError("model.weights", f"{path} cannot be unpacked ({error})",
                            "it may be damaged or cut short") from error
    return read_state(path, "model.weights", content)


def _config(folder: Path, where: str) -> Any:
    with loading(folder, where, f"no configuration of a network in {folder}",
                 f"put {CONFIG_FILE} there, as transformers writes it"):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _tokenizer(folder: Path) -> Any:
    with loading(folder, "model.text", f"no tokenizer in {folder}",
                 "put vocab.txt or tokenizer.json there"):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True,
                                             trust_remote_code=False)
