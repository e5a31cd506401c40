"""The files of a run folder: inverted images, fine-tuned models, pictures and the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from kt_exp.inversion.pictures import as_bytes
from kt_exp.pipeline import Experiment, RunState
from kt_exp.report.figures import contact_sheet, overview
from kt_exp.report.page import write_page
from kt_exp.results.margins_file import write_margins
from kt_exp.results.per_image import write_per_image
from kt_exp.results.record import RunRecord
from kt_exp.results.summary import target_metric

_SHOWN = 10


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

    def save_inverted(self, state: RunState) -> None:
        """Write the inverted images as PNG and as exact tensors, if not yet written."""
        if self.pictures or not state.inverted:
            return
        for concept in self.experiment.concepts:
            images = state.inverted[concept.name].tensors["images"]
            pngs = [to_png(image, self.experiment.config.inversion.png) for image in images]
            home = self.folder / "images" / concept.slug
            home.mkdir(parents=True, exist_ok=True)
            save_file({"images": images}, home / "images.safetensors")
            for number, png in enumerate(pngs):
                png.save(home / f"{number:02d}.png")
            self.pictures[concept.name] = pngs
        self.record.files["images"] = "images"
        self.record.files["pictures"] = contact_sheet(self.pictures,
                                                      self.folder / "inverted.png").name

    def save_models(self, state: RunState) -> None:
        """Write each fine-tuned model in its library's own format (open_clip: a `local-dir`)."""
        for model in state.finetuned:
            with model.weights.applied(self.experiment.model):
                self.experiment.model.export(self.folder / "models" / model.group.slug)
        self.record.files["models"] = "models"

    def save_outcomes(self, state: RunState) -> None:
        """Write the scores of single images, the margins, and the evaluator's pictures."""
        scores = [score for outcome in state.outcomes for score in outcome.per_image]
        if scores:
            self.record.files["per_image"] = write_per_image(scores, self.folder).name
        if margins := write_margins(state.outcomes, self.folder):
            self.record.files["margins"] = margins.name
        self._draw_panels(state)

    def _draw_panels(self, state: RunState) -> None:
        home = self.folder / "panels"
        home.mkdir(exist_ok=True)
        drawn = self.experiment.evaluator.panels(state.outcomes, home)
        self.panels = {title: f"{home.name}/{name}" for title, name in drawn.items()}
        if drawn:
            self.record.files["panels"] = home.name
        else:
            home.rmdir()

    def write_report(self) -> None:
        """Write report.html and, if target images were measured, overview.png."""
        targets = {concept.name: self.experiment.benchmark.examples(concept, _SHOWN)
                   for concept in self.experiment.concepts}
        if target_metric(self.record):
            picture = overview(self.record, self.pictures, targets, self.folder / "overview.png")
            self.record.files["overview"] = picture.name
        page = write_page(self.record, self.folder, self.pictures, targets, self.panels)
        self.record.files["report"] = page.name


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or the CPU with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"
