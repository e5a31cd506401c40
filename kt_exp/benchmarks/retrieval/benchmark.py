"""Image–text retrieval on captioned images (`benchmark=flickr30k`, `benchmark=mscoco`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

from kt_exp.benchmarks.protocol import Evaluator
from kt_exp.benchmarks.retrieval.evaluator import RetrievalEvaluator
from kt_exp.concepts import Concept
from kt_exp.config.checks import choice, number
from kt_exp.data.captioned import CaptionedImages, read_captioned
from kt_exp.errors import UserError
from kt_exp.models.protocol import DualEncoder, Model, PairMatcher
from kt_exp.progress import Progress
from kt_exp.store import Store
from kt_exp.unicode import user_path


@dataclass(kw_only=True)
class RetrievalBenchmark:
    """Finds an image's captions among all captions, and a caption's image among all images.

    There are no known classes: it measures how learning the new concepts changes retrieval
    (supplementary Tab. 5).
    """

    captions: str
    image_root: str
    split: str
    captions_per_image: int = number(minimum=0)
    ks: list[int] = number(minimum=1)
    batch_size: int = number(minimum=1, maximum=100_000)
    workers: int = number(minimum=0, maximum=1024)
    on_bad_image: str = choice("error", "skip")

    def problems(self) -> Iterator[tuple[str, str, str]]:
        if not self.ks:
            yield "ks", "empty", "give the numbers K of R@K, as [1,5,10]"

    def check_concepts(self, concepts: Sequence[Concept]) -> None:
        """Check that the captions and their images can be read, for any concepts.

        Raises:
            UserError: as `read_captioned`, or there is only one image.
        """
        if len(self.images) < 2:
            raise UserError("benchmark.captions", f"'{self.images.names[0]}' is the only image of "
                            f"the split '{self.split}'", "give at least two")

    def known_prompts(self) -> list[list[str]]:
        """Return an empty list: there are no classes."""
        return []

    def examples(self, concept: Concept, most: int) -> list[Image.Image]:
        """Return an empty list: no image is labelled with a concept."""
        return []

    def evaluator(self, model: Model, fingerprint: str, store: Store,
                  progress: Progress) -> Evaluator:
        """Return the evaluator by embeddings (dual encoders) or by pairs (pair matchers).

        Raises:
            UserError: the model is neither.
        """
        if not isinstance(model, (DualEncoder, PairMatcher)):
            raise UserError("model", f"{type(model).__name__} cannot retrieve images or captions",
                            "choose a dual encoder such as CLIP, or a pair matcher such as ViLT")
        return RetrievalEvaluator(model, fingerprint, self.images, self, store, progress)

    @cached_property
    def images(self) -> CaptionedImages:
        """The images of the split, each with at most `captions_per_image` captions."""
        captions, root = user_path(self.captions), user_path(self.image_root)
        images = read_captioned(captions, root, self.split, "benchmark.captions")
        return images.at_most(self.captions_per_image)
