"""The made-up words of the concept sets `novel_words`, as their script makes them."""

from __future__ import annotations

from pathlib import Path

import make_novel_words
import pytest

from kt_exp.schema import conf_folder

pytestmark = pytest.mark.slow


def test_the_sets_are_as_the_script_writes_them(tmp_path, monkeypatch):
    shipped = Path(conf_folder()) / "concepts"
    for source in make_novel_words.SETS:
        (tmp_path / f"{source}.yaml").write_bytes((shipped / f"{source}.yaml").read_bytes())
    monkeypatch.setattr(make_novel_words, "CONCEPTS", tmp_path)
    make_novel_words.main()
    for name in make_novel_words.SETS.values():
        assert (tmp_path / f"{name}.yaml").read_text() == (shipped / f"{name}.yaml").read_text()


def test_a_word_of_another_language_is_a_word():
    assert make_novel_words.words_of_any_language(["pizza", "zorgvuldig", "rupob"]) == {
        "pizza", "zorgvuldig"}


@pytest.mark.parametrize("word", ["canoe", "kanoe", "cano", "canoer", "uncanoed", "acanoe"])
def test_a_word_is_like_another_that_it_is_or_holds_or_misses_by_a_letter(word):
    assert make_novel_words.is_like(word, {"canoe"})


def test_other_words_are_not_alike():
    assert not make_novel_words.is_like("rupob", {"canoe", "rub", "up"})
