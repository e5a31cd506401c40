"""Captions of a concept, for fine-tuning and as prompts."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from kt_exp.concepts import Concept
from kt_exp.errors import UserError

log = logging.getLogger(__name__)

# Articles depend on sound. These few rules cover how English names begin. The library inflect is no
# better: it takes a second to import, and gives "a 8-ball" and "a SUV".
CONSONANT_SOUND = re.compile(
    r"eu|ew|on(?:e|ce)|oui|uni(?!m|n|dent)|us[aeiu]|ut[aeio]|u[kr][aeiou]|ukr|ubi|uga|uvu"
)
VOWEL_SOUND = re.compile(r"[aeiou]|hour|hono|hones|heir|8|1[18](?!\d)")
LETTERS_WITH_VOWEL = "AEFHILMNORSX"  # as spelled out: "an MRI", "a CT scan"

OWN_ARTICLE = re.compile(r"(?:an?|the) ", re.IGNORECASE)
BEFORE_NAME = re.compile(r"\b(an?) (?=\{\})", re.IGNORECASE)
ANY_BEFORE_NAME = re.compile(r"\b(?:an?|the) (?=\{\})", re.IGNORECASE)
# "a photo of a large {}": the adjective belongs to the name, "a photo of" does not
INDEFINITE_BEFORE_PLURAL = re.compile(
    r"(?:(?<=\bof )an? (?=(?:(?!of )[^{])*\{\})|\ban? (?=\{\}))", re.IGNORECASE
)
# A first word that keeps its capital inside a sentence: "X-ray", "MRI", "T-shaped", "McIntosh"
KEEPS_CAPITAL = re.compile(r"[^\W\d_]-|\w*\w[A-Z]")

SHOWN = 90


def indefinite(name: str) -> str:
    """Return "a" or "an", depending on the first sound of `name`."""
    first = re.split(r"[\s-]", name, maxsplit=1)[0]
    spelled_out = first.isalpha() and (len(first) == 1 or first.isupper())
    if spelled_out:
        vowel = first[0].upper() in LETTERS_WITH_VOWEL
    else:
        word = unicodedata.normalize("NFKD", first.lower())  # é is e and an accent
        vowel = bool(VOWEL_SOUND.match(word) and not CONSONANT_SOUND.match(word))
    return "an" if vowel else "a"


def fill(template: str, name: str, plural: bool = False) -> str:
    """Return `template` with `name` for `{}` and the article adjusted.

    "a photo of a {}." gives "a photo of an umbrella.", "a photo of skis." for a plural, and
    "a photo of the moon." for a name with its own article.
    """
    if OWN_ARTICLE.match(name):
        template = ANY_BEFORE_NAME.sub("", template)
    elif plural:
        template = INDEFINITE_BEFORE_PLURAL.sub("", template)
    else:
        template = BEFORE_NAME.sub(lambda found: _like(found[1], indefinite(name)) + " ", template)
    return template.replace("{}", name)


def named(concept: Concept, article: str = "fitted") -> str:
    """Return "A {name} is {description}", the caption of fine-tuning (paper, sections 3 and E.2).

    With `article` "a" it begins with "A {name} is" for every name, as in the authors' script;
    "fitted" says "An umbrella is" and "Skis are". The description starts in lower case (except
    "X-ray", "MRI") and ends with one full stop. The rest is unchanged.
    """
    subject = concept.name
    if article == "a":
        return _ended(f"A {subject} is {inside_sentence(concept.description)}")
    if not (concept.plural or OWN_ARTICLE.match(subject)):
        subject = f"{indefinite(subject)} {subject}"
    verb = "are" if concept.plural else "is"
    sentence = f"{subject[0].upper()}{subject[1:]} {verb} {inside_sentence(concept.description)}"
    return _ended(sentence)


def _ended(sentence: str) -> str:
    """Return a sentence with one full stop, unless it ends in another mark."""
    return sentence if sentence.endswith(("!", "?")) else sentence.rstrip(". ") + "."


def training_captions(concept: Concept, form: str, templates: Sequence[str],
                      article: str = "fitted") -> list[str]:
    """Return the distinct captions that fine-tuning cycles through for a concept.

    Args:
        form: `named` ("A {name} is {description}"), `description` (without the name; the control
            in paper E.2), `templates` (prompts with the name alone) or `mixed` (`named`, then the
            templates).
        templates: prompt templates with `{}` for the name.
        article: of "A {name} is", `fitted` or `a`.
    """
    prompts = [fill(template, concept.name, concept.plural) for template in templates]
    captions = {
        "named": [named(concept, article)],
        "description": [concept.description],
        "templates": prompts,
        "mixed": [named(concept, article), *prompts],
    }[form]
    return list(dict.fromkeys(captions))


def check_lengths(captions: Iterable[tuple[str, str]], count_tokens: Callable[[str], int],
                  limit: int, on_long_caption: str) -> None:
    """Check that the model can read the captions in full; with "truncate", only warn.

    Args:
        captions: `(concept name, caption)` pairs.
        count_tokens: returns the number of tokens of a caption, including start and end.
        limit: the model's maximum number of tokens.
        on_long_caption: `error` or `truncate`.

    Raises:
        UserError: a caption exceeds `limit` and `on_long_caption` is `error`.
    """
    for name, caption in dict.fromkeys(captions):
        count = count_tokens(caption)
        if count <= limit:
            continue
        if on_long_caption == "truncate":
            log.warning("concepts (%s): cut off after %d of %d tokens: '%s'",
                        name, limit, count, _shortened(caption))
        else:
            raise UserError(
                f"concepts ({name})", f"a caption takes {count} tokens, the model {limit}: "
                f"'{_shortened(caption)}'",
                "shorten the description, or have it cut off by concepts.on_long_caption=truncate",
            )


def _like(pattern: str, word: str) -> str:
    return word.capitalize() if pattern[0].isupper() else word


def inside_sentence(text: str) -> str:
    """Return `text` for use inside a sentence: in lower case, except "X-ray" and "MRI"."""
    return text if KEEPS_CAPITAL.match(text) else text[0].lower() + text[1:]


def _shortened(text: str) -> str:
    if len(text) <= SHOWN:
        return text
    half = (SHOWN - 3) // 2
    return f"{text[:half].rstrip()} … {text[-half:].lstrip()}"
