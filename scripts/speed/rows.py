"""The rows of the table; those of inversion are beside this file."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from benchmark_sweep import RATES
from benchmark_sweep import run as run_command
from torch import Tensor

from kt_exp.benchmarks import pixels
from kt_exp.benchmarks.embedding import embed_images, image_batches
from kt_exp.benchmarks.pairs import score_pairs
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.caches import Caches
from kt_exp.concepts import load_concepts
from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.finetune.objectives import objective
from kt_exp.finetune.plan import plan_training
from kt_exp.finetune.strategies import trained_parameters
from kt_exp.models.protocol import DualEncoder, Model
from kt_exp.pipeline import Experiment
from kt_exp.store import Store
from speed.common import CAPTION, PRODUCTS, Bench, Loaded, noise, products_of
from speed.editing import editing
from speed.images import CountedImages, NoisePictures
from speed.inversion import inversion, memory
from speed.measure import Clock, Row, alternate, count_flops, rate_row
from speed.models import load_vilt

FORWARD = "bare forward"


def finetune(bench: Bench) -> Iterator[Row]:
    """Steps of fine-tuning per second, against forward and backward of the trained tower alone."""
    model, settings = bench.model, bench.config.finetune
    concept = load_concepts(bench.config.concepts)[:1]
    plan = plan_training(concept, [bench.images], settings, bench.config.benchmark.known_prompts(),
                         0)
    pictures, rehearsed = noise(bench, bench.images), noise(bench, len(plan.rehearsed))
    with _training(model, settings.strategy):
        loss_of = objective(model, pictures, rehearsed, plan, settings, FeatureCache())
        batch = plan.batches[0]
        together = len(batch.images) + len(batch.rehearsal)
        seen = torch.cat([pictures, rehearsed])[:together]
        taken = alternate(bench.clock, bench.repeats, {
            "ours": lambda: [loss_of(batch).backward() for _ in range(3)],
            "plain": lambda: [model.encode_image(seen).sum().backward() for _ in range(3)],
        })
    yield rate_row(f"fine-tuning, {settings.strategy}", "steps/s", 3, taken, "ours", "plain",
                   f"the whole tower forth and back, {together} images")


def evaluation(bench: Bench) -> Iterator[Row]:
    """Images per second of a second evaluation, against the bare forward on the same tensors."""
    model, benchmark = bench.model, bench.config.benchmark
    images = benchmark.known_images()
    batches = [batch.pixels for batch in image_batches(model, images, benchmark,
                                                       benchmark.batch_size)]

    @torch.no_grad()
    def forward() -> None:
        for batch in batches:
            model.encode_image(batch)

    products = products_of(bench)
    taken = alternate(bench.clock, bench.repeats, {
        "ours": lambda: embed_images(model, images, benchmark, _silent, ""), "plain": forward,
        PRODUCTS: products.way})
    yield rate_row("evaluation, images once decoded", "images/s", len(images), taken, "ours",
                   "plain", f"{FORWARD}; {PRODUCTS}",
                   products.floor(count_flops(forward), taken[PRODUCTS]))


def again(bench: Bench) -> Iterator[Row]:
    """Seconds of the first and of the second evaluation of the same images by weights that are
    trained, and of one by another process with the same store; the same of seeing the images
    alone, without the network. Each says how many of the images are opened for it."""
    for what, seen in (("evaluation", _embed), ("loading", _load)):
        pixels.forget()
        with tempfile.TemporaryDirectory() as folder, \
                ProcessPoolExecutor(1, get_context("spawn")) as other:
            threads = torch.get_num_threads()
            images = len(bench.config.benchmark.known_images())
            for time, (seconds, opened) in (
                    ("first", _seconds(bench, seen, folder, threads)),
                    ("second", _seconds(bench, seen, folder, threads)),
                    ("another process's", other.submit(_seconds, bench, seen, folder,
                                                       threads).result())):
                yield Row(f"{time} {what} of {images} images", "s", seconds,
                          against=f"{opened} images opened")


def _seconds(bench: Bench, seen: Callable[[Bench, ImageSet, Store], None], folder: str,
             threads: int) -> tuple[float, int]:
    """Return the seconds of this process for seeing the known images, and how many it opened."""
    torch.set_num_threads(threads)
    images = CountedImages(bench.config.benchmark.known_images())
    store = Store(Path(folder), pixel_bytes=2**40)
    return bench.clock.seconds(lambda: seen(bench, images, store)), images.opened


def _embed(bench: Bench, images: ImageSet, store: Store) -> None:
    embed_images(bench.model, images, bench.config.benchmark, _silent, "", store=store)


def _load(bench: Bench, images: ImageSet, store: Store) -> None:
    benchmark = bench.config.benchmark
    for _ in image_batches(bench.model, images, benchmark, benchmark.batch_size, store=store):
        pass


def pairs(bench: Bench) -> Iterator[Row]:
    """Pairs per second of a ViLT-B/32 with random weights, all images with all captions, against
    its transformer alone on tokens in memory, as many pairs at once."""
    model = load_vilt(bench.model.device, bench.config.precision)
    images = NoisePictures(bench.images, model.image_size)
    captions = [f"{CAPTION} {'and a wheel ' * (i % 3)}" for i in range(bench.images)]
    batch, text = _pixels(model, images), model.embed_captions(captions)
    tokens = model.embed_images(batch)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            score_pairs(model, images, captions, bench.config.benchmark, Store(Path(folder)), "key",
                        _silent, "")

    @torch.no_grad()
    def plain() -> None:
        model.match_block(tokens, text)

    taken = alternate(bench.clock, bench.repeats, {"ours": ours, "plain": plain})
    yield rate_row("ViLT-B/32, images with captions", "pairs/s", len(images) * len(captions), taken,
                   "ours", "plain", FORWARD)


def start(bench: Bench) -> Iterator[Row]:
    """Seconds of the command line: its help, the config, the main job, and that job again."""
    with tempfile.TemporaryDirectory() as folder:
        job = [f"store.root={folder}/store", f"hydra.run.dir={folder}/run"]
        for what, words, repeats in (("--help", ["--help"], bench.repeats),
                                     ("--cfg job", ["--cfg", "job"], bench.repeats),
                                     ("(the main job)", job, 1), ("again", job, 1)):
            yield Row(f"kt-exp {what}", "s", statistics.median(
                _command_seconds(bench.clock, words) for _ in range(repeats)))


def sweep(bench: Bench) -> Iterator[Row]:
    """Seconds of a sweep of five learning rates, against one run; each begins with no results, and
    they take turns."""
    taken: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(bench.repeats):
        for way, words in (("plain", []), ("ours", RATES)):
            with tempfile.TemporaryDirectory() as folder:
                taken[way].append(_command_seconds(bench.clock, [
                    *words, f"store.root={folder}/store", f"hydra.run.dir={folder}/run",
                    f"hydra.sweep.dir={folder}/sweep"]))
    one, five = taken["plain"], taken["ours"]
    yield Row("kt-exp -m, five learning rates", "s", statistics.median(five),
              statistics.median(one),
              statistics.median(a / b for a, b in zip(one, five, strict=True)), against="one run")


def teach(bench: Bench) -> Iterator[Row]:
    """Seconds from a description to the taught model with the model loaded, what known classes
    need already in the store, and the concept new: the first one is taught for that alone."""
    first, second = (concept.name for concept in load_concepts(bench.config.concepts)[:2])
    with tempfile.TemporaryDirectory() as folder:
        for name, way in ((first, "store empty"), (second, "known classes in the store"),
                          (second, "all in the store")):
            begun = bench.clock()
            _run_pipeline(bench, folder, name)
            yield Row(f"one concept taught and measured, {way}", "s", bench.clock() - begun)


def _run_pipeline(bench: Bench, store: str, name: str) -> None:
    config = replace(bench.config, store=replace(bench.config.store, root=store),
                     concepts=replace(bench.config.concepts, only=[name]))
    for _ in Experiment(config, _silent, Caches(Loaded(bench.model))).run():
        pass


ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "inversion": inversion, "memory": memory, "finetune": finetune, "evaluation": evaluation,
    "again": again, "pairs": pairs, "teach": teach, "closed_form": editing, "start": start,
    "sweep": sweep,
}


class _NoBar:
    def advance(self, n: int = 1, **fields: object) -> None:
        pass


@contextmanager
def _silent(description: str, total: int) -> Iterator[_NoBar]:
    yield _NoBar()


@contextmanager
def _training(model: DualEncoder, strategy: str) -> Iterator[None]:
    parameters = trained_parameters(model, strategy).values()
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        model.module.requires_grad_(False)
        for parameter in parameters:
            parameter.grad = None


def _pixels(model: Model, images: ImageSet) -> Tensor:
    pixels = torch.stack([model.to_tensor(images.open(i)) for i in range(len(images))])
    return pixels.to(model.device)


def _command_seconds(clock: Clock, words: list[str]) -> float:
    wall, cpu = run_command(words)
    return cpu if clock.of_cpu else wall
