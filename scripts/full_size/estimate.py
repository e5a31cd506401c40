"""An estimate of what a whole sweep costs: operations, and hours on a GPU at an assumed rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from full_size import counts, sweeps
from kt_exp.benchmarks.segmentation.settings import M2IBSettings
from kt_exp.concepts import load_concepts
from kt_exp.data.imagenet import templates
from kt_exp.finetune.settings import EDIT
from kt_exp.finetune.strategies import TRAINS_TEXT
from kt_exp.schema import Config, parse_sections

# Peak of dense products of an H100 SXM, operations per second (its data sheet), and the share of it
# that is assumed to be reached.
PEAKS = {"fp32": 67e12, "bf16": 989e12}
SHARE = 0.4
# Published sizes of the sets. Classification: known images, prompts of a template, images of a
# concept that is no class; "jsrt" has 154 of two concepts.
CLASSIFIED = {"rare_imagenet": (50_000, 1000, 10), "folders": (5_000, 100, 10),
              "chexpert": (1_000, 5, 0), "chexpert_medclip": (1_000, 489, 0),
              "jsrt": (1_000, 489, 77)}
CAPTIONS = {"flickr30k": (1_000, 5_000), "mscoco_captioning": (5_000, 0)}
SEGMENTED = {"unitochest": 4_179, "siim_pneumothorax": 500, "udiat": 163, "brats": 14_746}


class Part(NamedTuple):
    """Work that jobs share if its key is the same: a stage, and floating-point operations."""

    key: str
    stage: str
    flops: float


@dataclass(frozen=True)
class Job:
    """What decides the cost of a job: options of `model` and `benchmark`, and the config."""

    overrides: tuple[str, ...]
    model: str
    benchmark: str
    config: Config
    evaluation: Any  # the section `benchmark`


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of a sweep by stage; what jobs share is counted once."""

    jobs: int
    inversion: float
    finetuning: float
    evaluation: float

    @property
    def total(self) -> float:
        return self.inversion + self.finetuning + self.evaluation

    def hours(self, precision: str) -> float:
        """Return the hours at the assumed rate of `fp32` or `bf16`."""
        return self.total / (PEAKS[precision] * SHARE) / 3600


def cost_of(experiment: str) -> Cost:
    """Return the cost of an experiment's whole sweep."""
    jobs = sweeps.jobs(experiment)
    return added(len(jobs), [part for job in jobs for part in parts(read_job(job))])


def added(jobs: int, work: Sequence[Part]) -> Cost:
    """Return the sum by stage, with parts of one key counted once."""
    once = {part.key: part for part in work}.values()
    return Cost(jobs, *(sum(part.flops for part in once if part.stage == stage)
                        for stage in ("inversion", "finetune", "evaluation")))


def read_job(overrides: Sequence[str]) -> Job:
    """Return the job with these overrides."""
    config = sweeps.plain(overrides)
    return Job(tuple(overrides), sweeps.option(overrides, "model"),
               sweeps.option(overrides, "benchmark"), parse_sections(config), config.benchmark)


def parts(job: Job) -> Iterator[Part]:
    """Yield the work of a job."""
    config, finetune = job.config, job.config.finetune
    concepts = [concept.description for concept in load_concepts(config.concepts)]
    trains = finetune.strategy != EDIT
    if trains and finetune.images == "inverted":
        settings = repr(sorted(asdict(config.inversion).items()))
        for description in concepts:
            yield Part(repr([job.model, description, settings, config.seed]), "inversion",
                       config.inversion.images * config.inversion.steps
                       * counts.step(job.model, config.inversion))
    before = [job.model, job.benchmark]
    yield Part(repr(before), "evaluation",
               _evaluation(job, len(concepts), images=True, texts=False))
    yield Part(repr([*before, *(job.evaluation.get(key) for key in ("names", "templates"))]),
               "evaluation", _evaluation(job, len(concepts), images=False, texts=True))
    if not trains:
        return  # the edit is of the last map alone: what lies below is kept
    groups = [len(concepts)] if finetune.scope == "joint" else [1] * len(concepts)
    for number, size in enumerate(groups):
        yield Part(repr([job.overrides, number]), "finetune",
                   config.inversion.images * size * finetune.epochs
                   * counts.training_step(job.model, finetune))
        yield Part(repr([job.overrides, number, "after"]), "evaluation",
                   _evaluation(job, size, images=finetune.strategy != "text",
                               texts=finetune.strategy in TRAINS_TEXT))


def _evaluation(job: Job, concepts: int, images: bool, texts: bool) -> float:
    """Return the operations of evaluating one set of weights.

    Args:
        images: whether the images are embedded anew, or all that is not an embedding is done.
        texts: whether the prompts of the known classes are embedded anew.
    """
    if job.benchmark in SEGMENTED:
        return images * _segmentation(job)
    if job.benchmark in CAPTIONS:
        pictures, captions = CAPTIONS[job.benchmark]
        if captions:
            return images * pictures * captions * counts.pair(job.model)
        how = job.evaluation.generation
        return images * pictures * counts.caption(job.model, how.beams, how.max_tokens)
    known, _, targets = CLASSIFIED[job.benchmark]
    pictures, prompts = known + concepts * targets, _prompts(job)
    if job.model == "vilt":
        return images * pictures * (prompts + concepts) * counts.pair(job.model)
    return images * pictures * counts.image(job.model) + texts * prompts * counts.text(job.model)


def _prompts(job: Job) -> int:
    """Return how many prompts the known classes have."""
    if job.benchmark not in CLASSIFIED:
        return 0
    _, prompts, _ = CLASSIFIED[job.benchmark]
    if job.benchmark == "rare_imagenet":
        return prompts * len(templates(job.evaluation.templates))
    return prompts


def _segmentation(job: Job) -> float:
    evaluation = job.evaluation
    grid = evaluation.tune
    candidates = len(grid.layers) * len(grid.betas) * len(grid.variances)
    images = SEGMENTED[job.benchmark]
    a_map = counts.saliency_map(job.model, M2IBSettings(**evaluation.m2ib))
    return images * (a_map + counts.mask()) + evaluation.tune_on * candidates * a_map
