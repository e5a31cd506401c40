"""result.json: the record of a run: its config, its results and its status.

It is written when the run starts, with the status "interrupted", and again at the end. So a killed
run also leaves a correct record. docs/results.md describes every field.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from kt_exp.atomic import write_atomically
from kt_exp.errors import UserError
from kt_exp.results.checks import problems
from kt_exp.results.curve import Curve
from kt_exp.results.operating_point import Calibration
from kt_exp.results.outcome import Confusion, Diagnosis, Metric, Outcome, Phase, row_of

SCHEMA_VERSION = 5
FILE_NAME = "result.json"

Status = Literal["interrupted", "completed", "failed"]
MetricName = str  # those that `results.outcome.Metric` lists

REPORTED_PACKAGES = (
    "kt_exp", "torch", "torchvision", "open_clip_torch", "transformers", "torchmetrics",
    "hydra-core", "numpy", "pillow", "wandb",
)


@dataclass
class ConceptEntry:
    """A concept of the run.

    Attributes:
        caption: its first caption in training; empty where nothing is trained.
        strength: w of its closed-form edit; None without one.
    """

    name: str
    description: str
    caption: str
    diagnosis: Diagnosis | None
    strength: float | None = None


@dataclass
class TradeoffEntry:
    """The seen–unseen curve of a concept in one phase."""

    phase: Phase
    concept: str
    curve: Curve


@dataclass
class ErrorEntry:
    """The error that ended a failed run."""

    type: str
    message: str


@dataclass
class RunRecord:
    """The record of one run; `write_record` and `read_record` round-trip it."""

    command: list[str]
    config: dict[str, Any]
    overrides: list[str] = field(default_factory=list)
    seed: int | None = None
    device: str | None = None
    status: Status = "interrupted"
    error: ErrorEntry | None = None
    started: str = ""
    finished: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    peak_gib: dict[str, float] = field(default_factory=dict)
    signatures: dict[str, Any] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    git: dict[str, Any] | None = None
    concepts: list[ConceptEntry] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    confusions: list[Confusion] = field(default_factory=list)
    tradeoffs: list[TradeoffEntry] = field(default_factory=list)
    calibrations: list[Calibration] = field(default_factory=list)
    curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        self.started = self.started or _now()

    def close(self, status: Status, error: BaseException | None = None) -> None:
        """Set the status, the end time and the error."""
        self.status, self.finished = status, _now()
        if error is not None:
            self.error = ErrorEntry(type=type(error).__name__, message=str(error))

    def add_outcome(self, outcome: Outcome) -> None:
        """Append the results of one evaluation."""
        self.metrics += outcome.metrics
        self.confusions += outcome.confusions
        if outcome.curve:
            first = outcome.metrics[0]
            self.tradeoffs.append(TradeoffEntry(first.phase, first.concept, outcome.curve))

    def metric(self, phase: str, concept: str, split: str,
               metric: MetricName = "accuracy") -> Metric | None:
        """Return the row of a measurement; None if there is none."""
        key = (phase, concept, split, metric)
        for row in self.metrics:
            if (row.phase, row.concept, row.split, row.metric) == key:
                return row
        return None

    def calibration(self, concept: str) -> Calibration | None:
        """Return the operating point of the model that a concept was taught; None without one."""
        return next((row for row in self.calibrations if concept in row.concepts), None)

    def mistaken_for(self, phase: str, concept: str) -> list[Confusion]:
        """Return the other candidates that the concept's images were assigned to, most first."""
        rows = [
            row for row in self.confusions
            if row.phase == phase and row.concept == concept and row.predicted != concept
        ]
        return sorted(rows, key=lambda row: (-row.count, row.predicted))

    def elapsed(self) -> float | None:
        """Return the seconds from start to finish; None for an unfinished run."""
        if self.finished is None:
            return None
        end, start = datetime.fromisoformat(self.finished), datetime.fromisoformat(self.started)
        return (end - start).total_seconds()


def write_record(record: RunRecord, folder: Path) -> Path:
    """Write `folder/result.json` atomically; return its path."""
    path = folder / FILE_NAME
    ordered = {"schema_version": record.schema_version, **asdict(record)}
    for row, metric in zip(ordered["metrics"], record.metrics, strict=True):
        row["interval"] = metric.interval
    text = json.dumps(plain(ordered), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text + "\n")
    return path


class DamagedRecord(UserError):
    """A result.json that is no record: a partial copy, or not written by kt_exp."""


def read_record(path: Path | str) -> RunRecord:
    """Return the record in `path`, a result.json or the folder of one.

    Raises:
        UserError: the file does not exist, or has an unsupported schema version.
        DamagedRecord: it is not JSON, or something in it is not what a record holds.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}",
                        f"give a {FILE_NAME} or the folder of a run") from error
    except (ValueError, RecursionError) as error:
        raise DamagedRecord(str(path), f"is not valid JSON: {error}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version in (1, 2, 3, 4):  # They lack only these fields.
        content = {"notes": [], "tradeoffs": [], "calibrations": [], **content, "peak_gib": {},
                   "schema_version": SCHEMA_VERSION}
    elif version is None:
        raise DamagedRecord(str(path), "is not a run record: it has no schema_version")
    elif version != SCHEMA_VERSION:
        raise UserError(str(path), f"has schema version {version}",
                        f"this version of kt_exp reads versions 1 to {SCHEMA_VERSION}")
    names = {declared.name for declared in fields(RunRecord)}
    if wrong := sorted(names ^ content.keys()):
        raise DamagedRecord(str(path),
                            f"is not a run record: missing or unknown {', '.join(wrong)}")
    try:
        record = RunRecord(**{**content, **_typed(content)})
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DamagedRecord(str(path), f"is not a run record: {error}") from error
    if wrong := list(problems(record)):
        raise DamagedRecord(str(path), f"is not a run record: {wrong[0]}")
    return record


def _typed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that hold rows, with their rows typed."""
    error = content["error"]
    return {
        "error": ErrorEntry(**error) if error else None,
        "concepts": [_concept_entry(row) for row in content["concepts"]],
        "metrics": [row_of(Metric, row) for row in content["metrics"]],
        "confusions": [row_of(Confusion, row) for row in content["confusions"]],
        "tradeoffs": [TradeoffEntry(Phase(row["phase"]), row["concept"],
                                    Curve.from_json(row["curve"])) for row in content["tradeoffs"]],
        "calibrations": [Calibration.from_json(row) for row in content["calibrations"]],
    }


def _concept_entry(row: Mapping[str, Any]) -> ConceptEntry:
    found = row["diagnosis"]
    nearest = [(name, cosine) for name, cosine in found["nearest"]] if found else []
    diagnosis = Diagnosis(**{**found, "nearest": nearest}) if found else None
    return ConceptEntry(**{**row, "diagnosis": diagnosis})


def plain(value: Any) -> Any:
    """Return `value` in JSON's types: tuples as lists, paths as text, NaN and infinities as null.

    Raises:
        TypeError: something else is in there (a tensor, an object).
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"{type(value).__name__} does not belong into a run record")


def collect_versions() -> dict[str, str]:
    """Return the versions of Python and of packages that affect results, without importing them."""
    versions = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
