"""Function words and endings of English, for splitting descriptions into parts."""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ARTICLES, PRONOUNS = _set("a an the"), _set("it they")
DEFINITE = PRONOUNS | _set("the this that these those its their")
DETERMINERS = DEFINITE | _set(
    "a an one two three four five six seven eight many several some few each both all various "
    "multiple half")
FREQUENCY = _set("often usually typically commonly generally sometimes frequently mostly normally")
RELATIVE = _set("that which who whose where when while")
NEGATIONS = _set("no not without never nor")
JOINING = _set("and or but also then each more less")
ALLOWING = _set("allow allows allowing")
VERBS = ALLOWING | _set(
    "is are was were be been may might can could must will would should does do did has have had "
    "appears appear appearing looks seems seem surrounds contains resembles")
PREPOSITIONS = _set(
    "of in on at to into onto from by for as like around across along over under above below "
    "between against through within inside near beneath behind beyond up out off down than")
# Participles without the ending "-ed", or too short to rely on it ("red", "seed").
PARTICIPLES = _set(
    "used tied made set seen found worn held hung built cut split woven shown drawn given ridden "
    "bound put laid sewn grown driven thrown lit")
# "framing views" is about views, "flashing lights" about lights: these words take an object.
TAKE_OBJECT = _set(
    "framing featuring containing showing creating forming holding including having giving "
    "covering surrounding resembling maintaining displaying carrying wearing using revealing")
ADVERBS = FREQUENCY | _set("alone flat together apart upright down up around all")
NO_ADVERBS = _set("family butterfly dragonfly assembly anomaly woolly scaly curly prickly bristly "
                  "bubbly pebbly wrinkly friendly")


def is_participle(word: str) -> bool:
    """Return whether a lower-case word looks like a past participle: "worn", not "red"."""
    return word in PARTICIPLES or (word.endswith("ed") and len(word) > 4)


def is_plural(word: str) -> bool:
    """Return whether a word looks like a plural: "legs", not "glass"."""
    return word.endswith("s") and not word.endswith(("ss", "us", "is"))


def is_adverb(word: str) -> bool:
    """Return whether a lower-case word looks like an adverb: "slowly", not "butterfly"."""
    ends_like_one = word.endswith("ly") and len(word) > 5
    return word in ADVERBS or (ends_like_one and word not in NO_ADVERBS)
