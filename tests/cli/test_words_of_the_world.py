"""Names and folders that are not ASCII, written as one would write any others."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kt_exp.pictograms.drawings import draw_class

pytestmark = pytest.mark.slow

TINY = [
    "inversion=none", "finetune=closed_form", "finetune.save_models=false", "benchmark=folders",
    "benchmark.known_root=Bücher/bekannt", "benchmark.target_root=Bücher/neu",
    "benchmark.workers=0", "concepts=file", "concepts.path=Begriffe.csv",
]


@pytest.fixture(autouse=True)
def world(home: Path) -> None:
    """Class folders as a Mac writes them, and a table of concepts as Excel does."""
    books = home / unicodedata.normalize("NFD", "Bücher")
    for folder, name in (("bekannt/Haus", "house"), ("bekannt/Rad", "wheel"), ("neu/Kreisel",
                         "gyroscope"), (unicodedata.normalize("NFD", "neu/Röntgenbild"), "madras")):
        (books / folder).mkdir(parents=True)
        for number, image in enumerate(draw_class(name, 2, seed=1)):
            Image.fromarray(np.asarray(image)).save(books / folder / f"{number}.png")
    (home / "Begriffe.csv").write_text(
        "name;description\nKreisel;three grey rings, nested\nRöntgenbild;a grey plaid\n",
        encoding="utf-8-sig")


def test_a_concept_is_picked_by_its_name(kt_exp) -> None:
    ended = kt_exp(*TINY, "concepts.only=[Röntgenbild]", "hydra.run.dir=Läufe/erster")
    assert ended.code == 0, ended.stderr
    assert (Path("Läufe/erster") / "result.json").exists()


def test_a_sweep_over_such_names(kt_exp, home: Path) -> None:
    ended = kt_exp(*TINY, "concepts.only=[Röntgenbild],[Kreisel]", "hydra.sweep.dir=sweep", "-m")
    assert ended.code == 0, ended.stderr
    assert len(list(home.glob("sweep/*/result.json"))) == 2


def test_images_that_cannot_be_read_are_listed(kt_exp, home: Path) -> None:
    [folder] = home.glob("*/neu/Kreisel")
    names = [f"{number}.svg" for number in range(7)]
    for name in names:
        (folder / name).touch()
    refused = kt_exp(*TINY, "concepts.only=[Kreisel]")
    assert refused.code == 2
    assert "0.svg: images of the format .svg are not read; save it as PNG, or set " \
        "benchmark.on_bad_image=skip" in refused.stderr
    ended = kt_exp(*TINY, "concepts.only=[Kreisel]", "benchmark.on_bad_image=skip")
    assert "7 unreadable images skipped: " in ended.stdout
    listed = (ended.folder / ended.record.files["skipped"]).read_text().splitlines()
    assert [Path(path).name for path in listed] == names
