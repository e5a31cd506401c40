"""The files of a run folder: inverted images, fine-tuned models, pictures and the page."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from kt_exp.errors import UserError
from kt_exp.finetune.train import restored
from kt_exp.pipeline import Experiment, Findings
from kt_exp.report.figures import Images, contact_sheet, overview
from kt_exp.report.page import write_page
from kt_exp.report.record import RunRecord

_SHOWN = 10


def to_png(image: Tensor, form: str) -> Image.Image:
    """Return an image `(3, H, W)` for people: `clamp` to [0, 1], or `stretch` min–max to it."""
    if form == "stretch":
        low, high = image.amin(), image.amax()
        image = (image - low) / (high - low).clamp(min=1e-12)
    return to_pil_image(image.clamp(0, 1).cpu())


def save_inverted(experiment: Experiment, findings: Findings, folder: Path,
                  record: RunRecord) -> dict[str, list[Image.Image]]:
    """Write the inverted images, as PNG and as the exact tensors; return the pictures."""
    pictures = {}
    for concept in experiment.concepts:
        if concept.name not in findings.inverted:
            continue
        images = findings.inverted[concept.name].tensors["images"]
        pngs = [to_png(image, experiment.config.inversion.png) for image in images]
        home = folder / "images" / concept.slug
        home.mkdir(parents=True, exist_ok=True)
        save_file({"images": images}, home / "images.safetensors")
        for number, png in enumerate(pngs):
            png.save(home / f"{number:02d}.png")
        pictures[concept.name] = pngs
    if pictures:
        record.files["images"] = "images"
        record.files["pictures"] = contact_sheet(pictures, folder / "inverted.png").name
    return pictures


def save_models(experiment: Experiment, findings: Findings, folder: Path,
                record: RunRecord) -> None:
    """Write each fine-tuned model in its library's own format (open_clip: a `local-dir`)."""
    for taught in findings.taught:
        with restored(experiment.model, taught.changes):
            experiment.model.export(folder / "models" / taught.group.slug)
    if findings.taught:
        record.files["models"] = "models"


def target_pictures(experiment: Experiment) -> dict[str, list[Image.Image]]:
    """Return the first readable real images of each concept."""
    return {concept.name: _first_images(experiment, concept) for concept in experiment.concepts}


def write_report(record: RunRecord, folder: Path, inverted: Images, targets: Images) -> None:
    """Write report.html and, for a run that measured something, overview.png."""
    record.files["report"] = "report.html"
    if record.metrics and inverted:
        record.files["overview"] = overview(record, inverted, targets, folder / "overview.png").name
    write_page(record, folder, inverted, targets)


def _first_images(experiment: Experiment, concept) -> list[Image.Image]:
    images = experiment.benchmark.target_images(concept)
    shown = []
    for index in range(min(_SHOWN, len(images))):
        try:
            shown.append(images.open(index))
        except UserError:
            continue  # The evaluation says so, and counts it.
    return shown


def device_name(device: torch.device) -> str:
    """Return a device in words: the GPU's name, or the CPU with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"
