"""A pair matcher and a task of a user's own, as small as can be: named by `_target_`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms.functional import to_tensor

from kt_exp.models.protocol import MaskedCaptions
from kt_exp.results.outcome import JOINT, ImageScore, Metric, Outcome
from kt_exp.store import signature

WIDTH, SIZE = 8, 8


@dataclass
class Matcher:
    seed: int

    def load(self, device, precision):
        torch.manual_seed(self.seed)
        return MatcherModel(device)


class MatcherModel:
    """Sees the mean colour of an image and the letters of a caption."""

    image_size, max_text_tokens = SIZE, 400

    def __init__(self, device):
        self.device = device
        self.module = nn.ModuleDict({
            "visual": nn.Linear(3, WIDTH), "text": nn.Embedding(128, WIDTH),
            "match": nn.Linear(WIDTH, 2), "words": nn.Linear(WIDTH, 128),
        }).eval().requires_grad_(False)

    def scorer(self, captions, distance="match"):
        return lambda images: F.log_softmax(self.match(images, captions), dim=1)[:, 1]

    def score(self, images, captions):
        return self.scorer(captions)(images)

    def match(self, images, captions):
        return self.module["match"](self._joined(images, _letters(captions)))

    def mask_words(self, captions, probability, generator):
        ids = _letters(captions)
        masked = torch.rand(ids.shape, generator=generator) < probability
        masked[:, 0] = True
        return MaskedCaptions(ids.masked_fill(masked, 0), torch.ones_like(ids),
                              ids.masked_fill(~masked, -100))

    def masked_lm_loss(self, images, masked):
        logits = self.module["words"](self._joined(images, masked.ids))
        return F.cross_entropy(logits, masked.labels[:, 0])

    def embed_images(self, images): ...

    def embed_captions(self, captions): ...

    def match_block(self, images, captions): ...

    def towers(self):
        named = dict(self.module.named_parameters())
        return {"visual": {n: p for n, p in named.items() if n.startswith("visual.")},
                "visual_projection": {}, "text": {"text.weight": named["text.weight"]}}

    def count_tokens(self, caption):
        return len(caption)

    def to_tensor(self, image):
        return to_tensor(image.convert("RGB").resize((SIZE, SIZE)))

    def fingerprint(self):
        return signature([p.tolist() for p in self.module.state_dict().values()])

    def export(self, folder):
        folder.mkdir(parents=True)
        save_file(self.module.state_dict(), folder / "model.safetensors")

    def _joined(self, images, ids):
        return torch.tanh(self.module["visual"](images.mean(dim=(2, 3)))) \
            * self.module["text"](ids).mean(dim=1)


def _letters(captions: Sequence[str]) -> torch.Tensor:
    return torch.tensor([[ord(letter) % 128 for letter in f"{caption:<400}"]
                         for caption in captions])


@dataclass
class Shades:
    """How well a concept's name goes with a red image: a task without known classes."""

    known: list[str]

    def check_concepts(self, concepts): ...

    def known_prompts(self):
        return [[f"a photo of {name}"] for name in self.known]

    def examples(self, concept, most):
        return [Image.new("RGB", (SIZE, SIZE), "red")][:most]

    def evaluator(self, model, fingerprint, store, progress):
        return ShadesEvaluator(model)


@dataclass
class ShadesEvaluator:
    model: MatcherModel
    reused: int = 0

    def untrained(self, group):
        return [self._measured("baseline", group)]

    def transferred(self, group, weights):
        with weights.applied(self.model):
            return [self._measured("transferred", group)]

    def panels(self, outcomes: Sequence[Outcome], folder: Path):
        Image.new("RGB", (300, 100), "red").save(folder / "shades.png")
        return {"All shades of red": "shades.png"}

    def _measured(self, phase, group):
        name = JOINT if len(group) > 1 else group[0].name
        red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(len(group), 3, SIZE, SIZE)
        odds = self.model.score(red, [concept.name for concept in group]).exp()
        return Outcome([Metric(phase, name, "all", "METEOR", float(odds.mean()), None, 1)],
                       per_image=[ImageScore(phase, name, "red.png", "METEOR", float(value),
                                             concept.name)
                                  for value, concept in zip(odds, group, strict=True)],
                       notes=["red is the only shade"])
