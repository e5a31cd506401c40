"""The concept set `pictograms_compositions`, as its script makes it."""

from __future__ import annotations

import make_compositions

from kt_exp.pictograms.drawings import invented_names


def test_the_set_is_as_the_script_writes_it(tmp_path, monkeypatch):
    shipped = make_compositions.FILE.read_text(encoding="utf-8")
    monkeypatch.setattr(make_compositions, "FILE", tmp_path / "set.yaml")
    make_compositions.main()
    assert (tmp_path / "set.yaml").read_text(encoding="utf-8") == shipped


def test_no_name_was_met_in_training():
    assert not {*make_compositions.new_names()} & {*invented_names(make_compositions.TRAINED)}


def test_no_look_comes_twice():
    assert len(set(make_compositions.descriptions())) == make_compositions.COUNT
