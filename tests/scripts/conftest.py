"""`scripts/prepare_data.py` on small downloads, made here in the formats they are published in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import prepare_data
import pytest
from PIL import Image

Prepare = Callable[..., str]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "download"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "prepared"


@pytest.fixture
def prepare(source: Path, out: Path, capsys) -> Prepare:
    """Prepare a data set and return what is said of it."""

    def run(name: str, *options: str) -> str:
        code = prepare_data.main([name, "--source", str(source), "--out", str(out), *options])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


@pytest.fixture
def refused(source: Path, out: Path, capsys) -> Prepare:
    """Try to prepare a data set that cannot be; return the one line that says why."""

    def run(name: str, *options: str) -> str:
        code = prepare_data.main([name, "--source", str(source), "--out", str(out), *options])
        captured = capsys.readouterr()
        assert (code, captured.out) == (2, "")
        assert len(captured.err.splitlines()) == 1
        assert not out.exists()
        assert {path.name for path in out.parent.iterdir()} == {source.name}
        return captured.err

    return run


def picture(path: Path, side: int = 8) -> Path:
    """Write a small picture, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), "teal").save(path)
    return path


def gray(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
