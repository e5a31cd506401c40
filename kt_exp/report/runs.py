"""Jobs on disk: their records, settings and measurements.

A job is a folder with a result.json, a folder that Hydra created for one, or a job that the
multirun.yaml of a sweep lists but that has no files yet.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from math import isclose
from pathlib import Path
from typing import Any

from kt_exp.concepts import name_key
from kt_exp.config.renames import with_current_names
from kt_exp.errors import UserError
from kt_exp.report.sweeps import MULTIRUN, planned, read_yaml, with_overrides
from kt_exp.results.outcome import Metric
from kt_exp.results.record import FILE_NAME, DamagedRecord, RunRecord, read_record

NOT_ENTERED = {"images", "models", ".submitit", "wandb"}
# Settings that do not affect a result, or that tables show in another way: seeds are aggregated,
# concepts are rows.
IGNORED = {
    "seed", "device", "traceback", "on_existing", "concepts.only", "concepts.items",
    "concepts.source", "concepts.on_long_caption", "finetune.save_models", "inversion.png",
    "inversion.chunk_size", "inversion.checkpoint_seconds", "benchmark.batch_size",
    "benchmark.workers", "model.cache",
}
IGNORED_GROUPS = {"store", "tracker", "hydra"}
INVERTED, INVERTED_OPTION = "inversion.model", "model@inversion.model"

Conditions = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """One job of a sweep, or a single run; `record` is None without a result.json."""

    folder: Path
    record: RunRecord | None
    config: Mapping[str, Any]
    overrides: Sequence[str]
    sweep: Path | None = None  # the folder that holds the multirun.yaml
    choices: Mapping[str, str] = field(default_factory=dict)  # the option of each config group

    @property
    def state(self) -> str:
        """completed, failed, interrupted (also while running; see status.py) or pending."""
        return "pending" if self.record is None else self.record.status

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The config with dotted keys; lists are JSON text.

        `inversion.model` is the name of its option; None if it is the model that is taught.
        """
        flat = dict(_flat(self.config))
        name = self.choices.get(INVERTED_OPTION)
        inverted = {key for key in flat if key.startswith(f"{INVERTED}.")}
        if not inverted or name is None:
            return flat
        same = self.config["inversion"]["model"] == self.config["model"]
        kept = {key: value for key, value in flat.items() if key not in inverted}
        return kept | {INVERTED: None if same else name}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The settings that affect a result; equal for runs that differ only in their seed."""
        included = set()
        if self.settings.get("finetune.scope") == "joint":
            included.add("concepts.only")  # concepts that share a model affect each other
        if self.settings.get("concepts.name") == "inline":
            included.add("concepts.items")  # inline sets have no name of their own
        return {
            key: value for key, value in self.settings.items()
            if key.split(".")[0] not in IGNORED_GROUPS and (key not in IGNORED or key in included)
        }

    @cached_property
    def concepts(self) -> list[str]:
        """The names of the job's concepts, also if it has not begun."""
        if self.record and self.record.concepts:
            return [concept.name for concept in self.record.concepts]
        section = self.config.get("concepts") or {}
        names = [item.get("name") for item in section.get("items") or [] if isinstance(item, dict)]
        only = {name_key(str(name)) for name in section.get("only") or []}
        return [name for name in names if name and (not only or name_key(name) in only)]

    def value(self, key: str) -> Any:
        """Return a setting, or the chosen option of a config group."""
        return self.settings[key] if key in self.settings else self.choices.get(key)

    def fits(self, conditions: Conditions) -> bool:
        """Return whether each key has the value in `conditions`, or one of a list of values.

        Numbers are compared as numbers; text is a pattern in which * matches anything. With a
        leading ! the rest must not match.
        """
        return all(_equal(self.value(key), expected) for key, expected in conditions.items())

    def measured(self, phase: str, concept: str | None, split: str | None,
                 metric: str) -> float | None:
        """Return a measured value; None if there is none.

        `split=None` matches any split; `concept=None` matches the only concept with such a value.
        """
        row = self.measurement(phase, concept, split, metric)
        return None if row is None else row.value

    def measurement(self, phase: str, concept: str | None, split: str | None,
                    metric: str) -> Metric | None:
        """Return a measured value with its counts; the arguments are those of `measured`."""
        rows = [row for row in (self.record.metrics if self.record else [])
                if (row.phase, row.metric) == (phase, metric)
                and split in (None, row.split)
                and (concept is None or name_key(row.concept) == name_key(concept))]
        return rows[0] if len({row.concept for row in rows}) == 1 else None


