"""What tests of several folders share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["fixtures.images", "fixtures.records"]


@pytest.fixture
def offline_records() -> Callable[[Path], list[Any]]:
    """Reads all records of an offline W&B run, given its file."""
    return _wait_for_the_end


def _wait_for_the_end(path: Path) -> list[Any]:
    """W&B's service writes the last bytes a moment after `finish` returned."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        records = list(_read_offline_run(path))
        if records and records[-1].HasField("exit"):
            return records
        time.sleep(0.05)
    raise TimeoutError(f"no end in {path}")


def _read_offline_run(path: Path) -> Iterator[Any]:
    """Read a .wandb file: records in LevelDB's log format (32 KiB blocks) after a 7-byte header."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(content[position + 4:position + 6], "little"), \
            content[position + 6]
        if kind == 0:
            position += left
            continue
        parts += content[position + 7:position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
