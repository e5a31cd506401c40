"""Where the statistics of natural images' features come from (`inversion.statistics`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kt_exp.benchmarks.embedding import LoaderSettings, image_batches
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.data.image_files import ClassFolder, found_in, labelled
from kt_exp.errors import UserError
from kt_exp.finetune.features import Statistics
from kt_exp.finetune.images import TrainingImages
from kt_exp.inversion.statistics import FeatureStatistics, measure
from kt_exp.models.split import TopEncoder
from kt_exp.progress import Progress
from kt_exp.store import Entry, Store, signature

VERSION = 1
KIND = "statistics"
FILE_NAME = "feature_statistics.safetensors"
_CHUNK = 64


@dataclass(frozen=True)
class StatisticsSources:
    """What statistics may be measured on.

    Attributes:
        images: for the inversion of known prompts.
        known_images: images of known classes; None: the benchmark has none.
        known_prompts: one prompt of each known class; may be empty.
        loader: how image files are loaded.
    """

    top: TopEncoder
    images: TrainingImages
    known_images: ImageSet | None
    known_prompts: Sequence[str]
    loader: LoaderSettings
    store: Store
    progress: Progress

    def find(self) -> Statistics:
        """Return the statistics that the settings name, not yet measured.

        Raises:
            UserError: the benchmark, the folder or the file does not have what they need.
        """
        settings = self.images.inversion
        path = Path(settings.statistics_path or "").expanduser()
        if settings.statistics == "file":
            return self._from_file(path)
        if settings.statistics == "prompts":
            return self._from_prompts()
        if settings.statistics == "folder":
            return self._from_images(_all_images(path))
        if self.known_images is None:
            raise UserError("inversion.statistics", "'known' needs a benchmark that classifies "
                            "images of known classes", "give folder or file, with statistics_path")
        return self._from_images(self.known_images)

    def _from_images(self, images: ImageSet) -> Statistics:
        def batches() -> Iterator[Tensor]:
            with self.progress("Statistics of natural images", len(images)) as bar:
                for batch in image_batches(self.top.model, images, self.loader,
                                           self.loader.batch_size, store=self.store):
                    if len(batch.labels):
                        yield self.top.features_of(batch.pixels)
                    bar.advance(len(batch.labels) + len(batch.problems))

        return self._measured([images.fingerprint(), self.loader.on_bad_image], batches)

    def _from_prompts(self) -> Statistics:
        if not self.known_prompts:
            raise UserError("inversion.statistics", "'prompts' needs known classes, and this "
                            "benchmark has none", "give folder or file, with statistics_path")
        whole = self.images.of_pixels()

        def batches() -> Iterator[Tensor]:
            images = whole.rehearsal(self.known_prompts, self.store, self.progress)
            yield from map(self.top.features_of, images.split(_CHUNK))

        return self._measured(list(whole.rehearsal_captions(self.known_prompts)), batches)

    def _measured(self, source: Sequence[str], batches: Callable[[], Iterator[Tensor]]
                  ) -> Statistics:
        key = signature([VERSION, self.images.fingerprint, self.top.device.type, self.top.layers,
                         list(source)])

        @cache
        def load() -> FeatureStatistics:
            entry = self.store.get_or_compute(
                KIND, key, lambda: Entry({"layers": self.top.layers},
                                         measure(batches()).tensors()))
            return FeatureStatistics.from_tensors(entry.tensors)

        return Statistics(key, load)

    def _from_file(self, path: Path) -> Statistics:
        where, remedy = "inversion.statistics_path", f"give the {FILE_NAME} of a run"
        try:
            content = path.read_bytes()
            statistics = FeatureStatistics.from_tensors(load_file(path))
        except OSError as error:
            raise UserError(where, f"cannot read '{path}' ({error.strerror})", remedy) from error
        except (SafetensorError, KeyError, ValueError) as error:
            raise UserError(where, f"'{path}' holds no statistics", remedy) from error
        side = self.top.image_size
        shape = tuple(self.top.features_of(torch.zeros(1, 3, side, side)).shape[1:])
        if statistics.shape != shape:
            raise UserError(where, f"'{path}' has statistics of features {statistics.shape}, and "
                            f"{self.top.layers} of this model takes {shape}", remedy
                            + f" with this model and inversion.layers={self.top.layers}")
        return Statistics(hashlib.sha256(content).hexdigest(), lambda: statistics)


def _all_images(root: Path) -> ImageSet:
    where = "inversion.statistics_path"
    if not root.is_dir():
        raise UserError(where, f"no such folder: {root}", "give a folder of images")
    files = ClassFolder(root.name, root).images()
    if len(files) < 2:
        raise UserError(where, f"fewer than two images in {root} {found_in(root)}",
                        "put .jpg or .png files there")
    return labelled(root, [files])
