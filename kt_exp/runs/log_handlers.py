"""Logging of one run: its file, and the root logger's handlers while it runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from logging.config import DictConfigurator
from typing import Any

log = logging.getLogger(__name__)


class LogFile(logging.FileHandler):
    """A log file; if it cannot be written, that is said once, and the run goes on."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say why the file cannot be written, at the first time."""
        if not self._failed:
            self._failed = True
            log.warning("%s cannot be written: %s", self.baseFilename, sys.exc_info()[1])

    def close(self) -> None:
        """Close the file; what cannot be written is lost."""
        with suppress(OSError):
            super().close()


@contextmanager
def logging_as(config: Mapping[str, Any]) -> Iterator[None]:
    """Log with the root logger's handlers of `config` within the block.

    `logging.config.dictConfig` is not used, since it closes all handlers of the process: a log file
    of the caller would stay empty from then on.

    Args:
        config: formatters, filters, handlers and root, in the form of `dictConfig`.

    Raises:
        OSError: a log file cannot be opened.
    """
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    handlers = _Handlers(dict(config)).build()
    try:
        _replace(root, handlers)
        root.setLevel(config["root"]["level"])
        yield
    finally:
        _replace(root, before)
        root.setLevel(level)
        for handler in handlers:
            handler.close()


class _Handlers(DictConfigurator):
    def build(self) -> list[logging.Handler]:
        """Return the root logger's handlers, not yet attached."""
        for section, make in (("formatters", self.configure_formatter),
                              ("filters", self.configure_filter),
                              ("handlers", self.configure_handler)):
            for name, described in self.config[section].items():
                self.config[section][name] = make(described)
        return [self.config["handlers"][name] for name in self.config["root"]["handlers"]]


def _replace(root: logging.Logger, handlers: list[logging.Handler]) -> None:
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
