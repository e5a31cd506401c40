"""The files of a run folder: inverted images, fine-tuned models, pictures and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from kt_exp.atomic import save_tensors, write_atomically
from kt_exp.benchmarks.classification.changes import changes, lost_images
from kt_exp.benchmarks.feature_statistics import FILE_NAME as STATISTICS
from kt_exp.checkpoints.calibration_file import write_calibration
from kt_exp.checkpoints.changes import Base, write_changes
from kt_exp.checkpoints.find import MODELS
from kt_exp.finetune.features import TrainingFeatures
from kt_exp.inversion.pictures import as_bytes
from kt_exp.pipeline import Experiment, RunState
from kt_exp.report.figures import contact_sheet, overview
from kt_exp.report.page import Marks, write_page
from kt_exp.results.margins_file import write_margins
from kt_exp.results.per_image import write_per_image
from kt_exp.results.predictions import Change, write_predictions
from kt_exp.results.record import RunRecord
from kt_exp.results.summary import target_metric

_SHOWN = 10
SKIPPED = "skipped_images.txt"


def to_png(image: Tensor, form: str) -> Image.Image:
    """Return an image `(3, H, W)` as a picture: `clamp` values to [0, 1], or `stretch` them."""
    return to_pil_image(as_bytes(image, form).cpu())


@dataclass
class Artifacts:
    """The files that a run writes beside its record.

    `pictures` has the inverted images by concept, `panels` the evaluator's pictures: title → file.
    """

    experiment: Experiment
    record: RunRecord
    folder: Path
    pictures: dict[str, list[Image.Image]] = field(default_factory=dict)
    panels: dict[str, str] = field(default_factory=dict)
    _begun: bool = False
    _marks: dict[str, Marks] = field(default_factory=dict)

    def save_inverted(self, state: RunState) -> None:
        """Write the inverted images as PNG and as exact tensors, if not yet written.

        Inverted features are written as tensors, with the statistics of natural ones.
        """
        if self.pictures or not state.inverted:
            return
        if isinstance(self.experiment.images, TrainingFeatures):
            self._save_features(state, self.experiment.images)
            return
        for concept in self.experiment.concepts:
            images = state.inverted[concept.name].tensors["images"]
            pngs = [to_png(image, self.experiment.config.inversion.png) for image in images]
            home = self.folder / "images" / concept.slug
            home.mkdir(parents=True, exist_ok=True)
            save_tensors(home / "images.safetensors", {"images": images})
            for number, png in enumerate(pngs):
                png.save(home / f"{number:02d}.png")
            self.pictures[concept.name] = pngs
        self.record.files["images"] = "images"
        self.record.files["pictures"] = contact_sheet(self.pictures,
                                                      self.folder / "inverted.png").name

    def _save_features(self, state: RunState, images: TrainingFeatures) -> None:
        if "features" in self.record.files:
            return
        home = self.folder / "features"
        home.mkdir(exist_ok=True)
        for concept in self.experiment.concepts:
            save_tensors(home / f"{concept.slug}.safetensors",
                         {"features": state.inverted[concept.name].tensors["features"]})
        path = self.folder / STATISTICS
        save_tensors(path, images.statistics.measured().tensors())
        self.record.files |= {"features": home.name, "feature_statistics": path.name}

    def save_models(self, state: RunState) -> None:
        """Write the changes that fine-tuning made to each model; `kt-exp export` makes it whole.

        Its constant γ, if it was calibrated, is in calibration.json beside them.
        """
        config = self.record.config
        base = Base(config["model"], config["precision"], self.experiment.fingerprint)
        for model in state.finetuned:
            home = self.folder / MODELS / model.group.slug
            write_changes(home, base, model.weights.changes)
            if calibration := state.calibrations.get(model.group.name):
                write_calibration(calibration, home)
        self.record.files["models"] = MODELS

    def write_results(self, state: RunState) -> None:
        """Write the results of single images, the pictures and the page, once."""
        if not self._begun:
            self._begun = True
            self._save_outcomes(state)
            self._write_report()

    def _save_outcomes(self, state: RunState) -> None:
        """Write the scores of single images, the margins, what could not be read, and pictures."""
        scores = [score for outcome in state.outcomes for score in outcome.per_image]
        if scores:
            self.record.files["per_image"] = write_per_image(scores, self.folder).name
        if skipped := sorted({path for outcome in state.outcomes for path in outcome.skipped}):
            write_atomically(self.folder / SKIPPED, "\n".join([*skipped, ""]))
            self.record.files["skipped"] = SKIPPED
        if margins := write_margins(state.outcomes, self.folder):
            self.record.files["margins"] = margins.name
        if found := self._changes(state):
            self.record.files["predictions"] = write_predictions(found, self.folder).name
            skipped_paths = [path for outcome in state.outcomes for path in outcome.skipped]
            self._marks = {change.concept: self._marks_of(change, skipped_paths)
                           for change in found}
        self._draw_panels(state)

    def _changes(self, state: RunState) -> list[Change]:
        groups = [group.concepts for group in self.experiment.groups]
        return changes(self.experiment.evaluator, groups, state.outcomes)

    def _marks_of(self, change: Change, skipped: Sequence[str]) -> Marks:
        lost = lost_images(self.experiment.evaluator, change, skipped, _SHOWN)
        targets = list(zip(change.changes("target"), change.guesses("target"), strict=True))
        return Marks(targets[:_SHOWN], lost, change.changes("known").count("lost"))

    def _draw_panels(self, state: RunState) -> None:
        home = self.folder / "panels"
        home.mkdir(exist_ok=True)
        drawn = self.experiment.evaluator.panels(state.outcomes, home)
        self.panels = {title: f"{home.name}/{name}" for title, name in drawn.items()}
        if drawn:
            self.record.files["panels"] = home.name
        else:
            home.rmdir()

    def _write_report(self) -> None:
        """Write report.html and, if target images were measured, overview.png."""
        targets = {concept.name: self.experiment.benchmark.examples(concept, _SHOWN)
                   for concept in self.experiment.concepts}
        if target_metric(self.record):
            picture = overview(self.record, self.pictures, targets, self.folder / "overview.png")
            self.record.files["overview"] = picture.name
        page = write_page(self.record, self.folder, self.pictures, targets, self.panels,
                          self._marks)
        self.record.files["report"] = page.name


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or the CPU with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"
