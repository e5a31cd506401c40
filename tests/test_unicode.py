"""Names and paths in either form of Unicode."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from kt_exp.unicode import user_path


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_path_is_found_in_the_form_that_the_disk_has(tmp_path: Path, form) -> None:
    folder = tmp_path / decomposed("Bücher") / "Öl"
    folder.mkdir(parents=True)
    (folder / decomposed("ä.txt")).touch()
    asked = unicodedata.normalize(form, f"{tmp_path}/Bücher/Öl/ä.txt")
    assert user_path(asked) == folder / decomposed("ä.txt")


def test_a_path_that_is_not_there_stays_as_given(tmp_path: Path) -> None:
    assert user_path(f"{tmp_path}/Bücher/x") == tmp_path / "Bücher" / "x"
    assert user_path("~/x") == Path.home() / "x"
