"""Zero-shot classification: nearest class embedding, and the accuracy that follows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_stat_scores

ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Accuracy:
    """Exact counts of one classification run.

    Attributes:
        correct: images assigned to their own class.
        images: images in all.
        mean_per_class: mean over the classes that have images, in [0, 1].
        classes: how many those are.
    """

    correct: int
    images: int
    mean_per_class: float
    classes: int

    @property
    def overall(self) -> float:
        """The share of images assigned to their own class, in [0, 1]."""
        return self.correct / self.images


def predict(embeddings: Tensor, classifier: Tensor) -> Tensor:
    """Return the index of the most similar class of each image, `(N,)`; of equals, the first.

    Args:
        embeddings: unit-norm image embeddings `(N, D)`.
        classifier: unit-norm class embeddings `(C, D)`.
    """
    rows = embeddings.split(ROWS_AT_ONCE)
    return torch.cat([(some @ classifier.T).argmax(dim=1) for some in rows])


def accuracy(predicted: Tensor, labels: Tensor, classes: int) -> Accuracy:
    """Return the accuracy of class indices `predicted` against `labels`, both `(N,)`, N ≥ 1.

    A class without images has no accuracy and is left out of the mean per class, also when images
    of other classes were taken for it (torchmetrics' own macro average counts it as 0).
    """
    scores = multiclass_stat_scores(predicted, labels, num_classes=classes, average="none")
    correct, images = scores[:, 0].double(), scores[:, 4].double()
    present = images > 0
    return Accuracy(
        correct=int(correct.sum()),
        images=int(images.sum()),
        mean_per_class=float((correct[present] / images[present]).mean()),
        classes=int(present.sum()),
    )
