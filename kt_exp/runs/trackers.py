"""Trackers: mirror a run to a service while it runs (config group `tracker`)."""

from __future__ import annotations

import json
import logging
import netrc
import os
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from PIL import Image

from kt_exp.atomic import write_atomically
from kt_exp.config.checks import choice, number
from kt_exp.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, UserError
from kt_exp.finetune.settings import EDIT
from kt_exp.report.plots import draw_run
from kt_exp.report.style import has_matplotlib
from kt_exp.results import summary
from kt_exp.results.calibrated import calibrated_rows
from kt_exp.results.record import RunRecord, plain

log = logging.getLogger(__name__)

WANDB_FILE = "wandb.json"  # beside result.json: which W&B run the folder has
WANDB_SERVER = "https://api.wandb.ai"


class Tracker(Protocol):
    """Receives the curves, images and results of a job; never affects them."""

    def start(self, record: RunRecord, folder: Path, sweep: Path | None) -> None:
        """Begin a run whose files go into `folder`; `sweep` is the folder of its multirun.

        Raises:
            UserError: the tracker cannot be used as configured.
        """
        ...

    def curve(self, stage: str, concept: str, value: str, steps: Sequence[int],
              numbers: Sequence[float]) -> None:
        """Log a full curve of a stage ("inversion", "finetune"); repeated calls are ignored."""
        ...

    def images(self, stage: str, concept: str, images: Sequence[Image.Image]) -> None:
        """Log the images that a stage made for a concept; repeated calls are ignored."""
        ...

    def finish(self, record: RunRecord) -> None:
        """End the run with `record.status`; called however the job ends, even if not started."""
        ...


@dataclass
class NoTracker:
    """Tracks nothing."""

    def start(self, record: RunRecord, folder: Path, sweep: Path | None) -> None: ...

    def curve(self, stage: str, concept: str, value: str, steps: Sequence[int],
              numbers: Sequence[float]) -> None: ...

    def images(self, stage: str, concept: str, images: Sequence[Image.Image]) -> None: ...

    def finish(self, record: RunRecord) -> None: ...


