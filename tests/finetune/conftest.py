"""Tiny models with random weights, two CLIPs, a pair matcher and a captioner, and settings."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kt_exp.finetune.settings import EditSettings, FinetuneSettings, LoraSettings
from kt_exp.models.clip import OpenClipModel, OpenClipViT
from kt_exp.models.protocol import EmbeddedCaptions, MaskedCaptions

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VISION = {
    "vit": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 4},
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
}
SETTINGS = {
    "strategy": "visual", "scope": "each", "images": "inverted",
    "images_as": "tensor", "folder": None, "captions": "named", "article": "fitted",
    "templates": ["a photo of a {}."], "loss": "ntxent", "encode_captions": "once",
    "temperature": 0.07,
    "contrastive_weight": 1.0, "caption_weight": 0.0, "caption_targets": [],
    "itm_negatives": "concepts", "itm_negatives_per_image": 1, "mask_probability": 0.15,
    "maskings": 10,
    "distillation": 0.0, "distillation_over": "sum", "rehearsal": 0.0,
    "rehearsal_per_class": 1, "rehearsal_batch": 2,
    "lora": LoraSettings(rank=0, alpha=16.0, targets=["*"]), "null_space": 0.0,
    "interpolation": 1.0,
    "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "betas": [0.9, 0.98], "eps": 1e-6,
    "batch_size": 4, "epochs": 1, "mode": "eval",
    "start": "pretrained",
    "edit": EditSettings(target="description", strength=1.0, budget=0.005, least=1.0, most=3.0,
                         ridge=0.001, others=None, others_weight=0.1, protected=[]),
    "calibration": "none", "budget": 0.01, "save_models": False,
}


def build(kind, of):
    architecture = {"embed_dim": 16, "vision_cfg": VISION[kind], "text_cfg": TEXT}
    torch.manual_seed(0)
    return of(open_clip.CLIP(**architecture), open_clip.SimpleTokenizer(context_length=16),
              architecture, torch.device("cpu"))


@pytest.fixture(scope="session")
def vit():
    return build("vit", OpenClipViT)


@pytest.fixture(scope="session")
def resnet():
    return build("resnet", OpenClipModel)


@pytest.fixture
def settings():
    """Makes settings: the ones above, with the changes that a test names."""
    return lambda **changes: FinetuneSettings(**{**SETTINGS, **changes})


@pytest.fixture
def matcher():
    return Matcher()


@pytest.fixture
def captioner():
    return Captioner()


MASK = 1
VOCABULARY = ["<pad>", "<mask>", "a", "is", "tower", "tall", "house", "dish", "round", "plate",
              "red", "blue", "photo", "of"]


def word_ids(captions):
    """Return the ids of words that are in the vocabulary, `(B, L)`, and which are real."""
    rows = [[VOCABULARY.index(word) for word in caption.lower().strip(".").split()
             if word in VOCABULARY] for caption in captions]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return ids, (ids > 0).long()


class Network(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.visual = nn.Linear(3, width)
        self.words = nn.Embedding(len(VOCABULARY), width)
        self.head = nn.Linear(width, 2)
        self.decoder = nn.Linear(width, len(VOCABULARY))

    def forward(self, images, ids, mask):
        seen = torch.tanh(self.visual(images.mean(dim=(2, 3))))
        said = (self.words(ids) * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return seen * torch.tanh(said)


class Base:
    device, image_size, max_text_tokens = torch.device("cpu"), 4, 40

    def __init__(self):
        torch.manual_seed(0)
        self.module = Network().eval().requires_grad_(False)

    def score(self, images, captions):
        return self.scorer(captions)(images)

    def towers(self):
        def named(*parts):
            return {name: p for name, p in self.module.named_parameters()
                    if name.split(".")[0] in parts}

        return {"visual": named("visual"), "visual_projection": {}, "text": named("words"),
                "decoder": named("decoder"), "heads": named("head")}

    def count_tokens(self, caption):
        return len(caption.split())

    def to_tensor(self, image):
        raise NotImplementedError

    def fingerprint(self):
        return str({name: t.tolist() for name, t in self.module.state_dict().items()})

    def export(self, folder):
        raise NotImplementedError


class Matcher(Base):
    """A `PairMatcher` of the mean colour of an image and the words of a caption."""

    def scorer(self, captions, distance="match"):
        return lambda images: F.log_softmax(self.match(images, captions), dim=1)[:, 1]

    def match(self, images, captions):
        return self.module.head(self.module(images, *word_ids(captions)))

    def embed_images(self, images):
        raise NotImplementedError

    def embed_captions(self, captions):
        return EmbeddedCaptions(*word_ids(captions))

    def match_block(self, images, captions):
        raise NotImplementedError

    def mask_words(self, captions, probability, generator):
        ids, mask = word_ids(captions)
        chosen = (torch.rand(ids.shape, generator=generator) < probability) & (mask > 0)
        chosen[:, 0] |= ~chosen.any(dim=1)
        return MaskedCaptions(ids.masked_fill(chosen, MASK), mask, ids.masked_fill(~chosen, -100))

    def masked_lm_loss(self, images, masked):
        logits = self.module.decoder(self.module(images, masked.ids, masked.mask))
        every = logits[:, None].expand(-1, masked.labels.shape[1], -1)
        return F.cross_entropy(every.flatten(0, 1), masked.labels.flatten())


class Captioner(Base):
    """A `Captioner` whose embeddings are mean colours and mean words."""

    logit_scale = torch.tensor(10.0)

    def __init__(self):
        super().__init__()
        self.heard = []

    def scorer(self, captions, distance="cosine"):
        texts = self.encode_text(captions)
        return lambda images: (self.encode_image(images) * texts).sum(-1)

    def encode_image(self, images, normalize=True):
        return F.normalize(torch.tanh(self.module.visual(images.mean(dim=(2, 3)))), dim=-1)

    def encode_text(self, captions, normalize=True):
        ids, mask = word_ids(captions)
        return F.normalize((self.module.words(ids) * mask[..., None]).sum(dim=1), dim=-1)

    def caption_loss(self, images, captions):
        self.heard += captions
        ids, _ = word_ids(captions)
        return F.cross_entropy(self.module.decoder(self.encode_image(images)), ids[:, -1])

    def generate(self, images, settings):
        raise NotImplementedError
