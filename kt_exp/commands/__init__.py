"""The commands of `kt-exp` beside running jobs: `kt-exp export …`. Each is imported when called.

Overrides hold a `=` and options begin with `-`, so a first word without either is a command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from kt_exp.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, UserError

COMMANDS = {
    "export": "a fine-tuned model as a whole checkpoint of open_clip or transformers",
    "store": "what the store of stage results holds; remove what may go; verify checksums",
    "predict": "a label for each image in a folder, among known and new names",
}


def command_of(arguments: Sequence[str]) -> str | None:
    """Return the command that the arguments of `kt-exp` begin with; None if they run a job."""
    return arguments[0] if arguments and arguments[0] in COMMANDS else None


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Run a command with its arguments; return the exit code, as `kt-exp` has them."""
    try:
        code = import_module(f"kt_exp.commands.{name}").run(arguments)
        sys.stdout.flush()
    except UserError as error:
        print(f"kt-exp {name}: error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has exited (`| head`). Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return int(code)
