"""What a dual encoder makes of given images, without a benchmark, run or store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kt_exp.benchmarks.classification.margins import embedding_margins
from kt_exp.benchmarks.classification.metrics import NOTHING, Scored, measure, plain_known_right
from kt_exp.benchmarks.embedding import LoaderSettings, embed_images, text_classifier
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.models.protocol import DualEncoder
from kt_exp.progress import Progress
from kt_exp.results.outcome import Outcome, Phase


@dataclass(frozen=True)
class GivenImages:
    """Images of a concept and of known classes, and how the names are asked for.

    Attributes:
        names: the candidates: K known names, then the concept's.
        prompts: of each candidate, at least one.
        targets: images of the concept; their labels are not used.
        known: images labelled by index into `names`; None: there are none.
        loader: settings for loading images.
    """

    names: list[str]
    prompts: Sequence[Sequence[str]]
    targets: ImageSet
    known: ImageSet | None
    loader: LoaderSettings

    def measure(self, model: DualEncoder, phase: Phase, progress: Progress,
                reference: int | None = None) -> tuple[Outcome, int]:
        """Return what a run would measure of these images, and how many known ones are right.

        Without known images only target accuracy has a value; the others have the reason.

        Args:
            reference: that number of the untrained model; None: `model` is the untrained one.

        Raises:
            UserError: no image is readable, or embeddings are not finite.
        """
        candidates = text_classifier(model, self.prompts, self.loader.batch_size, progress,
                                     "Encoding names")
        own = len(self.names) - 1

        def scored(images: ImageSet) -> Scored:
            found = embed_images(model, images, self.loader, progress, "Embedding images")
            return Scored(embedding_margins(found.embeddings, candidates, [own], [own]),
                          found.labels, found.skipped)

        known = scored(self.known) if self.known is not None else NOTHING
        with torch.no_grad():
            outcome = measure(known, scored(self.targets), self.names, own, phase,
                              self.names[own], reference)
        return outcome, int(plain_known_right(known.margins, known.labels).sum())
