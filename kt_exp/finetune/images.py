"""The images of fine-tuning: inverted, noise or from a folder; and images for rehearsal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from kt_exp.concepts import Concept
from kt_exp.data.image_files import ImageFiles
from kt_exp.data.targets import read_target
from kt_exp.errors import UserError
from kt_exp.finetune.settings import EDIT, FinetuneSettings
from kt_exp.inversion.image_scorer import to_model_size
from kt_exp.inversion.invert import Task, initial_state
from kt_exp.inversion.pictures import as_bytes
from kt_exp.inversion.settings import InversionSettings
from kt_exp.inversion.stage import KIND, inversion_signature, invert_captions
from kt_exp.models.protocol import Model
from kt_exp.progress import Progress
from kt_exp.store import Entry, Store, signature
from kt_exp.unicode import user_path


def folder_images(settings: FinetuneSettings, concept: Concept) -> ImageFiles:
    """Return the images of a concept under `finetune.folder`.

    Raises:
        UserError: no such folder, or no images in it.
    """
    return read_target(user_path(settings.folder), concept, "finetune.folder")


def check_folders(settings: FinetuneSettings, concepts: Iterable[Concept]) -> None:
    """Check the folders of training images, if `finetune.images` is `folder`.

    Raises:
        UserError: as `folder_images`.
    """
    if settings.images == "folder":
        for concept in concepts:
            folder_images(settings, concept)


def check_images(settings: FinetuneSettings, inversion: InversionSettings) -> None:
    """Check that inversion makes the images that are trained on.

    Raises:
        UserError: it makes none.
    """
    if settings.strategy != EDIT and settings.images != "folder" and not inversion.images:
        raise UserError("inversion.images", f"0, but finetune.strategy '{settings.strategy}' "
                        "trains on such images", "choose an inversion (inversion=fast, "
                        "inversion=paper), or finetune=closed_form, which needs none")


def check_inverted_model(settings: FinetuneSettings, inversion: InversionSettings) -> None:
    """Check that a model of its own for inversion has images to make for another one.

    Raises:
        UserError: nothing is inverted, or features are, which no other model takes.
    """
    if inversion.model is None:
        return
    if settings.strategy == EDIT:
        raise UserError("inversion.model", f"finetune.strategy '{EDIT}' learns from no images",
                        "leave it out, or train on images (inversion=fast finetune=pictograms)")
    if settings.images != "inverted" and not settings.rehearsal:
        raise UserError("inversion.model", f"nothing is inverted: finetune.images is "
                        f"'{settings.images}', without rehearsal",
                        "leave it out, or set finetune.images=inverted")
    if inversion.layers != "all":
        raise UserError("inversion.layers", f"'{inversion.layers}', but features can only teach "
                        "the model that they were inverted from",
                        "set inversion.layers=all, or leave inversion.model out")


@dataclass(frozen=True)
class TrainingImages:
    """The training images of a run, as tensors on the model's device, and their store keys.

    `finetune.features.TrainingFeatures` has features in their place.

    Attributes:
        model: the model that is taught.
        inverted_model: the model that images are inverted from, for rehearsal too; mostly the same.
        fingerprint: that of `inverted_model`.
    """

    model: Model
    inverted_model: Model
    fingerprint: str
    finetune: FinetuneSettings
    inversion: InversionSettings
    seed: int

    @property
    def learner(self) -> Model:
        """The model that learns from these images."""
        return self.model

    @property
    def kind(self) -> str:
        """The kind of the inverted images' entries in the store."""
        return KIND

    def of_pixels(self) -> TrainingImages:
        """Return the same with images of pixels, whatever `inversion.layers` says."""
        return TrainingImages(self.model, self.inverted_model, self.fingerprint, self.finetune,
                              replace(self.inversion, layers="all"), self.seed)

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

    def invert(self, concepts: Sequence[Concept], store: Store,
               progress: Progress) -> dict[str, Entry]:
        """Return the entries of the images inverted from the descriptions, by concept name."""
        keys = {concept.name: self.inversion_key(concept) for concept in concepts}
        captions = {keys[concept.name]: concept.description for concept in concepts}
        names = {key: name for name, key in keys.items()}
        entries = self._inverted(captions, self.inversion, store, progress, names)
        return {name: entries[key] for name, key in keys.items()}

    def load(self, concepts: Sequence[Concept], inverted: Mapping[str, Entry]) -> Tensor:
        """Return the images of all concepts, in order, `(N, 3, H, W)`.

        `inverted` has the entries of the inversion stage by concept name.
        """
        source = self.finetune.images
        if source == "inverted":
            return torch.cat([self._inputs(inverted[concept.name], self.finetune.images_as)
                              for concept in concepts])
        if source == "noise":
            return self._noise(concepts)
        folders = [folder_images(self.finetune, concept) for concept in concepts]
        pictures = [files.open(i) for files in folders for i in range(len(files))]
        return torch.stack([self.model.to_tensor(picture) for picture in pictures]) \
            .to(self.model.device)

    def rehearsal_captions(self, prompts: Iterable[str]) -> dict[str, str]:
        """Return the prompts of known classes, by the store keys of their rehearsal images."""
        return {self._inversion_key(prompt, self._rehearsal_inversion): prompt
                for prompt in prompts}

    def rehearsal(self, prompts: Iterable[str], store: Store, progress: Progress) -> Tensor:
        """Return images inverted from the prompts of known classes, `(M, 3, H, W)`, M ≥ 0."""
        captions, size = self.rehearsal_captions(prompts), self.model.image_size
        if not captions:
            return torch.empty(0, 3, size, size, device=self.model.device)
        entries = self._inverted(captions, self._rehearsal_inversion, store, progress)
        return torch.cat([self._inputs(entries[key]) for key in captions])

    def _inverted(self, captions: dict[str, str], settings: InversionSettings, store: Store,
                  progress: Progress, names: Mapping[str, str] | None = None) -> dict[str, Entry]:
        return invert_captions(self.inverted_model, captions, settings, self.seed, store, progress,
                               names)

    def _inputs(self, entry: Entry, images_as: str = "tensor") -> Tensor:
        images = entry.tensors["images"]
        if images_as == "png":
            images = as_bytes(images, "stretch").float() / 255
        return _fitted(images.to(self.model.device), self.model.image_size)

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


def _fitted(images: Tensor, size: int) -> Tensor:
    """Return images `(B, 3, size, size)`: enlarged as in inversion, or shrunk with antialiasing."""
    if images.shape[-1] <= size:
        return to_model_size(images, size)
    return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)
