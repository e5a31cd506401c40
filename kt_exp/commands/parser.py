"""The parser of a command: errors in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from kt_exp.commands import COMMANDS
from kt_exp.errors import UserError


class CommandParser(argparse.ArgumentParser):
    """A parser for `kt-exp NAME`, whose errors are `UserError`."""

    def __init__(self, name: str, **about: str) -> None:
        super().__init__(prog=f"kt-exp {name}", description=f"{COMMANDS[name]}.".capitalize(),
                         **about)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise UserError("command line", message, f"{self.prog} --help")
