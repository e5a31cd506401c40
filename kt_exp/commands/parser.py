"""The parser of a command: errors in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from kt_exp.commands import COMMANDS
from kt_exp.errors import UserError


class SubcommandParser(argparse.ArgumentParser):
    """A parser whose errors are `UserError`."""

    def error(self, message: str) -> NoReturn:
        raise UserError("command line", message, f"{self.prog} --help")


class CommandParser(SubcommandParser):
    """The parser of `kt-exp NAME`."""

    def __init__(self, name: str, **about: str) -> None:
        super().__init__(prog=f"kt-exp {name}", description=f"{COMMANDS[name]}.".capitalize(),
                         **about)  # type: ignore[arg-type]
