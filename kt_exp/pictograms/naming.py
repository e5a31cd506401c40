"""Invented names, put together from shared pieces.

The pieces are syllables and parts of English words, among them those that held-out names are
made of, so that a sub-word tokenizer splits an unseen name into tokens with trained embeddings.
"""

from __future__ import annotations

import numpy as np

from kt_exp.pictograms.held_out import holds_held_out_name
from kt_exp.pictograms.vocabulary import KNOWN_LOOKS

_SYLLABLES = (
    "ba be bi bo ka ke ko ku la le li lo ma me mi mo na ne ni no pa pe po ra re ri ro sa se si so "
    "ta te ti to tu va ve vi zo zu dra kri plo sha thi gru bel dor fin gal han jor kel lum mar nor "
    "pim quo rin sol tam ven wex yar zim"
)

_WORD_PIECES = (
    # pieces of the reported names
    "moon gate tono meter gyro scope ben gal bengal stripe flor al floral mad ras madras chant "
    "illy chantil ty "
    # pieces of the development names
    "bar bican metro nome astro labe theo dolite pekin ging ham toi le bat ik "
    # pieces of other words
    "sun stone water fire wood iron silver light star wind snow rain sand glass paper thunder "
    "way port land hill field brook ford house well bell book ship craft work side ward fold "
    "graph phone tele micro macro photo thermo baro hydro aero cyclo helio chrono seismo pan "
    "oscillo spectro peri kaleido stetho ometer graphy tron matic stat dyne "
    "tweed lace silk velvet satin tartan damask brocade poplin calico check cord twill serge "
    "er on ine ette ery ian ora ello ina ium"
)

SYLLABLES = tuple(_SYLLABLES.split())
WORD_PIECES = tuple(_WORD_PIECES.split())


def _word(rng: np.random.Generator) -> str:
    kind = rng.random()
    pool = WORD_PIECES if kind < 0.7 else SYLLABLES
    count = 2 if pool is WORD_PIECES else int(rng.integers(2, 4))
    pieces = [pool[int(i)] for i in rng.integers(len(pool), size=count)]
    if kind < 0.25:
        pieces[int(rng.integers(count))] = SYLLABLES[int(rng.integers(len(SYLLABLES)))]
    return "".join(pieces)


def invent_names(count: int, rng: np.random.Generator) -> list[str]:
    """``count`` different names; none is known, none holds a held-out name."""
    names: list[str] = []
    seen = set(KNOWN_LOOKS)
    while len(names) < count:
        name = _word(rng)
        if rng.random() < 0.2:
            name += " " + WORD_PIECES[int(rng.integers(len(WORD_PIECES)))]
        if name in seen or holds_held_out_name(name) or len(name) < 4:
            continue
        seen.add(name)
        names.append(name)
    return names