@dataclass
class LoggedRun:
    """The service's run of a folder, saved there until the job is completed.

    A requeued job continues the same run and logs nothing twice.

    Attributes:
        id: of the run; empty if there is none yet.
    """

    id: str
    names: list[str] = field(default_factory=list)  # of the curves and galleries logged so far

    @classmethod
    def of(cls, path: Path) -> LoggedRun:
        """Return the run of an earlier attempt from its file; one without id if there is none."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls("")

    def save(self, path: Path) -> None:
        """Write the file that `of` reads."""
        write_atomically(path, json.dumps(asdict(self)) + "\n")

    def remember(self, name: str, path: Path) -> None:
        """Add a curve or gallery to those logged, and save."""
        self.names.append(name)
        self.save(path)


@dataclass
class WandbTracker:
    """Weights & Biases: curves and images after each stage, at the end the metrics as summary
    and as table, and the trade-off of target and known accuracy as an image.

    The jobs of a multirun are one group; the stages that a job runs are its job type.
    """

    project: str
    entity: str | None
    name: str | None
    group: str | None
    tags: list[str]
    mode: str = choice("auto", "online", "offline", "disabled")
    init_timeout: float = number(above=0)

    def __post_init__(self) -> None:
        self._run: Any = None  # Set here, since dataclass fields are config keys.
        self._logged = LoggedRun("")
        self._folder = Path()

    def start(self, record: RunRecord, folder: Path, sweep: Path | None) -> None:
        mode = _resolve_mode() if self.mode == "auto" else self.mode
        wandb = _import_wandb()
        self._folder, self._logged = folder, LoggedRun.of(folder / WANDB_FILE)
        self._logged.id = self._logged.id or uuid.uuid4().hex[:12]
        group = self.group or ("/".join(sweep.absolute().parts[-2:]) if sweep else None)
        try:
            self._run = self._init(wandb, record, group, mode)
        except wandb.Error as error:
            if self.mode != "auto":
                raise UserError("tracker.mode", f"W&B does not start: {error}",
                                "try tracker.mode=offline or tracker=none") from error
            log.warning("W&B cannot be reached, this run is kept offline: %s", error)
            self._run = self._init(wandb, record, group, "offline")
        self._logged.save(folder / WANDB_FILE)
        for stage in ("inversion", "finetune"):
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def curve(self, stage: str, concept: str, value: str, steps: Sequence[int],
              numbers: Sequence[float]) -> None:
        name = f"{stage}/{concept}/{value}"
        if name in self._logged.names:
            return
        for step, measured in zip(steps, numbers, strict=True):
            self._run.log({f"{stage}/step": step, name: measured})
        self._logged.remember(name, self._folder / WANDB_FILE)

    def images(self, stage: str, concept: str, images: Sequence[Image.Image]) -> None:
        name = f"{stage}/{concept}/images"
        if name not in self._logged.names:
            image_type = _import_wandb().Image
            self._run.log({name: [image_type(image) for image in images]})
            self._logged.remember(name, self._folder / WANDB_FILE)

    def finish(self, record: RunRecord) -> None:
        if self._run is None:
            return
        if record.metrics:
            rows = [plain(asdict(row)) for row in record.metrics]
            table = _import_wandb().Table(columns=list(rows[0]),
                                          data=[list(row.values()) for row in rows])
            self._run.log({"results": table})
        if record.tradeoffs and has_matplotlib():
            self._run.log({"tradeoff": _import_wandb().Image(draw_run(record).image())})
        self._run.summary.update({"status": record.status, **final_values(record)})
        self._run.finish(exit_code=_exit_code(record))
        if self._run.settings.mode == "offline":
            log.info("W&B run kept offline; upload it with: wandb sync %s",
                     self._run.settings.sync_dir)
        if record.status == "completed":
            (self._folder / WANDB_FILE).unlink(missing_ok=True)
        self._run = None

    def _init(self, wandb: Any, record: RunRecord, group: str | None, mode: str) -> Any:
        # Git is disabled: W&B would upload the patch of uncommitted changes.
        settings = wandb.Settings(
            silent=True, console="off", disable_git=True, init_timeout=self.init_timeout,
        )
        config = plain(record.config)
        swept = {"concept": ", ".join(concept.name for concept in record.concepts),
                 "lr": config.get("finetune", {}).get("lr")}
        return wandb.init(
            project=self.project, entity=self.entity, name=self.name, group=group,
            job_type=_stages(config), tags=self.tags, mode=mode, dir=str(self._folder),
            config=config | swept, settings=settings, reinit="finish_previous",
            # Offline runs cannot resume; the upload merges runs with the same id.
            id=self._logged.id, resume="allow" if mode == "online" else None,
        )


def _stages(config: dict[str, Any]) -> str:
    """Return the stages that a job of this config runs: "inversion+finetune+evaluation"."""
    finetune = config.get("finetune", {})
    inverts = finetune.get("strategy") != EDIT and (
        finetune.get("images") == "inverted" or finetune.get("rehearsal"))
    return "+".join([*(["inversion"] if inverts else []), "finetune", "evaluation"])


def _exit_code(record: RunRecord) -> int:
    """Return the exit code that the job's own process would have."""
    if record.error and record.error.type == "UserError":
        return EXIT_BAD_INPUT
    return {"completed": 0, "failed": 1, "interrupted": EXIT_INTERRUPTED}[record.status]


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
    """Return whether W&B has a key, from the environment or ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", WANDB_SERVER)).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def final_values(record: RunRecord) -> dict[str, float]:
    """Return all metrics as "transferred/target/accuracy/moongate", and the table's means."""
    values = {
        f"{row.phase}/{row.split}/{row.metric}/{row.concept}": row.value
        for row in record.metrics if row.value is not None
    }
    for chosen in record.calibrations:
        if chosen.point.gamma is not None:
            values |= {f"calibrated/gamma/{name}": chosen.point.gamma for name in chosen.concepts}
    if rows := calibrated_rows(record):
        for split in ("target", "known"):
            if (accuracy := getattr(rows[-1], split)) is not None:
                values[f"calibrated/{split}/accuracy"] = accuracy.value
    mean = summary.mean_row(summary.concept_rows(record))
    for column, (phase, split) in summary.ACCURACIES.items():
        if (accuracy := getattr(mean, column)) is not None:
            values[f"{phase}/{split}/accuracy"] = accuracy.value
    return values
