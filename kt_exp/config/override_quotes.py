"""Quotes for words in overrides: outside of quotes, Hydra's grammar knows neither `~` nor letters
that are not ASCII."""

from __future__ import annotations

import re

# Hydra's functions of values and of sweeps. Any other "(" is part of a word.
_FUNCTION = re.compile(r"\s*(?:bool|choice|extend_list|float|glob|int|interval|json_str|range|"
                       r"shuffle|sort|str|tag)\Z")
_OPENING_QUOTE = re.compile(r"\s*(['\"])")
_REFERENCE = re.compile(r"\$\{[^{}]*\}")


def quote(text: str) -> str:
    """Return `text` as a quoted string of Hydra's override grammar."""
    # In Hydra's quotes a backslash is special only before a quote, and before the last one.
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + found[2].replace("'", r"\'"),
                     text)
    return f"'{escaped}'"


def with_quotes(argument: str) -> str:
    """Return a command-line argument with its words that are not ASCII, or hold a `~`, in quotes.

    Words are what stands between brackets, braces and commas: `only=[hot dog,Röntgenbild]` becomes
    `only=[hot dog,'Röntgenbild']`. Options, keys, ASCII words and quoted words are not changed.
    """
    key, equals, value = argument.partition("=")
    if _is_plain(value) or key.startswith("-"):
        return argument
    return key + equals + _Reader(value).quoted()


def _is_plain(text: str) -> bool:
    return text.isascii() and "~" not in text


class _Reader:
    """Reads the value of one override from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.open: list[str] = []  # brackets that are not closed yet
        self.before_key = False  # whether the next word is a key of a mapping

    def quoted(self) -> str:
        parts = []
        while self.at < len(self.text):
            parts.append(self._word())
            parts.append(self._delimiter())
        return "".join(parts)

    def _word(self) -> str:
        start = self.at
        if opening := _OPENING_QUOTE.match(self.text, start):
            self.at = self._end_of_quotes(opening.end(), opening[1])
            return self.text[start:self.at]
        while self.at < len(self.text) and not self._ends_word(start):
            reference = _REFERENCE.match(self.text, self.at)
            self.at = reference.end() if reference else self.at + 1
        word = self.text[start:self.at]
        return word if _is_plain(word) else word.replace(word.strip(), quote(word.strip()))

    def _ends_word(self, start: int) -> bool:
        letter = self.text[self.at]
        if letter == "(":
            return bool(_FUNCTION.match(self.text[start:self.at]))
        if letter == ")":
            return self.open[-1:] == ["("]
        return letter in "[]{}," or (letter == ":" and self.before_key)

    def _delimiter(self) -> str:
        """Return the letter that ends a word; "" at the end of the text."""
        letter = self.text[self.at:self.at + 1]
        self.at += 1
        if letter and letter in "[{(":
            self.open.append(letter)
        elif letter and letter in "]})" and self.open:
            self.open.pop()
        self.before_key = letter in ("{", ",") and self.open[-1:] == ["{"]
        return letter

    def _end_of_quotes(self, at: int, quotes: str) -> int:
        while at < len(self.text) and self.text[at] != quotes:
            at += 2 if self.text[at] == "\\" else 1
        return min(at + 1, len(self.text))
