"""Image captioning on captioned images (`benchmark=mscoco_captioning`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

from kt_exp.benchmarks.captioning.evaluator import CaptioningEvaluator
from kt_exp.benchmarks.captioning.metrics import CaptionMetrics, find_metrics
from kt_exp.benchmarks.protocol import Evaluator
from kt_exp.concepts import Concept
from kt_exp.config.checks import choice, number
from kt_exp.data.captioned import CaptionedImages, read_captioned
from kt_exp.errors import UserError
from kt_exp.models.protocol import Captioner, GenerationSettings, Model
from kt_exp.progress import Progress
from kt_exp.store import Store
from kt_exp.unicode import user_path


@dataclass(kw_only=True)
class CaptioningBenchmark:
    """Scores a model's caption of each image against reference captions.

    There are no known classes: it measures how learning the new concepts changes the captions of
    all images (supplementary Tab. 6).
    """

    captions: str
    image_root: str
    split: str
    generation: GenerationSettings
    spice: str = choice("auto", "off")
    batch_size: int = number(minimum=1, maximum=100_000)
    workers: int = number(minimum=0, maximum=1024)
    on_bad_image: str = choice("error", "skip")

    def problems(self) -> Iterator[tuple[str, str, str]]:
        least, most = self.generation.min_tokens, self.generation.max_tokens
        if least > most:
            yield ("generation.min_tokens", f"{least} is more than max_tokens, {most}",
                   "lower it, or raise max_tokens")

    def check_concepts(self, concepts: Sequence[Concept]) -> None:
        """Check that the metrics can run, and that the captions and their images can be read.

        Raises:
            UserError: as `find_metrics` and `read_captioned`.
        """
        _ = self.metrics, self.images

    def known_prompts(self) -> list[list[str]]:
        """Return an empty list: there are no classes."""
        return []

    def examples(self, concept: Concept, most: int) -> list[Image.Image]:
        """Return an empty list: no image is labelled with a concept."""
        return []

    def evaluator(self, model: Model, fingerprint: str, store: Store,
                  progress: Progress) -> Evaluator:
        """Return the evaluator, which generates and scores captions.

        Raises:
            UserError: the model is no captioner, or its captions cannot be as long as
                `generation.max_tokens`.
        """
        if not isinstance(model, Captioner):
            raise UserError("model", f"{type(model).__name__} writes no captions",
                            "choose a captioner: model=coca or model=coca_mscoco")
        if self.generation.max_tokens > model.max_text_tokens:
            raise UserError("benchmark.generation.max_tokens",
                            f"{self.generation.max_tokens} is more than the model's "
                            f"{model.max_text_tokens}", "lower it")
        return CaptioningEvaluator(model, fingerprint, self.images, self.metrics, self, store,
                                   progress)

    @cached_property
    def images(self) -> CaptionedImages:
        """The images of the split, each with all its captions."""
        captions, root = user_path(self.captions), user_path(self.image_root)
        return read_captioned(captions, root, self.split, "benchmark.captions")

    @cached_property
    def metrics(self) -> CaptionMetrics:
        """The metrics that can be computed on this machine."""
        return find_metrics(self.spice)
