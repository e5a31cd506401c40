"""Find the fine-tuned model of a run: its changes, the store's entry, or an older whole export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kt_exp.checkpoints.changes import BASE_FILE, Base, read_changes
from kt_exp.concepts import folder_name, name_key
from kt_exp.errors import UserError, did_you_mean
from kt_exp.finetune.stage import KIND
from kt_exp.models.clip import OpenClip
from kt_exp.models.coca import Coca
from kt_exp.models.loading import CONFIG_FILE
from kt_exp.models.protocol import Model
from kt_exp.results.outcome import JOINT
from kt_exp.results.record import FILE_NAME, ConceptEntry, RunRecord, read_record
from kt_exp.store import Store

MODELS = "models"
JOINT_FOLDER = "_joint"


@dataclass(frozen=True)
class FoundModel:
    """A fine-tuned model of a run.

    Attributes:
        model: with the fine-tuned weights, on the CPU.
        run: the folder of the run.
        concepts: those that this model was taught.
    """

    model: Model
    run: Path
    record: RunRecord
    concepts: list[ConceptEntry]


def find_model(run: Path, concept: str | None) -> FoundModel:
    """Return the fine-tuned model of a run that knows `concept`.

    Args:
        run: the folder of the run.
        concept: in any case; None if the run has one model.

    Raises:
        UserError: no such run or concept, several models and no concept, or no saved weights.
    """
    if not (run / FILE_NAME).is_file():
        raise UserError(str(run), f"is not the folder of a run: it has no {FILE_NAME}",
                        "give the folder that the run's last line named")
    record = read_record(run)
    names = [entry.name for entry in record.concepts]
    if not names:
        raise UserError(str(run), f"the run taught nothing: it is {record.status}")
    joint = record.config.get("finetune", {}).get("scope") == "joint" and len(names) > 1
    chosen = _chosen(names, concept, joint)
    taught = names if joint else [chosen]
    model = _load(run, record, JOINT if joint else chosen,
                  JOINT_FOLDER if joint else folder_name(chosen))
    return FoundModel(model, run, record, [e for e in record.concepts if e.name in taught])


def _chosen(names: list[str], concept: str | None, joint: bool) -> str:
    if concept is None:
        if len(names) > 1 and not joint:
            raise UserError("--concept", "missing: the run has a model for each of "
                            f"{len(names)} concepts", f"give one of: {', '.join(names)}")
        return names[0]
    by_key = {name_key(name): name for name in names}
    if name_key(concept) not in by_key:
        raise UserError("--concept", f"the run has no concept '{concept}'",
                        did_you_mean(concept, names))
    return by_key[name_key(concept)]


def _load(run: Path, record: RunRecord, group: str, slug: str) -> Model:
    folder = run / MODELS / slug
    if (folder / BASE_FILE).is_file():
        return read_changes(folder)
    if (folder / CONFIG_FILE).is_file():
        return load_open_clip(folder, record.config.get("model", {}))
    if folder.is_dir():
        raise UserError(str(folder), "is a whole model already, in its library's own format",
                        "copy the folder")
    return _from_store(run, record, group)


def load_open_clip(folder: Path, model: Mapping[str, Any]) -> Model:
    """Return the model in a folder of open_clip's local-dir format, on the CPU.

    Args:
        model: the `model` section of the run that wrote it; empty if unknown.
    """
    kind = Coca if str(model.get("_target_", "")).endswith(".Coca") else OpenClip
    return kind(f"local-dir:{folder}", None).load(torch.device("cpu"), "fp32")


def _from_store(run: Path, record: RunRecord, group: str) -> Model:
    key = record.signatures.get("finetune", {}).get(group)
    root = Path(str(record.config.get("store", {}).get("root", ""))).expanduser()
    entry = Store(root).fetch(KIND, key) if key and (root / KIND).is_dir() else None
    if entry is None:
        raise UserError(str(run), f"has no saved weights of '{group}', nor has the store",
                        "run the job again: on_existing=rerun finetune.save_models=true")
    config = record.config
    base = Base(config["model"], config["precision"], record.signatures["model"])
    return base.changed(entry.tensors, root / KIND / f"{key}.safetensors")
