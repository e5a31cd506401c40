"""Any open_clip model: built-in name and tag, checkpoint file, `local-dir:` or `hf-hub:`."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import open_clip
import torch
import torch.nn.functional as F
from open_clip.factory import HF_HUB_PREFIX, LOCAL_DIR_PREFIX, _get_hf_config
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms import Normalize

from kt_exp.errors import UserError, did_you_mean
from kt_exp.models.protocol import Scorer

_TEXT_CHUNK = 256


@dataclass
class OpenClip:
    """Config of an open_clip model (`model=open_clip` and the presets made from it)."""

    name: str
    pretrained: Optional[str]

    def load(self, device: torch.device, precision: str) -> OpenClipModel:
        """Return the model with its weights on `device`, in evaluation mode.

        Raises:
            UserError: unknown model or tag, or weights that are neither here nor to be fetched.
        """
        self._check_names()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                network, _, _ = open_clip.create_model_and_transforms(
                    self.name, pretrained=self.pretrained, require_pretrained=True, device="cpu"
                )
                tokenizer = open_clip.get_tokenizer(self.name)
            except Exception as error:
                raise self._load_error(error) from error
        return OpenClipModel(network, tokenizer, self._architecture(), device, precision)

    def _check_names(self) -> None:
        if self.name.startswith(LOCAL_DIR_PREFIX):
            _check_local_dir(Path(self.name.removeprefix(LOCAL_DIR_PREFIX)))
        elif not self.name.startswith(HF_HUB_PREFIX):
            self._check_built_in()

    def _check_built_in(self) -> None:
        known = open_clip.list_models()
        if self.name.replace("/", "-") not in known:
            raise UserError("model.name", f"open_clip has no model '{self.name}'",
                            did_you_mean(self.name, known))
        tags = open_clip.list_pretrained_tags_by_model(self.name)
        if not self.pretrained:
            raise UserError("model.pretrained", "missing: an untrained model knows nothing",
                            "give a checkpoint file or a tag; " + did_you_mean("", tags))
        is_path = os.sep in self.pretrained or Path(self.pretrained).suffix in _SUFFIXES
        if is_path and not Path(self.pretrained).is_file():
            raise UserError("model.pretrained", f"no such file: {self.pretrained}",
                            "give the path of a checkpoint, or a tag of open_clip")
        if not is_path and self.pretrained not in tags:
            raise UserError("model.pretrained", f"'{self.name}' has no tag '{self.pretrained}'",
                            did_you_mean(self.pretrained, tags) + " (or the path of a checkpoint)")

    def _load_error(self, error: Exception) -> UserError:
        if _is_download_error(error):
            wanted = f"{self.name} ({self.pretrained})" if self.pretrained else self.name
            return UserError(
                "model", f"the weights of {wanted} are not on this machine, and {_source(self)} "
                "cannot be reached",
                "give a file: model.pretrained=/path/to/checkpoint, or a folder: "
                "model=open_clip model.name=local-dir:/path/to/folder",
            )
        return UserError("model", f"cannot load {self.name}: {_first_line(error)}",
                         "check that the checkpoint belongs to this architecture")

    def _architecture(self) -> dict[str, Any]:
        if self.name.startswith(LOCAL_DIR_PREFIX):
            path = Path(self.name.removeprefix(LOCAL_DIR_PREFIX)) / "open_clip_config.json"
            return json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        if self.name.startswith(HF_HUB_PREFIX):
            return _get_hf_config(self.name.removeprefix(HF_HUB_PREFIX))["model_cfg"]
        return open_clip.get_model_config(self.name)


_SUFFIXES = {".pt", ".pth", ".bin", ".safetensors", ".npz"}


class OpenClipModel:
    """An open_clip network behind `models.protocol.DualEncoder`.

    Args:
        network: an `open_clip.CLIP` or `CustomTextCLIP`.
        tokenizer: what `open_clip.get_tokenizer` returns for it.
        architecture: its open_clip `model_cfg`, written by `export`.
        precision: `fp32`, or `bf16` for autocast.
    """

    def __init__(self, network: Any, tokenizer: Any, architecture: dict[str, Any],
                 device: torch.device, precision: str = "fp32") -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._architecture = deepcopy(architecture)
        self._precision = precision
        self.device = device
        self._preprocess = PreprocessCfg(**open_clip.get_model_preprocess_cfg(network))
        size = self._preprocess.size
        self.image_size = size if isinstance(size, int) else size[0]
        self.max_text_tokens = int(tokenizer.context_length)
        self._normalize = Normalize(self._preprocess.mean, self._preprocess.std)
        self.to_tensor = _to_tensor(self._preprocess)

    @property
    def module(self) -> torch.nn.Module:
        return self._network

    @property
    def logit_scale(self) -> Tensor:
        return self._network.logit_scale.exp()

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        with self._autocast():
            features = self._network.encode_image(self._normalize(images.to(self.device)))
        return F.normalize(features.float(), dim=-1) if normalize else features.float()

    def encode_text(self, captions: Sequence[str], normalize: bool = True) -> Tensor:
        tokens = self._tokenizer(list(captions)).to(self.device)
        with self._autocast():
            features = torch.cat([self._network.encode_text(t) for t in tokens.split(_TEXT_CHUNK)])
        return F.normalize(features.float(), dim=-1) if normalize else features.float()

    def scorer(self, captions: Sequence[str], distance: str = "cosine") -> Scorer:
        unit = distance != "l2_unnormalized"
        distinct = list(dict.fromkeys(captions))
        with torch.no_grad():
            encoded = self.encode_text(distinct, normalize=unit)
        texts = encoded[[distinct.index(caption) for caption in captions]]

        def score(images: Tensor) -> Tensor:
            features = self.encode_image(images, normalize=unit)
            if distance == "cosine":
                return (features * texts).sum(-1)
            return -(features - texts).norm(dim=-1)

        return score

    def score(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        return self.scorer(captions)(images)

    def towers(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        named = dict(self._network.named_parameters())
        visual = {name: p for name, p in named.items() if name.startswith("visual.")}
        logits = ("logit_scale", "logit_bias")
        return {
            "visual": visual,
            "visual_projection": {n: p for n, p in visual.items() if n in _PROJECTIONS},
            "text": {n: p for n, p in named.items() if n not in visual and n not in logits},
        }

    def count_tokens(self, caption: str) -> int:
        if isinstance(self._tokenizer, open_clip.SimpleTokenizer):
            return len(self._tokenizer.encode(caption)) + 2
        return len(self._tokenizer.tokenizer(caption).input_ids)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self._architecture, sort_keys=True).encode())
        digest.update(repr((self._preprocess, self._precision)).encode())
        for name, tensor in sorted(self._network.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.detach().cpu().contiguous() for k, v in self._network.state_dict().items()}
        save_file(state, folder / "open_clip_model.safetensors")
        if hasattr(self._tokenizer, "save_pretrained"):
            self._tokenizer.save_pretrained(folder)
        kept = ("mean", "std", "interpolation", "resize_mode")
        config = {"model_cfg": self._architecture,
                  "preprocess_cfg": {key: getattr(self._preprocess, key) for key in kept}}
        path = folder / "open_clip_config.json"
        path.write_text(json.dumps(config, indent=2), encoding="utf-8")

    def _autocast(self) -> AbstractContextManager:
        enabled = self._precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


_PROJECTIONS = {"visual.proj", "visual.head.proj.weight", "visual.head.weight",
                "visual.attnpool.c_proj.weight", "visual.attnpool.c_proj.bias"}


def _to_tensor(preprocess: PreprocessCfg) -> Callable[[Image.Image], Tensor]:
    """open_clip's own evaluation transform, less its last step: normalisation."""
    transform = image_transform_v2(preprocess, is_train=False)
    transform.transforms = [t for t in transform.transforms if not isinstance(t, Normalize)]
    return transform


def _check_local_dir(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError("model.name", f"no such folder: {folder}",
                        "give local-dir:FOLDER with open_clip_config.json and weights")
    if not (folder / "open_clip_config.json").is_file():
        raise UserError("model.name", f"{folder} has no open_clip_config.json",
                        "give a folder in open_clip's local-dir format")
    if not any(path.suffix in _SUFFIXES for path in folder.iterdir()):
        raise UserError("model.name", f"{folder} holds no weights",
                        "put open_clip_model.safetensors beside open_clip_config.json")


def _is_download_error(error: BaseException | None) -> bool:
    words = ("download", "connect", "offline", "locate the file", "hf hub", "resolve", "timed out")
    while error is not None:
        if any(word in str(error).lower() for word in words):
            return True
        error = error.__cause__ or error.__context__
    return False


def _source(spec: OpenClip) -> str:
    if spec.name.startswith(HF_HUB_PREFIX):
        return "hub repository " + spec.name.removeprefix(HF_HUB_PREFIX)
    config = open_clip.get_pretrained_cfg(spec.name, spec.pretrained or "")
    return "its source " + str(config.get("hf_hub") or config.get("url") or "")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
