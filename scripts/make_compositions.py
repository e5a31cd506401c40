"""Write the concept set `pictograms_compositions`: random looks of the pictogram world.

    python scripts/make_compositions.py

Their names are built like those that PictoCLIP was trained on, and none of those. The looks are put
together at random from the same shapes, colours and textures as its training drawings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kt_exp.pictograms.drawings import composition, invented_names
from kt_exp.pictograms.naming import invent_names
from kt_exp.pictograms.words import Writer

FILE = Path(__file__).parent.parent / "conf" / "concepts" / "pictograms_compositions.yaml"
COUNT = 35
TRAINED = 1500  # invented names in the training of the shipped PictoCLIP
SEED = 20


def main() -> None:
    """Write the set into conf/concepts."""
    lines = [
        "# Random looks of the pictogram world, for teaching many concepts to one model.",
        "# Written by scripts/make_compositions.py.",
        "name: pictograms_compositions  # of the set",
        'source: "kt_exp pictogram world, random compositions"  # of the captions',
        "items:  # new name, which look the drawings show, description",
    ]
    for number, (name, description) in enumerate(zip(new_names(), descriptions(), strict=True)):
        lines += [f"  - name: {name}", f"    images_of: composition {number}",
                  f'    description: "{description}"']
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def new_names() -> list[str]:
    """Return names that no caption of the training has."""
    trained = set(invented_names(TRAINED))
    drawn = invent_names(10 * COUNT, np.random.default_rng([SEED, 1]))
    return [name for name in drawn if name not in trained][:COUNT]


def descriptions() -> list[str]:
    """Return what the compositions look like, without their names."""
    return [Writer(np.random.default_rng([SEED, 2, number])).phrase(composition(number))
            for number in range(COUNT)]


if __name__ == "__main__":
    main()
