"""Measure what the design's short cuts save, each against going without, side by side.

    python scripts/benchmark_speed.py

Prints seconds and ratios; interleaved repeats and the fastest of each, as machines are noisy.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from kt_exp.concepts import load_concepts
from kt_exp.config import Config, conf_folder, parse, register_schema
from kt_exp.inversion.stage import invert_captions
from kt_exp.models.factory import load_model, pick_device
from kt_exp.pipeline import Findings, prepare, run
from kt_exp.report.progress import progress
from kt_exp.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="config overrides, as for kt-exp")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        register_schema()
        with initialize_config_dir(conf_folder(), version_base="1.3"):
            config = parse(compose("config", [*arguments.overrides, f"store.root={folder}/store"]))
        compare("inversion of all concepts", arguments.repeats, {
            "one batch": lambda: invert(config, together=True),
            "concept by concept": lambda: invert(config, together=False),
        })
        compare("gradient to the pixels", arguments.repeats, {
            "weights frozen": lambda: pixel_gradients(config, frozen=True),
            "weights not frozen": lambda: pixel_gradients(config, frozen=False),
        })
        compare("whole run, models loaded", 1, {
            "from the store": lambda: whole_run(config),
            "first time": lambda: whole_run(config),
        }, order=("first time", "from the store"))


def compare(what: str, repeats: int, ways: dict[str, Callable[[], None]],
            order: tuple[str, ...] = ()) -> None:
    """Print the fastest of `repeats` of each way; the ways take turns."""
    fastest = dict.fromkeys(ways, float("inf"))
    for _ in range(repeats):
        for name in order or ways:
            start = time.perf_counter()
            ways[name]()
            fastest[name] = min(fastest[name], time.perf_counter() - start)
    (first, quick), (second, slow) = fastest.items()
    print(f"{what}: {first} {quick:.2f} s, {second} {slow:.2f} s, ratio {slow / quick:.2f}")


def invert(config: Config, together: bool) -> None:
    """Invert all concepts into an empty store, in one call or in one call for each."""
    model = load_model(config.model, pick_device(config.device), config.precision)
    captions = {f"{i}": c.description for i, c in enumerate(load_concepts(config.concepts))}
    parts = [captions] if together else [{key: text} for key, text in captions.items()]
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            invert_captions(model, part, config.inversion, config.seed, Store(Path(folder)),
                            progress)


def pixel_gradients(config: Config, frozen: bool) -> None:
    """Ten forward and backward passes of ten images, with or without gradients for the weights."""
    model = load_model(config.model, pick_device(config.device), config.precision)
    model.module.requires_grad_(not frozen)
    images = torch.rand(10, 3, model.image_size, model.image_size, requires_grad=True)
    scorer = model.scorer(["a photo"] * 10)
    for _ in range(10):
        scorer(images).sum().backward()


def whole_run(config: Config) -> None:
    """Run all stages through the config's store."""
    for _ in run(prepare(config, progress), Findings.empty(), progress):
        pass


if __name__ == "__main__":
    main()