def find_jobs(paths: Iterable[Path | str], where: Conditions | None = None) -> list[Job]:
    """Return the jobs under `paths`: folders, searched recursively, or result.json files.

    Only jobs that fit the conditions `where` are returned.

    Raises:
        UserError: a path does not exist, a file is no record, or no runs are found or fit.
    """
    places = [Path(path) for path in paths]
    jobs: dict[tuple[Path, tuple[str, ...]], Job] = {}
    for path in places:
        if not path.exists():
            raise UserError(str(path), "no such folder", "give the folder of a run or of a sweep")
        if path.is_file():
            read_record(path)  # raises if damaged; in a folder this counts as a failed job
        found = _search(path) if path.is_dir() else [_read(path.parent, None)]
        for job in found:
            jobs.setdefault((job.folder.resolve(), tuple(job.overrides)), job)
    if not jobs:
        raise UserError(", ".join(map(str, places)), "no runs here",
                        f"give folders that hold a {FILE_NAME} or a {MULTIRUN}")
    fitting = [job for job in jobs.values() if job.fits(where or {})]
    if not fitting:
        raise UserError("--where", f"none of the {len(jobs)} runs fits",
                        "kt-report table without it shows what was varied")
    return fitting


def newest(jobs: Iterable[Job]) -> list[Job]:
    """Return one job for each combination of settings, seed and concepts.

    It is the newest completed one, or else the newest.
    """
    best: dict[Any, Job] = {}
    for job in jobs:
        # A job without a config is unlike any other.
        concepts = job.value("concepts.items"), job.value("concepts.only")
        key = repr((job.identity, job.value("seed"), concepts)) if job.config else job.folder
        if key not in best or _rank(job) > _rank(best[key]):
            best[key] = job
    return list(best.values())


def _rank(job: Job) -> tuple[bool, bool, str]:
    return (job.state == "completed", job.record is not None,
            job.record.started if job.record else "")


def _search(path: Path) -> Iterator[Job]:
    sweeps: dict[Path, list[Job]] = {}
    for folder, inside, files in os.walk(path):
        here = Path(folder)
        if MULTIRUN in files:
            sweeps[here] = []
        if FILE_NAME in files or ".hydra" in inside:
            job = _read(here, next((parent for parent in here.parents if parent in sweeps), None))
            if job.sweep:
                sweeps[job.sweep].append(job)
            inside[:] = []
            yield job
        inside[:] = sorted(set(inside) - NOT_ENTERED, key=_natural)
    for sweep, begun in sweeps.items():
        yield from _promised(sweep, begun)


def _read(folder: Path, sweep: Path | None) -> Job:
    hydra = read_yaml(folder / ".hydra" / "hydra.yaml") or {}
    choices = hydra.get("hydra", {}).get("runtime", {}).get("choices") or {}
    record = _record(folder) if (folder / FILE_NAME).exists() else None
    config = (record and record.config) or read_yaml(folder / ".hydra" / "config.yaml") or {}
    # Hydra's overrides have priority: a repeated sweep that skipped the job may have other ones
    # than the run that wrote the record.
    given = read_yaml(folder / ".hydra" / "overrides.yaml")
    overrides = list(map(str, given or (record.overrides if record else [])))
    chosen = {key: value for key, value in choices.items() if isinstance(value, str)}
    return Job(folder, record, with_current_names(config), overrides, sweep,
               chosen | _options(overrides))


def _record(folder: Path) -> RunRecord:
    try:
        return read_record(folder)
    except DamagedRecord as error:
        record = RunRecord(command=[], config={})
        record.close("failed", error)
        return record


def _promised(sweep: Path, begun: Sequence[Job]) -> Iterator[Job]:
    """Yield the jobs of a sweep without a folder; their config comes from a job that has begun.

    That job must have the same options of config groups, which bring other keys. Without such a
    job the config is empty.
    """
    there = {tuple(job.overrides) for job in begun}
    for folder, overrides in planned(sweep):
        if tuple(overrides) in there:
            continue
        options = _options(overrides)
        alike = (job for job in begun if job.config and _options(job.overrides) == options)
        job = next(alike, None)
        yield Job(folder, None, with_overrides(job.config, overrides) if job else {}, overrides,
                  sweep, dict(job.choices) if job else options)


def _options(overrides: Iterable[str]) -> dict[str, str]:
    """Return the config groups among overrides: keys without a dot, or with a package."""
    pairs = (override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
    return {key: value for key, value in pairs
            if ("." not in key or "@" in key) and key not in IGNORED}


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list) else value


def _equal(value: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return any(_equal(value, option) for option in expected)
    if isinstance(expected, str) and expected.startswith("!"):
        return not _equal(value, expected[1:])
    try:
        return isclose(float(value), float(expected), rel_tol=1e-9)
    except (TypeError, ValueError):
        return fnmatchcase(str(value).lower(), str(expected).lower())


def _natural(name: str) -> tuple[bool, int, str]:
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name
