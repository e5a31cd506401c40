"""The training script, on a corpus small enough to take seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_pictoclip.py"
SMALL = [
    "--steps", "2", "--names", "20", "--per-name", "2", "--per-known", "1", "--free", "20",
    "--batch", "8", "--threads", "1",
]


def test_one_seed_gives_one_model(tmp_path):
    for name in ("first", "second"):
        subprocess.run([sys.executable, SCRIPT, *SMALL, "--out", tmp_path / name], check=True,
                       capture_output=True)
    written = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert "open_clip_model.safetensors" in written
    for name in written:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
