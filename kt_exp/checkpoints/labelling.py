"""Label images with known and new names by a model on disk."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import OmegaConf

from kt_exp.atomic import write_atomically
from kt_exp.benchmarks.classification.prompts import filled
from kt_exp.benchmarks.embedding import embed_images, text_classifier
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.checkpoints.find import find_model, load_open_clip
from kt_exp.checkpoints.usage import DEFAULT_TEMPLATES, Usage, read_usage
from kt_exp.config import plugins
from kt_exp.config.renames import with_current_names
from kt_exp.csv_files import safe_cell
from kt_exp.data.image_files import ImageFiles
from kt_exp.errors import UserError
from kt_exp.models.hugging_face_clip import load_hugging_face_clip
from kt_exp.models.loading import CONFIG_FILE
from kt_exp.models.protocol import DualEncoder, Model
from kt_exp.progress import Progress
from kt_exp.results.record import FILE_NAME as RECORD

TOP = 5


@dataclass(frozen=True)
class Labelled:
    """An image with its most likely names, best first, and their scores.

    A score is the cosine similarity, to which a calibrated model's γ is added for the taught names.
    `names` is empty if the image cannot be read.
    """

    path: str
    names: list[str]
    scores: list[float]

    @property
    def label(self) -> str:
        """The most likely name; empty if the image cannot be read."""
        return self.names[0] if self.names else ""


@dataclass(frozen=True)
class Classifier:
    """A model, how to ask it for names, and the names that it knew before (may be empty)."""

    model: DualEncoder
    usage: Usage
    known: list[str]

    def names(self, known: Sequence[str] | None) -> list[str]:
        """Return the candidates: `known`, or if None the model's own, then the taught names.

        Raises:
            UserError: fewer than two.
        """
        wanted = [*(self.known if known is None else known), *self.usage.concepts]
        found = list(dict.fromkeys(wanted))
        if len(found) < 2:
            raise UserError("--names", f"{len(found)} names are nothing to choose from",
                            "give a text file with one known name on each line")
        return found

    def label(self, images: ImageFiles, names: Sequence[str],
              progress: Progress) -> list[Labelled]:
        """Return the `TOP` most likely names of each image, in order."""
        return label_images(self.model, images, [str(file) for file in images.files], names,
                            self.usage, progress)


@dataclass
class Loading:
    """Settings for loading images that are given by hand: unreadable ones are left out."""

    batch_size: int = 32
    workers: int = 0
    on_bad_image: str = "skip"


def label_images(model: DualEncoder, images: ImageSet, paths: Sequence[str], names: Sequence[str],
                 usage: Usage, progress: Progress) -> list[Labelled]:
    """Return the `TOP` most likely names of each image, in order.

    Args:
        paths: what each image is called, in the results and where it cannot be read.
        names: the candidates; each is asked for in the templates of `usage`, and its γ, if it has
            one, is added to the scores of the taught names.

    Raises:
        UserError: there is no readable image.
    """
    classes = text_classifier(model, [filled(usage, name) for name in names],
                              Loading.batch_size, progress, "Encoding names")
    embedded = embed_images(model, images, Loading(), progress, "Embedding images")
    scores = embedded.embeddings @ classes.T
    scores += torch.tensor([usage.gamma or 0.0 if name in usage.concepts else 0.0
                            for name in names])
    best = scores.topk(min(TOP, len(names)), dim=1)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    unreadable = set(embedded.skipped)
    labelled = []
    for path in paths:
        if path in unreadable:
            labelled.append(Labelled(path, [], []))
            continue
        indices, scores = next(rows)
        labelled.append(Labelled(path, [names[i] for i in indices], scores))
    return labelled


def read_classifier(source: Path, concept: str | None) -> Classifier:
    """Return the model of a run or of an exported folder, on the CPU.

    Args:
        source: the folder of a run, of a model of open_clip (`local-dir`) or of a `CLIPModel`.
        concept: which of a run's models.

    Raises:
        UserError: the folder is none of these, or its model does not embed images and texts.
    """
    if (source / RECORD).is_file():
        return _of_run(source, concept)
    usage = read_usage(source) or Usage({}, list(DEFAULT_TEMPLATES))
    if (source / CONFIG_FILE).is_file():
        return Classifier(_dual_encoder(load_open_clip(source, {})), usage, [])
    if (source / "config.json").is_file():
        return Classifier(load_hugging_face_clip(source, torch.device("cpu")), usage, [])
    raise UserError(str(source), "is neither the folder of a run nor of a model",
                    "give the folder of a run, or one that kt-exp export wrote with "
                    "--format open_clip or hf")


def _of_run(run: Path, concept: str | None) -> Classifier:
    found = find_model(run, concept)
    config = with_current_names(found.record.config)
    benchmark = plugins.build(OmegaConf.create(config["benchmark"]), "benchmark")
    known = benchmark.known_names() if hasattr(benchmark, "known_names") else []
    return Classifier(_dual_encoder(found.model), found.usage, known)


def _dual_encoder(model: Model) -> DualEncoder:
    if not isinstance(model, DualEncoder):
        raise UserError("model", f"{type(model).__name__} does not embed images and texts",
                        "choose a run of a dual encoder such as CLIP")
    return model


def read_names(path: Path) -> list[str]:
    """Return the names in a text file, one on each line; empty lines are left out.

    Raises:
        UserError: the file cannot be read, or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(str(path), f"cannot be read ({error})",
                        "give a text file in UTF-8 with one name on each line") from error
    if not (names := [line.strip() for line in lines if line.strip()]):
        raise UserError(str(path), "holds no names", "write one on each line")
    return names


def write_labels(rows: Sequence[Labelled], path: Path) -> None:
    """Write one row per image: path, label, score, label_2, score_2, …, label_5, score_5.

    Raises:
        UserError: the file cannot be written.
    """
    header = ["path", "label", "score"] + [f"{what}_{place}" for place in range(2, TOP + 1)
                                           for what in ("label", "score")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        cells = [cell for name, score in zip(row.names, row.scores, strict=True)
                 for cell in (safe_cell(name), f"{score:.4f}")]
        writer.writerow([safe_cell(row.path), *cells, *[""] * (len(header) - 1 - len(cells))])
    try:
        write_atomically(path, text.getvalue())
    except OSError as error:
        raise UserError("--out", f"cannot write {path} ({error.strerror})",
                        "name a file in a folder that is there") from error
