"""Export a fine-tuned model as a whole checkpoint that its library loads, with its model card."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from kt_exp.checkpoints import FORMATS
from kt_exp.checkpoints.card import Card, method_of, write_card
from kt_exp.checkpoints.find import FoundModel
from kt_exp.checkpoints.hugging_face import export_hugging_face
from kt_exp.checkpoints.measured import measured
from kt_exp.checkpoints.usage import Usage, write_usage
from kt_exp.errors import UserError, did_you_mean
from kt_exp.models.clip import OpenClipModel
from kt_exp.models.protocol import Model


def export_model(model: Model, card: Card, folder: Path, form: str) -> Path:
    """Write a whole checkpoint and its card into `folder`, all or nothing; return it.

    Args:
        form: `open_clip` (a `local-dir`), `hf` (a `CLIPModel` of transformers), or `native` (what
            the model's own `export` writes; of a CLIP of open_clip a `local-dir`).

    Raises:
        UserError: `folder` holds something, or the model has no such format.
    """
    if form not in FORMATS:
        raise UserError("--format", f"'{form}' is not a format", did_you_mean(form, FORMATS))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("--out", f"{folder} is not an empty folder", "give another")
    native = "open_clip" if isinstance(model, OpenClipModel) else "native"
    if form == "open_clip" and native != form:
        raise UserError("--format", f"{type(model).__name__} is none of open_clip's models",
                        "use --format native")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UserError("--out", f"cannot write to {folder.parent} ({error.strerror})") from error
    try:
        made = draft / "model"
        made.mkdir()  # with the permissions of any new folder
        export_hugging_face(model, made) if form == "hf" else model.export(made)
        write_card(card, made, native if form == "native" else form)
        write_usage(card.usage, made)
        _readable_as(made)
        made.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def card_of(found: FoundModel, license: str | None = None) -> Card:
    """Return the card of a run's fine-tuned model.

    Raises:
        UserError: the run's file of margins is damaged.
    """
    config = found.record.config
    return Card(
        base=config.get("model", {}),
        usage=Usage.in_run(config, {one.name: one.description for one in found.concepts}),
        method=method_of(config),
        measured=[measured(found.record, found.run, entry.name) for entry in found.concepts],
        license=license)


def _readable_as(folder: Path) -> None:
    """Give files the permissions of the folder: safetensors makes them unreadable to others."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
