"""Zero-shot segmentation of image–mask pairs (`benchmark=segmentation` and its presets)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from PIL import Image

from kt_exp.benchmarks.segmentation.settings import M2IBSettings, TuneSettings
from kt_exp.concepts import Concept
from kt_exp.concepts.captions import fill
from kt_exp.config.checks import choice, number
from kt_exp.errors import UserError
from kt_exp.unicode import user_path

if TYPE_CHECKING:
    from kt_exp.benchmarks.protocol import Evaluator
    from kt_exp.benchmarks.segmentation.masks import MaskedImages
    from kt_exp.models.protocol import Model, TransformerTrunk
    from kt_exp.progress import Progress
    from kt_exp.store import Store

EXTRA = ("scipy", "surface_distance")
PLACE = ("root", "images", "batch_size", "sam")  # in fingerprints, or without effect


@dataclass(kw_only=True)
class SegmentationBenchmark:
    """Images with masks of one concept, or of each concept in its own sub-folder."""

    root: str
    images: int = number(minimum=0)
    mask_threshold: int = number(minimum=0, maximum=254)
    prompt: Optional[str]
    m2ib: M2IBSettings
    tune_on: int = number(minimum=0)
    tune: TuneSettings
    components: int = number(minimum=1)
    sam: Optional[str]
    nsd: str = choice("surface2d", "medclip_samv2")
    tolerance: float = number(minimum=0)
    batch_size: int = number(minimum=1, maximum=100_000)
    on_bad_image: str = choice("error", "skip")

    def __post_init__(self) -> None:
        self.checked: list[Concept] = []

    def problems(self) -> Iterator[tuple[str, str, str]]:
        if self.prompt is not None and not self.prompt.strip():
            yield "prompt", "empty", "say what is looked for, or null for the description"
        if self.tune.root and not self.tune_on:
            yield "tune_on", "0 beside tune.root", "say how many images of it to tune on"

    def check_concepts(self, concepts: Sequence[Concept]) -> None:
        """Check that the benchmark can evaluate these concepts, before anything costly.

        Raises:
            UserError: the extra is not installed, a folder has the wrong layout, an image has no
                mask or a mask no image, or several concepts would share their masks.
        """
        if any(find_spec(package) is None for package in EXTRA):
            raise UserError("benchmark", "segmentation needs scipy and surface-distance",
                            "pip install 'kt_exp[segmentation]'")
        for concept in concepts:
            pairs = self.pairs(concept)
            if len(concepts) > 1 and pairs.root == self._root:
                raise UserError("concepts", f"{len(concepts)} concepts, but the masks in "
                                f"{self._root} are of one", "name it: concepts.only=[NAME]; or put "
                                "each concept's images/ and masks/ into a folder named like it")
            self.split(pairs)
        self.checked = list(concepts)

    def known_prompts(self) -> list[list[str]]:
        """Return an empty list: there are no classes beside the concept."""
        return []

    def examples(self, concept: Concept, most: int) -> list[Image.Image]:
        """Return the first `most` images of a concept, without unreadable ones."""
        pairs, shown = self.pairs(concept), []
        for index in range(min(most, len(pairs))):
            with suppress(UserError):
                shown.append(pairs.open(index))
        return shown

    def evaluator(self, model: Model, fingerprint: str, store: Store,
                  progress: Progress) -> Evaluator:
        """Return the evaluator of `model`, with SAM loaded.

        Raises:
            UserError: the model has no transformer layers or too few, the prompt is too long for
                it, or there is no SAM at `sam`.
        """
        from kt_exp.benchmarks.segmentation.evaluator import (
            SegmentationEvaluator,
            SegmentationTask,
        )
        from kt_exp.benchmarks.segmentation.sam import Sam
        from kt_exp.models.protocol import TransformerTrunk

        if not isinstance(model, TransformerTrunk):
            raise UserError("model", f"{type(model).__name__} cannot segment: its image encoder is "
                            "no stack of transformer layers", "choose a dual encoder with a ViT: "
                            "clip_vit_b32, clip_vit_l14, biomedclip, or one of model=open_clip")
        self._check_model(model)
        sam = Sam(str(Path(self.sam).expanduser()), model.device) if self.sam else None
        task = SegmentationTask(
            self.checked, self.pairs, self.text, self.split, self.m2ib, self.tune,
            self.components, self.nsd, self.tolerance, self.batch_size, self.on_bad_image,
            self.what_counts(), self.notes)
        return SegmentationEvaluator(model, fingerprint, task, sam, store, progress)

    def pairs(self, concept: Concept) -> MaskedImages:
        """Return the images of a concept with their masks.

        Raises:
            UserError: a folder has the wrong layout, or images and masks do not match.
        """
        from kt_exp.benchmarks.segmentation.masks import concept_folder, read_pairs

        return read_pairs(concept_folder(self._root, concept), self.mask_threshold, self.images)

    def split(self, pairs: MaskedImages) -> tuple[MaskedImages, MaskedImages]:
        """Return the images to tune M2IB on (none if it is fixed) and those to evaluate.

        Raises:
            UserError: not enough images.
        """
        from kt_exp.benchmarks.segmentation.masks import read_pairs

        if not self.tune.root:
            given, rest = pairs[: self.tune_on], pairs[self.tune_on :]
        else:
            folder = user_path(self.tune.root)
            given, rest = read_pairs(folder, self.mask_threshold, self.tune_on), pairs
        if len(given) < self.tune_on or not len(rest):
            raise UserError("benchmark.tune_on", f"{self.tune_on} images to tune on, of "
                            f"{len(given) if self.tune.root else len(pairs)}",
                            "give fewer, or more images")
        return given, rest

    def text(self, concept: Concept) -> str:
        """Return the text that M2IB looks for: the prompt or, if it is null, the description."""
        if self.prompt is None:
            return concept.description
        return fill(self.prompt, concept.name, concept.plural)

    def what_counts(self) -> dict[str, Any]:
        """Return the settings that affect a score, as plain values."""
        settings = {key: value for key, value in asdict(self).items() if key not in PLACE}
        return settings if self.tune_on else {**settings, "tune": None}

    def notes(self, m2ib: M2IBSettings, of: str) -> list[str]:
        """Return notes on how the scores `of` a concept and phase were computed with `m2ib`."""
        used = f"layer {m2ib.layer}, beta {m2ib.beta:g}, variance {m2ib.var:g}"
        given = "of another folder" if self.tune.root else "left out of the means"
        return [
            f"nsd: {self.nsd}, tolerance {self.tolerance:g} px",
            f"M2IB tuned on given masks ({self.tune_on}, {given}), so not zero-shot; {of}: {used}"
            if self.tune_on else f"M2IB fixed: {used}",
            f"masks by SAM ({self.sam}) from the coarse mask's boxes" if self.sam
            else "coarse masks (k-means), without SAM",
        ]

    @property
    def _root(self) -> Path:
        return user_path(self.root)

    def _check_model(self, model: TransformerTrunk) -> None:
        # After the last layer patches no longer affect an embedding read from the class token.
        last = len(model.trunk_layers) - 2
        key, layers = ("tune.layers", self.tune.layers) if self.tune_on \
            else ("m2ib.layer", [self.m2ib.layer])
        if max(layers) > last:
            raise UserError(f"benchmark.{key}", f"{max(layers)} is too deep for this model's "
                            f"{last + 2} layers", f"give 0 to {last}")
        tokens = model.count_tokens(self.prompt or "")
        if tokens > model.max_text_tokens:
            raise UserError("benchmark.prompt", f"takes {tokens} tokens, the model "
                            f"{model.max_text_tokens}", "shorten it")
