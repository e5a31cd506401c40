"""What a user of the installed package gets: its data files and its types."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SCRIPT = """
import kt_exp

record = kt_exp.run(["seed=1"], folder="out")
reveal_type(record.metric("transferred", "gyroscope", "target"))
config = kt_exp.compose()
reveal_type(config.finetune.lr)
reveal_type(kt_exp.load_model(config))
reveal_type(kt_exp.read_run("out"))
reveal_type(kt_exp.read_runs)
kt_exp.run(seed=1)
"""
# Libraries that say nothing of our own types, left out for speed.
CONFIG = """
[mypy]
ignore_missing_imports = true
[mypy-torch.*,torchvision.*,transformers.*,open_clip.*,timm.*,numpy.*,PIL.*,rich.*,hydra.*,omegaconf.*]
follow_imports = skip
"""


def test_the_wheel_ships_types_configs_and_weights(tmp_path) -> None:
    pytest.importorskip("hatchling", reason="builds the wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
                   cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"kt_exp/py.typed", "kt_exp/conf/config.yaml", "kt_exp/conf/model/pictoclip.yaml",
            "hydra_plugins/kt_exp_launcher.py"} <= names
    weights = (ROOT / "kt_exp").rglob("*.safetensors")
    assert {str(path.relative_to(ROOT)) for path in weights} <= names
    assert not [name for name in names if name.startswith(("tests/", "outputs/"))]


@pytest.mark.slow
def test_a_users_type_checker_sees_the_functions(tmp_path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    found = subprocess.run([sys.executable, "-m", "mypy", "script.py"], cwd=tmp_path, text=True,
                           capture_output=True, check=False,
                           env=os.environ | {"MYPYPATH": str(ROOT)}).stdout
    for number, revealed in ((5, "kt_exp.results.outcome.Metric | None"), (7, "float"),
                             (8, "kt_exp.models.protocol.Model"),
                             (9, "kt_exp.results.record.RunRecord"), (10, "folder: pathlib.Path")):
        assert any(line.startswith(f"script.py:{number}:") and revealed in line
                   for line in found.splitlines()), found
    assert 'script.py:11: error: Unexpected keyword argument "seed" for "run"' in found
