"""The parts of a description, as short noun phrases: "a larger wall", "a metallic finish".

Prompts of single descriptors can classify better than one long sentence (Menon & Vondrick, ICLR
2023). There a language model writes the descriptors; here rules extract them from the description.
It is split at commas, connectives and verbs, and words before a noun phrase are removed. The rules
use only function words and endings of English (`english.py`). Unusual sentences may give odd parts;
a concept can list its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kt_exp.concepts.captions import inside_sentence
from kt_exp.concepts.english import (
    ADVERBS,
    ALLOWING,
    ARTICLES,
    DEFINITE,
    DETERMINERS,
    FREQUENCY,
    JOINING,
    NEGATIONS,
    PREPOSITIONS,
    PRONOUNS,
    RELATIVE,
    TAKE_OBJECT,
    VERBS,
    is_adverb,
    is_participle,
    is_plural,
)

TEMPLATE = "a photo of {}."
PREDICATES = frozenset({"verb", "adverb", "clause"})  # kinds of pieces that may lack a noun


@dataclass
class _Piece:
    """Words between two cuts, with commas where pieces were joined again.

    `kind` tells what cut them off: start, comma, with, as, and, allow, or one of PREDICATES.
    `after_comma` is true for the kind comma, and for an adverb after one.
    """

    kind: str
    words: list[str]
    after_comma: bool = False


def description_parts(description: str, own: Sequence[str] = ()) -> list[str]:
    """Return the parts of a description, in order and each once; at least one.

    `own` parts listed by a concept are returned unchanged. A description without parts is its only
    part. Negated parts are left out: text encoders largely ignore a "no".
    """
    if own:
        return list(own)
    sentences = re.split(r"(?<=[.!?;:])\s+", description.strip())
    parts = [part for sentence in sentences for part in _of_sentence(sentence.rstrip(" .!?;:"))]
    whole = description.strip().rstrip(". ") or description
    return list(dict.fromkeys(parts)) or [inside_sentence(whole)]


def part_prompts(parts: Sequence[str], template: str = TEMPLATE) -> list[str]:
    """Return one prompt per part: the template with the part for `{}`."""
    return [template.replace("{}", part) for part in parts]


def _of_sentence(sentence: str) -> Iterator[str]:
    first = re.split(r"[\s,]", sentence, maxsplit=1)[0]
    for joined in _joined(_cut(sentence)):
        for piece in _cut_at_and(joined):
            if words := _noun_phrase(piece):
                part = " ".join(words).replace(" ,", ",")
                yield inside_sentence(part) if words[0] == first else part


def _cut(sentence: str) -> list[_Piece]:
    """Split at commas, "with", "as", relative pronouns, adverbs of frequency and common verbs."""
    pieces = [_Piece("start", [])]
    before = ""
    for word in re.findall(r",|[^\s,]+", sentence):
        last = pieces[-1]
        kind = _kind_of_cut(word.lower(), before, [word.lower() for word in last.words])
        if kind is None:
            last.words.append(word)
        else:
            if kind == "with":
                last.words = _without_participle(last.words)
            after_comma = kind == "comma" or (kind == "adverb" and before == ",")
            is_negation = word.lower() in NEGATIONS
            pieces.append(_Piece(kind, [word] if is_negation else [], after_comma))
        before = word.lower()
    return [piece for piece in pieces if piece.words]


def _kind_of_cut(word: str, before: str, piece: Sequence[str]) -> str | None:
    if word == ",":
        return "comma"
    if word in ("with", "without"):
        return "with"
    if word in RELATIVE:
        return "clause"
    if word in FREQUENCY:
        return "adverb"
    if word in ALLOWING and before:
        return "allow"
    if (word in VERBS and before not in ("", "to")) or (len(piece) == 1 and piece[0] in PRONOUNS):
        return "verb"
    if word == "as" and before not in ("", "such", ","):
        return "as"
    return None


def _joined(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Rejoin lists of adjectives, lists with "or" and examples ("such as") split at commas."""
    joined: list[_Piece] = []
    for piece in pieces:
        if joined and piece.after_comma and piece.words[0] == "or":
            while len(joined) > 1 and joined[-1].kind == "comma" and len(joined[-1].words) == 1:
                piece = _join(joined.pop(), piece)
            piece = _join(joined.pop(), piece)
        elif joined and piece.after_comma and _goes_on(joined[-1], piece):
            piece = _join(joined.pop(), piece)
        joined.append(piece)
    return joined


