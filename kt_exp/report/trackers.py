"""Trackers: mirror a run to a service while it runs (config group `tracker`)."""

from __future__ import annotations

import logging
import netrc
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from PIL import Image

from kt_exp.checks import choice, number
from kt_exp.errors import EXIT_INTERRUPTED, UserError
from kt_exp.report import summary
from kt_exp.report.record import RunRecord, plain

log = logging.getLogger(__name__)

EXIT_CODES = {"completed": 0, "failed": 1, "interrupted": EXIT_INTERRUPTED}
WANDB_SERVER = "https://api.wandb.ai"


class Tracker(Protocol):
    """What the pipeline tells a tracker; a tracker never changes a result."""

    def start(self, record: RunRecord, folder: Path) -> None:
        """Begin a run whose files go into `folder`.

        Raises:
            UserError: the tracker cannot be used as configured.
        """
        ...

    def log(self, stage: str, concept: str, step: int, values: dict[str, float]) -> None:
        """Take the values of one step of a stage ("inversion", "finetune")."""
        ...

    def images(self, stage: str, concept: str, images: Sequence[Image.Image]) -> None:
        """Take the images that a stage made for a concept."""
        ...

    def finish(self, record: RunRecord) -> None:
        """End the run as `record.status` says: called in a `finally`, started or not."""
        ...


@dataclass
class NoTracker:
    """Tracks nothing."""

    def start(self, record: RunRecord, folder: Path) -> None: ...

    def log(self, stage: str, concept: str, step: int, values: dict[str, float]) -> None: ...

    def images(self, stage: str, concept: str, images: Sequence[Image.Image]) -> None: ...

    def finish(self, record: RunRecord) -> None: ...


@dataclass
class WandbTracker:
    """Weights & Biases: curves and images on the way, the metrics as summary at the end."""

    project: str
    entity: str | None
    name: str | None
    group: str | None
    tags: list[str]
    mode: str = choice("auto", "online", "offline", "disabled")
    init_timeout: float = number(above=0)

    def __post_init__(self) -> None:
        self._run: Any = None  # no field: fields are config keys

    def start(self, record: RunRecord, folder: Path) -> None:
        mode = _resolve_mode() if self.mode == "auto" else self.mode
        wandb = _import_wandb()
        try:
            self._run = self._init(wandb, record, folder, mode)
        except wandb.Error as error:
            if self.mode != "auto":
                raise UserError("tracker.mode", f"W&B does not start: {error}",
                                "try tracker.mode=offline or tracker=none") from error
            log.warning("W&B cannot be reached, this run is kept offline: %s", error)
            self._run = self._init(wandb, record, folder, "offline")
        for stage in ("inversion", "finetune"):
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def log(self, stage: str, concept: str, step: int, values: dict[str, float]) -> None:
        named = {f"{stage}/{concept}/{name}": value for name, value in values.items()}
        self._run.log({f"{stage}/step": step, **named})

    def images(self, stage: str, concept: str, images: Sequence[Image.Image]) -> None:
        image_type = _import_wandb().Image
        self._run.log({f"{stage}/{concept}/images": [image_type(image) for image in images]})

    def finish(self, record: RunRecord) -> None:
        if self._run is None:
            return
        self._run.summary.update({"status": record.status, **_final_values(record)})
        self._run.finish(exit_code=EXIT_CODES[record.status])
        if self._run.settings.mode == "offline":
            log.info("W&B run kept offline; upload it with: wandb sync %s",
                     self._run.settings.sync_dir)
        self._run = None

    def _init(self, wandb: Any, record: RunRecord, folder: Path, mode: str) -> Any:
        # Not its git state either: W&B would upload the patch of uncommitted changes.
        settings = wandb.Settings(
            silent=True, console="off", disable_git=True, init_timeout=self.init_timeout,
        )
        return wandb.init(
            project=self.project, entity=self.entity, name=self.name, group=self.group,
            tags=self.tags, mode=mode, dir=str(folder), config=plain(record.config),
            settings=settings, reinit="finish_previous",
        )


def _import_wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError("tracker", "the package wandb is not installed",
                        "pip install wandb, or tracker=none") from error
    return wandb


def _resolve_mode() -> str:
    if chosen := os.environ.get("WANDB_MODE"):
        return chosen
    return "online" if _has_login() else "offline"


def _has_login() -> bool:
    """Whether W&B would find a key without asking: in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", WANDB_SERVER)).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _final_values(record: RunRecord) -> dict[str, float]:
    """Return every metric as "transferred/target/accuracy/moongate", and the means of the table."""
    values = {
        f"{row['phase']}/{row['split']}/{row['metric']}/{row['concept']}": row["value"]
        for row in record.metrics
    }
    mean = summary.mean_row(summary.concept_rows(record))
    for column, (phase, split) in summary.ACCURACIES.items():
        if (accuracy := getattr(mean, column)) is not None:
            values[f"{phase}/{split}/accuracy"] = accuracy.value
    return values
