"""Keeps code that comes with a model from being run.

A folder of transformers can hold Python code (`auto_map`), or name a kernel on the hub, which is
compiled code. transformers runs them if told to, and asks on standard input if told nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kt_exp.errors import UserError

_KERNEL_KEYS = ("attn_implementation", "_attn_implementation")


@contextmanager
def never_run(source: str | Path, where: str) -> Iterator[None]:
    """Load a model's files in this block: code of `source` is not run, and nobody is asked.

    Args:
        source: folder, or hub id; of a folder the configuration files are checked first.
        where: the config key that `source` came from, for error messages.

    Raises:
        UserError: the model needs code of its own, or a file asks for it to be trusted.
    """
    from transformers import dynamic_module_utils as remote  # takes seconds to import

    refuse_requests(Path(source))
    # Without a time to answer in, transformers does not ask.
    before, remote.TIME_OUT_REMOTE_CODE = remote.TIME_OUT_REMOTE_CODE, 0
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if "trust_remote_code" not in str(error) and not _brings_code(Path(source)):
            raise
        raise UserError(where, f"{source} cannot be loaded without the code that comes with it "
                        "(auto_map), which is never run",
                        "give a model whose classes transformers has") from error
    finally:
        remote.TIME_OUT_REMOTE_CODE = before


@contextmanager
def loading(source: str | Path, where: str, problem: str, remedy: str) -> Iterator[None]:
    """Load files by transformers in this block, as `never_run` does; its errors become one line.

    Args:
        source, where: as for `never_run`.
        problem, remedy: what to say where the library fails, which raises almost anything on
            damaged files; the first line of its error is added.

    Raises:
        UserError: the library raised, or as `never_run`.
    """
    try:
        with never_run(source, where):
            yield
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(where, f"{problem} ({reason})", remedy) from error


def refuse_requests(folder: Path) -> None:
    """Check the JSON files of a folder for keys that would run code; ignore any other path.

    Raises:
        UserError: a file has `trust_remote_code`, or names a kernel on the hub.
    """
    for path, content in _configs(folder):
        refuse_keys(content, str(path))


def refuse_keys(content: Any, where: str) -> None:
    """Check a parsed configuration for keys that would run code; `where` is its file.

    Raises:
        UserError: it has `trust_remote_code`, or names a kernel on the hub.
    """
    for key, value in _items(content):
        if key == "trust_remote_code" and value:
            raise UserError(where, "asks for trust_remote_code, which would run code that comes "
                            "with the model", "remove the key")
        if key in _KERNEL_KEYS and "/" in str(value):
            raise UserError(where, f"asks for the kernel {value}, which would run code from the "
                            f"hub", f"remove {key}")


def _brings_code(folder: Path) -> bool:
    return any(key == "auto_map" for _, content in _configs(folder) for key, _ in _items(content))


def _configs(folder: Path) -> Iterator[tuple[Path, Any]]:
    """Yield the configuration files of a folder with their content."""
    for path in sorted(folder.glob("*config.json")):
        try:
            yield path, json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # The loader of the file says what is wrong with it.
        except RecursionError as error:
            raise UserError(str(path), "is not valid JSON: nested too deeply",
                            "give the one that belongs to the weights") from error


def _items(content: Any) -> Iterator[tuple[str, Any]]:
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield from value.items()
            pending += value.values()
        elif isinstance(value, list):
            pending += value
