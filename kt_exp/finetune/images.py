"""The images of fine-tuning: inverted, noise or from a folder; and images for rehearsal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from kt_exp.concepts import Concept
from kt_exp.data.image_files import ImageFiles
from kt_exp.data.targets import read_target
from kt_exp.finetune.settings import FinetuneSettings
from kt_exp.inversion.image_scorer import to_model_size
from kt_exp.inversion.invert import Task, initial_state
from kt_exp.inversion.pictures import as_bytes
from kt_exp.inversion.settings import InversionSettings
from kt_exp.inversion.stage import inversion_signature, invert_captions
from kt_exp.models.protocol import Model
from kt_exp.progress import Progress
from kt_exp.store import Entry, Store, signature


def folder_images(settings: FinetuneSettings, concept: Concept) -> ImageFiles:
    """Return the images of a concept under `finetune.folder`.

    Raises:
        UserError: no such folder, or no images in it.
    """
    return read_target(Path(settings.folder or "").expanduser(), concept, "finetune.folder")


def check_folders(settings: FinetuneSettings, concepts: Iterable[Concept]) -> None:
    """Check the folders of training images, if `finetune.images` is `folder`.

    Raises:
        UserError: as `folder_images`.
    """
    if settings.images == "folder":
        for concept in concepts:
            folder_images(settings, concept)


@dataclass(frozen=True)
class TrainingImages:
    """The training images of a run, as tensors on the model's device, and their store keys."""

    model: Model
    fingerprint: str
    finetune: FinetuneSettings
    inversion: InversionSettings
    seed: int

    def count(self, concept: Concept) -> int:
        """Return the number of a concept's training images, without creating them."""
        if self.finetune.images == "folder":
            return len(folder_images(self.finetune, concept))
        return self.inversion.images

    def inversion_key(self, concept: Concept) -> str:
        """Return the store key of the images inverted from a concept's description."""
        return self._inversion_key(concept.description, self.inversion)

    def key(self, concept: Concept) -> str:
        """Return a hash of everything that can change a concept's images."""
        source = self.finetune.images
        if source == "folder":
            return folder_images(self.finetune, concept).fingerprint()
        as_png = source == "inverted" and self.finetune.images_as == "png"
        return signature([source, self.inversion_key(concept), *(["png"] if as_png else [])])

    def load(self, concepts: Sequence[Concept], inverted: Mapping[str, Entry]) -> Tensor:
        """Return the images of all concepts, in order, `(N, 3, H, W)`.

        `inverted` has the entries of the inversion stage by concept name.
        """
        source, device = self.finetune.images, self.model.device
        if source == "inverted":
            images = torch.cat([inverted[concept.name].tensors["images"] for concept in concepts])
            if self.finetune.images_as == "png":
                images = as_bytes(images, "stretch").float() / 255
            return to_model_size(images.to(device), self.model.image_size)
        if source == "noise":
            return self._noise(concepts)
        folders = [folder_images(self.finetune, concept) for concept in concepts]
        pictures = [files.open(i) for files in folders for i in range(len(files))]
        return torch.stack([self.model.to_tensor(picture) for picture in pictures]).to(device)

    def rehearsal_captions(self, prompts: Iterable[str]) -> dict[str, str]:
        """Return the prompts of known classes, by the store keys of their rehearsal images."""
        return {self._inversion_key(prompt, self._rehearsal_inversion): prompt
                for prompt in prompts}

    def rehearsal(self, prompts: Iterable[str], store: Store, progress: Progress) -> Tensor:
        """Return images inverted from the prompts of known classes, `(M, 3, H, W)`, M ≥ 0."""
        captions, size = self.rehearsal_captions(prompts), self.model.image_size
        entries = invert_captions(self.model, captions, self._rehearsal_inversion,
                                  self.seed, store, progress)
        images = [entries[key].tensors["images"].to(self.model.device) for key in captions]
        return torch.cat([torch.empty(0, 3, size, size, device=self.model.device),
                          *(to_model_size(of_class, size) for of_class in images)])

    def _noise(self, concepts: Sequence[Concept]) -> Tensor:
        tasks = [Task(concept.description, index) for concept in concepts
                 for index in range(self.inversion.images)]
        full_size = replace(self.inversion, sizes=[], upsize_at=[])
        return initial_state(tasks, full_size, self.model, self.seed).images

    def _inversion_key(self, caption: str, settings: InversionSettings) -> str:
        return inversion_signature(self.fingerprint, self.model.device, caption, settings,
                                   self.seed)

    @property
    def _rehearsal_inversion(self) -> InversionSettings:
        return replace(self.inversion, images=self.finetune.rehearsal_per_class)
