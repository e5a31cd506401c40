from __future__ import annotations

from kt_exp.report.marks import place_names

FRAME = (0.0, 0.0, 200.0, 100.0)


def test_a_name_stands_beside_its_point_within_the_frame() -> None:
    for spot in ((2.0, 50.0), (198.0, 50.0), (100.0, 2.0), (100.0, 98.0)):
        [((x, y), text)] = place_names([(spot, "1e-3")], [[spot]], FRAME)
        assert text == "1e-3"
        assert 0 <= x <= 200
        assert 8 <= y <= 98


def test_names_hide_neither_points_nor_each_other() -> None:
    near = [(100.0, 50.0), (104.0, 52.0)]
    placed = place_names([(spot, "1e-3") for spot in near], [near], FRAME)
    assert len({at for at, _ in placed}) == 2
    crowd = [(float(x), float(y)) for x in range(0, 200, 10) for y in range(0, 100, 10)]
    assert place_names([(crowd[100], "1e-3")], [crowd], FRAME) == []


def test_a_name_is_nearer_to_its_own_point_than_to_any_other() -> None:
    left, right = (100.0, 50.0), (112.0, 50.0)
    placed = dict(place_names([(right, "1e-3"), (left, "3e-3")], [[right, left]], FRAME))
    assert sorted(placed.values()) == ["1e-3", "3e-3"]
    centre = {name: x + 5.6 * len(name) / 2 for (x, _), name in placed.items()}
    assert centre["3e-3"] < 106 < centre["1e-3"]


def test_a_name_keeps_off_the_lines_where_it_can() -> None:
    line = [(100.0, 50.0), (0.0, 50.0)]  # to the left, where names stand first
    [((x, y), _)] = place_names([(line[0], "1e-3")], [line], FRAME)
    assert x > 100 or y - 8 > 50 or y + 2 < 50
