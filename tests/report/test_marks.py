from __future__ import annotations

from kt_exp.report.marks import Name, Spot, place_names

FRAME = (0.0, 0.0, 200.0, 100.0)


def placed(names: list[tuple[Spot, str]], lines: list[list[Spot]]) -> list[tuple[Spot, str]]:
    found = place_names([Name(at, text, "#000000") for at, text in names], lines, FRAME)
    return [(name.at, name.text) for name in found]


def test_a_name_stands_beside_its_point_within_the_frame() -> None:
    for spot in ((2.0, 50.0), (198.0, 50.0), (100.0, 2.0), (100.0, 98.0)):
        [((x, y), text)] = placed([(spot, "1e-3")], [[spot]])
        assert text == "1e-3"
        assert 0 <= x <= 200
        assert 8 <= y <= 98


def test_names_hide_neither_points_nor_each_other() -> None:
    near = [(100.0, 50.0), (104.0, 52.0)]
    names = placed([(spot, "1e-3") for spot in near], [near])
    assert len({at for at, _ in names}) == 2
    crowd = [(float(x), float(y)) for x in range(0, 200, 10) for y in range(0, 100, 10)]
    assert placed([(crowd[100], "1e-3")], [crowd]) == []


def test_a_name_is_nearer_to_its_own_point_than_to_any_other() -> None:
    left, right = (100.0, 50.0), (112.0, 50.0)
    names = placed([(right, "1e-3"), (left, "3e-3")], [[right, left]])
    centre = {name: x + 5.6 * len(name) / 2 for (x, _), name in names}
    assert centre["3e-3"] < 106 < centre["1e-3"]


def test_a_name_keeps_off_the_lines_where_it_can() -> None:
    line = [(100.0, 50.0), (0.0, 50.0)]  # to the left, where names stand first
    [((x, y), _)] = placed([(line[0], "1e-3")], [line])
    assert x > 100 or y - 8 > 50 or y + 2 < 50
