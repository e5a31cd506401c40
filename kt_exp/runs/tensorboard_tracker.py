"""TensorBoard: curves, images and results as event files in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from PIL import Image

from kt_exp.errors import UserError
from kt_exp.report.plots import draw_run
from kt_exp.report.style import has_matplotlib
from kt_exp.results.record import RunRecord, plain
from kt_exp.runs.trackers import final_values

FOLDER = "tensorboard"  # in the run's folder


@dataclass
class TensorBoardTracker:
    """TensorBoard: curves and images after each stage, at the end the metrics as scalars.

    Event files of an earlier attempt in the same folder are replaced: all curves come again.
    """

    log_dir: Optional[str]

    def __post_init__(self) -> None:
        self._writer: Any = None  # Set here, since dataclass fields are config keys.
        self._logged: set[str] = set()

    def start(self, record: RunRecord, folder: Path, sweep: Path | None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError("tracker", "the package tensorboard is not installed",
                            "pip install 'kt_exp[tensorboard]', or tracker=none") from error
        home = Path(self.log_dir).expanduser() / folder.name if self.log_dir else folder / FOLDER
        try:
            home.mkdir(parents=True, exist_ok=True)
            for former in home.glob("events.out.tfevents.*"):
                former.unlink()
        except OSError as error:
            raise UserError("tracker.log_dir", f"cannot write to {home} ({error.strerror})",
                            "name a folder you may write to") from error
        self._writer = SummaryWriter(str(home))
        config = json.dumps(plain(record.config), indent=2, ensure_ascii=False)
        self._writer.add_text("config", "\n".join(f"    {line}" for line in config.splitlines()))

    def curve(self, stage: str, concept: str, value: str, steps: Sequence[int],
              numbers: Sequence[float]) -> None:
        name = f"{stage}/{concept}/{value}"
        if self._is_new(name):
            for step, number in zip(steps, numbers, strict=True):
                self._writer.add_scalar(name, number, step)

    def images(self, stage: str, concept: str, images: Sequence[Image.Image]) -> None:
        name = f"{stage}/{concept}/images"
        if images and self._is_new(name):
            pixels = np.stack([np.asarray(image.convert("RGB")) for image in images])
            self._writer.add_images(name, pixels, dataformats="NHWC")

    def finish(self, record: RunRecord) -> None:
        if self._writer is None:
            return
        for name, value in final_values(record).items():
            self._writer.add_scalar(name, value)
        if record.tradeoffs and has_matplotlib():
            picture = np.asarray(draw_run(record).image().convert("RGB"))
            self._writer.add_image("tradeoff", picture, dataformats="HWC")
        self._writer.add_text("status", record.status)
        self._writer.close()
        self._writer = None

    def _is_new(self, name: str) -> bool:
        new = name not in self._logged
        self._logged.add(name)
        return new