def _goes_on(first: _Piece, second: _Piece) -> bool:
    """Return whether `first` is incomplete without `second`, as "a large" in "a large, round X"."""
    words = second.words[1:] if second.words[0] == "and" else second.words
    if not words or words[0] in DETERMINERS | PREPOSITIONS or _verbal(words) is not None \
            or (second.kind == "adverb" and is_participle(words[0])):
        return False
    if "such as" in " ".join(first.words):
        return len(words) <= 3
    is_single = len(first.words) == 1 or first.words[-2].lower() in ARTICLES | {","}
    is_noun_alone = len(words) == 1 and is_plural(words[0])
    return is_single and not is_noun_alone and not is_plural(first.words[-1])


def _join(first: _Piece, second: _Piece) -> _Piece:
    return _Piece(first.kind, [*first.words, ",", *second.words], first.after_comma)


def _cut_at_and(piece: _Piece) -> list[_Piece]:
    """Split at each "and" between noun phrases, but not "red and white", "hot water and steam"."""
    for at, word in enumerate(piece.words):
        left, right = piece.words[:at], piece.words[at + 1 :]
        if word == "and" and left and right and "between" not in left and (
                right[0] in DETERMINERS | NEGATIONS or _verbal(right) is not None
                or (is_plural(left[-1]) and len(right) > 1)):
            kind = piece.kind if piece.kind == "allow" else "and"
            return [_Piece(piece.kind, left), *_cut_at_and(_Piece(kind, right))]
    return [piece]


def _noun_phrase(piece: _Piece) -> list[str]:
    """Return the noun phrase of a piece and what follows it; empty without a noun phrase."""
    if NEGATIONS & {word.lower() for word in piece.words}:
        return []
    words, led = _without_lead(piece.words, may_be_verbal=piece.kind not in ("with", "as"))
    if piece.kind in PREDICATES and not led and words and words[0].lower() not in DETERMINERS:
        words, led = _within_predicate(piece.kind, words), True
    if piece.kind == "allow" and "to" in words:
        words = words[: words.index("to")]
    while words and (words[-1].lower() in JOINING | PREPOSITIONS - {"down", "beyond"}
                     or is_adverb(words[-1].lower())):
        words = words[:-1]
    if len(words) == 1 and (led or not is_plural(words[0])):
        return []
    return [] if len(words) == 2 and words[0].lower() in DEFINITE else words


def _without_lead(words: list[str], may_be_verbal: bool = True) -> tuple[list[str], bool]:
    """Return the words without those before a noun phrase ("typically ridden by").

    Also return whether more than a conjunction was removed.
    """
    led, before = False, ""
    while words:
        first, rest = words[0].lower(), words[1:]
        if words[:2] in (["such", "as"], ["all", "of"]):
            words = words[2:]
        elif first in JOINING or first == ",":
            words = rest
        elif first in PREPOSITIONS or is_adverb(first):
            words, led = rest, True
        elif before == "for" and first.endswith("ing"):
            words = rest
        elif may_be_verbal and (after := _verbal(words)) is not None:
            words, led = after, True
        else:
            break
        before = first if first not in JOINING else before
    return words, led


def _verbal(words: Sequence[str]) -> list[str] | None:
    """Return what follows a participle with an object or a preposition.

    Examples: "framing views", "woven into a mesh", "used to hold soup". None if the words do not
    start with such a participle.
    """
    first, rest = words[0].lower(), list(words[1:])
    if first == "each" and rest:
        return _verbal(rest)
    if first in TAKE_OBJECT:
        return rest
    if not (is_participle(first) or first.endswith("ing")):
        return None
    while rest and is_adverb(rest[0].lower()):
        rest = rest[1:]
    if rest[:1] == ["to"]:
        return rest[2:]
    return rest if rest and rest[0].lower() in PREPOSITIONS | DETERMINERS else None


def _within_predicate(kind: str, words: list[str]) -> list[str]:
    """Return the noun phrase in "visible against a wall", "blows warm air"; may be empty."""
    if kind == "clause" and words[0].endswith("s"):
        return _without_lead(words[1:])[0]
    for at, word in enumerate(words):
        if word in PREPOSITIONS:
            return _without_lead(words[at:])[0]
    has_noun = any(is_plural(word) for word in words) or (kind == "clause" and "and" in words)
    return words if has_noun else []


def _without_participle(words: list[str]) -> list[str]:
    """Return the words without a participle at their end: "dough covered" of "covered with"."""
    end = len(words)
    while end and words[end - 1].lower() in ADVERBS | PREPOSITIONS:
        end -= 1
    if end and is_participle(words[end - 1].lower()):
        return words[: end - 1]
    return words
