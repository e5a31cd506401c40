"""calibration.json beside a fine-tuned model: the constant γ for its concepts' scores."""

from __future__ import annotations

import json
from pathlib import Path

from kt_exp.atomic import write_atomically
from kt_exp.results.operating_point import Calibration

FILE_NAME = "calibration.json"


def write_calibration(calibration: Calibration, folder: Path) -> None:
    """Write `folder/calibration.json`."""
    text = json.dumps(calibration.to_json(), indent=2, ensure_ascii=False)
    write_atomically(folder / FILE_NAME, text + "\n")
