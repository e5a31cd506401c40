"""Errors that the user can fix, and exit codes."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Bad input: shown as one line, `where: problem; remedy`, with exit code 2.

    Args:
        where: the config key (`inversion.steps`) or file that the user has to change.
        problem: what is wrong with it.
        remedy: how to fix it.
    """

    def __init__(self, where: str, problem: str, remedy: str = "") -> None:
        self.where, self.problem, self.remedy = where, problem, remedy
        line = f"{where}: {problem}" + (f"; {remedy}" if remedy else "")
        super().__init__(" ".join(line.split()))


def did_you_mean(word: str, known: Iterable[str], most: int = 12) -> str:
    """Return "did you mean 'x'?" for a close match, else the known words as a short list."""
    known = sorted(known)
    if not known:
        return "there are none"
    if close := get_close_matches(word, known, n=3, cutoff=0.5):
        return "did you mean " + " or ".join(f"'{match}'" for match in close) + "?"
    more = f" … ({len(known)} in all)" if len(known) > most else ""
    return "known: " + ", ".join(known[:most]) + more
