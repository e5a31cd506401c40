"""What the user of each section of docs/walkthroughs.md has at the start."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

import kt_exp
from kt_exp.pictograms.drawings import draw_class

PHOTOS = Path(kt_exp.__file__).parent / "data" / "photos"


def own_model(home: Path) -> None:
    """A CLIP in open_clip's local-dir format, and folders of drawings."""
    config = kt_exp.compose([])
    kt_exp.load_model(config).export(home / "my-clip")
    for kind, names in (("known", ("wheel", "umbrella", "tree", "snowman", "sailboat", "planet")),
                        ("new", ("gyroscope", "tonometer"))):
        for name in names:
            folder = home / "drawings" / kind / name
            folder.mkdir(parents=True)
            for number, pixels in enumerate(draw_class(name, 30, seed=100)):
                Image.fromarray(pixels).save(folder / f"{number:02d}.png")


def photos(home: Path) -> None:
    """A folder of photos of each of two concepts, and a file with their descriptions."""
    with (PHOTOS / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("geyser", "volcano"):
        folder = home / "photos" / name
        folder.mkdir(parents=True)
        for row in rows:
            if row["name"] == name:
                shutil.copy(PHOTOS / row["file"], folder)
    (home / "concepts.yaml").write_text(
        "geyser: a tall jet of hot water and steam that shoots up from the ground\n"
        "volcano: a large cone-shaped mountain with a crater at its top, smoke and red lava\n",
        encoding="utf-8")


SETUPS: dict[str, Callable[[Path], None]] = {
    "Your own CLIP": own_model,
    "Folders of photos": photos,
}
