"""Drawings as an image set: what they are known by."""

from kt_exp.pictograms import benchmark as evaluation
from kt_exp.pictograms.benchmark import Drawings


def test_drawings_are_known_by_what_decides_their_pixels():
    sets = [Drawings(("house",), 2, 0), Drawings(("wheel",), 2, 0), Drawings(("house",), 3, 0),
            Drawings(("house",), 2, 1), Drawings(("house", "wheel"), 2, 0)]
    assert len({images.fingerprint() for images in sets}) == len(sets)
    assert Drawings(("house",), 2, 0).fingerprint() == sets[0].fingerprint()


def test_a_world_drawn_by_other_libraries_is_another(monkeypatch):
    images = Drawings(("house",), 2, 0)
    before = images.fingerprint()
    monkeypatch.setattr("PIL.__version__", "another")
    evaluation._world.cache_clear()
    assert images.fingerprint() != before
    monkeypatch.undo()
    evaluation._world.cache_clear()
    assert images.fingerprint() == before


def test_nothing_is_drawn_for_it(monkeypatch):
    monkeypatch.setattr(evaluation, "draw_class", None)
    assert Drawings(("fence",), 10_000_000, 0).fingerprint()
