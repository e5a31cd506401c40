"""MLflow: curves, images and results of a run on a tracking server or in a local store."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from PIL import Image

from kt_exp.errors import UserError
from kt_exp.report.plots import draw_run
from kt_exp.report.style import has_matplotlib
from kt_exp.results.record import RunRecord, plain
from kt_exp.runs.trackers import LoggedRun, final_values

log = logging.getLogger(__name__)

RUN_FILE = "mlflow.json"  # beside result.json: which MLflow run the folder has
_STATUS = {"completed": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_LONGEST = 500  # characters of a parameter, which servers of all versions take
_AT_ONCE = 100  # parameters, and metrics, of a request


@dataclass
class MlflowTracker:
    """MLflow: the config as parameters, curves as metrics, images and figures as artifacts.

    The jobs of a multirun have its folder as tag `sweep`. A requeued job continues its run.
    """

    experiment: str
    tracking_uri: Optional[str]
    name: Optional[str]
    tags: dict[str, str]

    def __post_init__(self) -> None:
        self._client: Any = None  # Set here, since dataclass fields are config keys.
        self._logged = LoggedRun("")
        self._folder = Path()

    def start(self, record: RunRecord, folder: Path, sweep: Path | None) -> None:
        try:
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise UserError("tracker", "the package mlflow is not installed",
                            "pip install 'kt_exp[mlflow]', or tracker=none") from error
        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{folder / 'mlruns'}"
        self._folder, self._logged = folder, LoggedRun.of(folder / RUN_FILE)
        try:
            self._client = MlflowClient(tracking_uri=uri)
            self._start(record, sweep)
        except (MlflowException, OSError) as error:
            self._client = None
            raise UserError("tracker.tracking_uri", f"MLflow does not start at {uri}: "
                            f"{str(error).splitlines()[0][:200]}",
                            "give the address of a server or a folder, or tracker=none") from error

    def curve(self, stage: str, concept: str, value: str, steps: Sequence[int],
              numbers: Sequence[float]) -> None:
        name = f"{stage}/{concept}/{value}"
        if name not in self._logged.names:
            self._log_metrics((_key(name), number, step)
                              for step, number in zip(steps, numbers, strict=True))
            self._logged.remember(name, self._folder / RUN_FILE)

    def images(self, stage: str, concept: str, images: Sequence[Image.Image]) -> None:
        name = f"{stage}/{concept}/images"
        if name not in self._logged.names:
            for number, image in enumerate(images):
                self._client.log_image(self._logged.id, image, f"{_key(name)}/{number:02d}.png")
            self._logged.remember(name, self._folder / RUN_FILE)

    def finish(self, record: RunRecord) -> None:
        if self._client is None:
            return
        self._log_metrics((_key(name), value, 0) for name, value in final_values(record).items())
        if record.tradeoffs and has_matplotlib():
            self._client.log_image(self._logged.id, draw_run(record).image(), "tradeoff.png")
        self._client.set_terminated(self._logged.id, _STATUS[record.status])
        if record.status == "completed":
            (self._folder / RUN_FILE).unlink(missing_ok=True)
        self._client = None

    def _start(self, record: RunRecord, sweep: Path | None) -> None:
        if self._logged.id:
            self._client.update_run(self._logged.id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found else \
            self._client.create_experiment(self.experiment)
        tags = {**self.tags, **({"sweep": str(sweep.absolute())} if sweep else {})}
        run = self._client.create_run(experiment, tags=tags, run_name=self.name)
        self._logged = LoggedRun(run.info.run_id)
        self._logged.save(self._folder / RUN_FILE)
        self._log_params(dict(_flat(plain(record.config))))

    def _log_params(self, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        params = [Param(_key(name), value[:_LONGEST]) for name, value in values.items()]
        for first in range(0, len(params), _AT_ONCE):
            self._client.log_batch(self._logged.id, params=params[first:first + _AT_ONCE])

    def _log_metrics(self, values: Iterator[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, float(value), now, step) for name, value, step in values]
        for first in range(0, len(metrics), _AT_ONCE):
            self._client.log_batch(self._logged.id, metrics=metrics[first:first + _AT_ONCE])


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _key(name: str) -> str:
    """Return a name in the characters that MLflow takes."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-./ ") else "_" for c in name)
