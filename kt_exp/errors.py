"""Errors that the user can fix, and exit codes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from errno import ENOMEM

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

# Control characters, marks of format (direction and others), and bytes that are not UTF-8.
_HIDDEN = {"Cc", "Cf", "Cs"}
_KEPT = "\n\t\u200c\u200d"  # The joiners are needed to write Persian, and for emoji.

# Of torch on the CPU, of CUDA, of safetensors and of C++.
_NO_MEMORY = ("can't allocate memory", "out of memory", "Cannot allocate memory", "bad_alloc")


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
        super().__init__(printable(" ".join(line.split())))


def printable(text: str) -> str:
    """Return text that is safe to show: control characters as escapes (`\\x1b`), but new lines.

    They could move the cursor, or hide what is written. The same goes for marks that turn the
    direction of writing, and for bytes of a file name that are not UTF-8.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    hidden = unicodedata.category(char) in _HIDDEN and char not in _KEPT
    return char.encode("unicode_escape").decode("ascii") if hidden else char


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that led to it, says that memory could not be allocated."""
    while error is not None:
        text = str(error)
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == ENOMEM \
                or any(words in text for words in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def did_you_mean(word: str, known: Iterable[str], most: int = 12) -> str:
    """Return "did you mean 'x'?" for a close match, else the known words as a short list.

    A list that is cut begins with the words that are most like `word`.
    """
    known = sorted(known)
    if not known:
        return "there are none"
    if close := get_close_matches(word, known, n=3, cutoff=0.5):
        return "did you mean " + " or ".join(f"'{match}'" for match in close) + "?"
    if len(known) > most:
        known.sort(key=lambda other: -SequenceMatcher(None, word, other).ratio())
    more = f" … ({len(known)} in all)" if len(known) > most else ""
    return "known: " + ", ".join(known[:most]) + more
