"""A model that was taught a concept: to classify, export or upload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kt_exp.checkpoints.card import Card
from kt_exp.checkpoints.export import export_model
from kt_exp.checkpoints.hub import push_folder
from kt_exp.checkpoints.labelling import Labelled, label_images
from kt_exp.concepts import Concept
from kt_exp.data.pictures import Images, pictures
from kt_exp.errors import UserError
from kt_exp.models.protocol import DualEncoder
from kt_exp.progress import progress
from kt_exp.results.outcome import Metric


@dataclass(frozen=True)
class Taught:
    """A model that was taught a concept.

    Attributes:
        model: of the kind that was given; of a model by name, a model of kt_exp, whose `module` is
            the network. The given one is as it was.
        encoder: the same network with the methods of `kt_exp.models.protocol.DualEncoder`.
        concept: what was taught.
        known: the known names that were given.
        card: what the model card says.
        metrics: what was measured before (`baseline`) and after (`transferred`) on the images that
            were given, as in the record of a run; empty without images.
    """

    model: Any
    encoder: DualEncoder
    concept: Concept
    known: list[str]
    card: Card = field(repr=False)
    metrics: list[Metric] = field(default_factory=list, repr=False)

    def metric(self, phase: str, split: str, metric: str = "accuracy") -> Metric | None:
        """Return a measurement, as `RunRecord.metric` does; None if there is none."""
        return next((row for row in self.metrics
                     if (row.phase, row.split, row.metric) == (phase, split, metric)), None)

    def classify(self, images: Images, names: Sequence[str] | None = None) -> list[Labelled]:
        """Return the likeliest names of each image, at most five, with their cosine similarities.

        Args:
            images: a folder (searched at any depth), or files and pictures.
            names: the known names beside the one taught; None: those given to `teach`.

        Raises:
            UserError: there is no readable image, or no known name.
        """
        known = self.known if names is None else names
        candidates = list(dict.fromkeys([*known, self.concept.name]))
        if len(candidates) < 2:
            raise UserError("names", "the name taught alone is nothing to choose from",
                            "give the known names: classify(images, names)")
        chosen = pictures(images)
        return label_images(self.encoder, chosen, chosen.paths, candidates, self.card.usage,
                            progress)

    def export(self, folder: str | Path, format: str = "native",
               license: str | None = None) -> Path:
        """Write the model and its card into a new folder, as `kt-exp export` does; return it.

        Args:
            format: `native` (the model's own library), `open_clip` or `hf`.
            license: of the model card; None: that of the base model.

        Raises:
            UserError: the folder holds something, or the model has no such format.
        """
        card = replace(self.card, license=license or self.card.license)
        return export_model(self.encoder, card, Path(folder), format)

    def push_to_hub(self, repo: str, *, format: str = "native", private: bool = False,
                    license: str | None = None) -> str:
        """Upload what `export` writes to a repository of the Hugging Face hub; return its address.

        Args:
            repo: `NAME` or `ORGANISATION/NAME`; created if absent.

        Raises:
            UserError: the hub cannot be reached, or refuses.
        """
        return push_folder(repo, lambda folder: self.export(folder, format, license), private)
