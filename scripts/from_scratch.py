"""Train a small classifier from scratch on inverted images; test it on real drawings.

    python scripts/from_scratch.py
    python scripts/from_scratch.py --seeds 0 --epochs 2 inversion.steps=5 model=pictoclip_small

Can inverted images train another model from scratch? (Supplementary B.4, Q2.) Of each of the 35
known classes of the pictogram world, images are inverted from its first prompt. A convolutional
network that has seen nothing else learns the classes from them, from noise, or from as many real
drawings. Words with "=" are config overrides, as for kt-exp. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, RandomAffine

import kt_exp
from kt_exp.finetune.images import TrainingImages
from kt_exp.models.factory import load_model, pick_device
from kt_exp.pictograms.drawings import KNOWN, draw_class
from kt_exp.progress import progress
from kt_exp.results.intervals import Gain, bootstrap_gain
from kt_exp.schema import Config
from kt_exp.store import Store

TRAINING = 2**33  # seeds of the drawings that are trained on, above those of the benchmark
BATCH, LR, WEIGHT_DECAY = 35, 1e-3, 0.05
SOURCES = {"real": "real drawings", "inverted": "inverted images", "noise": "noise"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table that the command line asks for."""
    asked = _parse(arguments)
    right: dict[str, list[np.ndarray]] = {source: [] for source in asked.sources}
    for seed in asked.seeds:
        config = kt_exp.compose(["inversion=fast", "finetune=pictograms", f"seed={seed}",
                                 *asked.overrides])
        tested, labels = drawings(config.benchmark.images_per_known_class, config.benchmark.seed)
        for source in asked.sources:
            images = training_images(source, config, asked.per_class)
            network = train(images, asked.epochs, seed, f"{SOURCES[source]}, seed {seed}")
            right[source].append(predict(network, tested).eq(labels).numpy())
    print(f"| trained on {asked.per_class} images a class | accuracy on {len(labels)} drawings | "
          "seeds |\n|---|---|---|")
    for source, rows in right.items():
        print(f"| {SOURCES[source]} | {_shown(interval(np.stack(rows)))} | {len(rows)} |")
    print(f"| *chance* | {100 / len(KNOWN):.1f} % | |")


def training_images(source: str, config: Config, per_class: int) -> Tensor:
    """Return `(C · per_class, 3, 64, 64)` in [0, 1], class after class: inverted, noise or real."""
    if source == "real":
        return drawings(per_class, TRAINING + config.seed)[0]
    if source == "noise":
        generator = torch.Generator().manual_seed(config.seed)
        return torch.rand(len(KNOWN) * per_class, 3, 64, 64, generator=generator)
    model = load_model(config.model, pick_device(config.device), config.precision)
    config.finetune.rehearsal_per_class = per_class
    images = TrainingImages(model, model, model.fingerprint(), config.finetune, config.inversion,
                            config.seed)
    store = Store(Path(config.store.root), config.store.pixels_gib * 2**30)
    prompts = [own[0] for own in config.benchmark.known_prompts()[:len(KNOWN)]]
    return images.rehearsal(prompts, store, progress).clamp(0, 1).cpu()


def drawings(per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return drawings of the known classes, `(N, 3, 64, 64)` in [0, 1], and their labels `(N,)`."""
    drawn = np.concatenate([draw_class(name, per_class, seed) for name in KNOWN])
    return (torch.from_numpy(drawn).permute(0, 3, 1, 2) / 255,
            torch.arange(len(KNOWN)).repeat_interleave(per_class))


def train(images: Tensor, epochs: int, seed: int, description: str) -> nn.Module:
    """Return a network trained from scratch on images of all classes, equally many of each."""
    torch.manual_seed(seed)
    labels = torch.arange(len(KNOWN)).repeat_interleave(len(images) // len(KNOWN))
    network = make_network(len(KNOWN))
    view = RandomAffine(20, (0.1, 0.1), (0.8, 1.2), interpolation=InterpolationMode.BILINEAR,
                        fill=0.5)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with progress(f"Training on {description}", steps) as bar:
        for _ in range(epochs):
            for rows in torch.randperm(len(images)).split(BATCH):
                views = torch.stack([view(image) for image in images[rows]])
                loss = F.cross_entropy(network(views), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.advance(1, loss=loss.item())
    return network.eval()


def make_network(classes: int) -> nn.Module:
    """Return four strided convolutions and a linear layer: 3 × 64 × 64 → logits `(B, classes)`."""
    widths = (3, 32, 64, 128, 256)
    blocks = [nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b),
                            nn.ReLU()) for a, b in pairwise(widths)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(widths[-1], classes))


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Return the class of each image `(N,)`."""
    return torch.cat([network(part).argmax(1) for part in images.split(256)])


def interval(right: np.ndarray) -> Gain:
    """Return the mean of `right` `(seeds, images)` with its 95 % bootstrap interval over both."""
    def resample(generator: np.random.Generator) -> np.ndarray:
        drawn = generator.integers(right.shape[1], size=right.shape[1])
        return right[:, drawn].mean(axis=1, keepdims=True)

    return bootstrap_gain(right.mean(axis=1, keepdims=True), resample)


def _shown(found: Gain) -> str:
    return f"{100 * found.mean:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--per-class", type=int, default=10, help="images of each class")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=[*SOURCES])
    parser.add_argument("overrides", nargs="*", help="config overrides, as for kt-exp")
    return parser.parse_intermixed_args(arguments)


if __name__ == "__main__":
    main()
