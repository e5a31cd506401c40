"""Record what the published `medclip` package computes, for tests/models/test_medclip.py.

The package needs old libraries, so run this in an environment of its own:

    pip install medclip==0.0.3 transformers==4.24.0 torch torchvision
    python scripts/record_medclip.py --out tests/models/data/medclip.safetensors

Weights are not recorded: `fill` makes them from their names. The networks are the package's own,
small ones where its constructor takes a configuration (Bio_ClinicalBERT, Swin), full-size where it
does not (ResNet-50).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

TEXT, VISION = "emilyalsentzer/Bio_ClinicalBERT", "microsoft/swin-tiny-patch4-window7-224"
CAPTIONS = [
    "A photo of a house.",
    "benign nodules in the right lung, with clear margins, in a chest radiograph",
    "cardiomegaly",
    "nodules " * 90,  # beyond the limit
]
_WORDS = ("a . , of in the with right lung chest radiograph benign nodule ##s clear margin photo "
          "cardiomegaly house wheel tower dice tree boat cup key star ring")
_BERT = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 32,
         "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 48,
         "max_position_embeddings": 128}
_SWIN = {"architectures": ["SwinModel"], "model_type": "swin", "image_size": 56, "patch_size": 4,
         "window_size": 7, "embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2]}


def write_configs(folder: Path) -> None:
    """Write a small Bio_ClinicalBERT (config and vocabulary) and Swin (config) under `folder`."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS.split()]
    for name, config in ((TEXT, {**_BERT, "vocab_size": len(vocabulary)}), (VISION, _SWIN)):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))
    (folder / TEXT / "vocab.txt").write_text("\n".join(vocabulary))


def fill(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the weights that go by `name`: the same on every machine, of a sensible size."""
    if name == "logit_scale":
        return torch.tensor(1 / 0.07).log()
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) > 1:
        values = noise / np.sqrt(np.prod(shape[1:]))
    elif name.endswith(("weight", "running_var")):
        values = 1 + 0.1 * np.abs(noise)
    else:
        values = 0.1 * noise
    return torch.tensor(values, dtype=torch.float32)


def fill_state(layout: dict[str, list[int]]) -> dict[str, Tensor]:
    """Return a checkpoint of the given names and shapes, less the constants among them."""
    return {name: fill(name, tuple(shape)) for name, shape in layout.items()
            if not name.endswith(("position_ids", "relative_position_index",
                                  "num_batches_tracked"))}


def picture() -> Image.Image:
    """Return a colour picture that is neither square nor smooth."""
    pixels = np.random.RandomState(0).randint(0, 256, (13, 15, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((300, 260), Image.Resampling.BICUBIC)


def pixels(side: int) -> Tensor:
    """Return two images in [0, 1], `(2, 3, side, side)`."""
    return torch.tensor(np.random.RandomState(1).uniform(size=(2, 3, side, side)),
                        dtype=torch.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    out = parser.parse_args().out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where the names of the hub's models are folders, they are taken as such
        tensors, layouts = record(Path(folder))
    out.parent.mkdir(parents=True, exist_ok=True)
    versions = {name: importlib.import_module(name).__version__
                for name in ("torch", "torchvision", "transformers")}
    save_file(tensors, out, {"layouts": json.dumps(layouts), "versions": json.dumps(versions)})


@torch.no_grad()
def record(folder: Path) -> tuple[dict[str, Tensor], dict[str, dict[str, list[int]]]]:
    """Return the outputs, and the names and shapes of both networks' checkpoints."""
    import torchvision
    from transformers import AutoConfig, AutoModel

    write_configs(folder)
    for name in (TEXT, VISION):
        AutoModel.from_config(AutoConfig.from_pretrained(name)).save_pretrained(name)
    resnet50 = torchvision.models.resnet50
    torchvision.models.resnet50 = lambda pretrained: resnet50(weights=None)
    setattr(torch.Tensor, "cuda", lambda self: self)  # noqa: B010
    import medclip

    tensors, layouts = {}, {}
    for kind, tower in (("swin", medclip.MedCLIPVisionModelViT),
                        ("resnet", medclip.MedCLIPVisionModel)):
        model = medclip.MedCLIPModel(vision_cls=tower)
        _shrink(model)
        layouts[kind] = {name: list(t.shape) for name, t in model.state_dict().items()}
        model.load_state_dict(fill_state(layouts[kind]), strict=False)
        model.eval()
        image = (pixels(56) - medclip.constants.IMG_MEAN) / medclip.constants.IMG_STD
        tensors[f"{kind}.images"] = model.vision_model(image)
        if kind == "swin":
            tensors |= _texts(model)
            tensors["logits"] = model(**_tokens(CAPTIONS), pixel_values=image)["logits"]
    seen = medclip.dataset.MedCLIPFeatureExtractor()(picture(), return_tensors="pt")
    tensors["preprocessed"] = seen["pixel_values"][0, :, ::7, ::7]
    return {name: tensor.contiguous() for name, tensor in tensors.items()}, layouts


def _shrink(model: Any) -> None:
    """Give the small towers heads of their width: the package's take 768 features."""
    text, vision = model.text_model, model.vision_model
    text.projection_head = nn.Linear(text.model.config.hidden_size, 512, bias=False)
    if hasattr(vision, "projection_head"):
        vision.projection_head = nn.Linear(vision.model.num_features, 512, bias=False)


def _texts(model: Any) -> dict[str, Tensor]:
    together = _tokens(CAPTIONS)
    alone = [model.text_model(**_tokens([caption])) for caption in CAPTIONS]
    return {"tokens": together["input_ids"], "texts.longest": model.text_model(**together),
            "texts.alone": torch.cat(alone)}


def _tokens(captions: list[str]) -> dict[str, Tensor]:
    from medclip.prompts import process_class_prompts

    encoded = process_class_prompts({"all": captions})["all"]
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


if __name__ == "__main__":
    main()
