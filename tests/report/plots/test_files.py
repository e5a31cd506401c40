"""Figures as files and on pages: the same each time, in the page's colours, and when they are not
to be had."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from kt_exp.drawing import LIGHT
from kt_exp.errors import UserError
from kt_exp.report.cli import main
from kt_exp.report.page import write_page
from kt_exp.report.plots import draw, draw_history, save
from kt_exp.report.runs import find_jobs
from kt_exp.report.sweep_page import write_sweep_page

pytestmark = pytest.mark.slow

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def no_matplotlib(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def texts(path: Path) -> set[str]:
    return {text.text for text in ET.parse(path).getroot().iter(f"{SVG}text")}


def test_without_an_ending_a_png_and_an_svg_are_written(sweeps, tmp_path: Path) -> None:
    png, svg = save(find_jobs([sweeps.lr_sweep()]), "lr", tmp_path / "plots" / "lr")

    with Image.open(png) as image:
        assert image.width > 900
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert tuple(bytes.fromhex(LIGHT["accent"][1:])) in colours
    assert {"moongate", "base", "2e-5", "learning rate", "paper"} <= texts(svg)
    tips = {title.text for title in ET.parse(svg).getroot().iter(f"{SVG}title")}
    assert {"measured, 2e-5: 60.0%", "paper, 5e-5: 42.3%"} <= tips


@pytest.mark.parametrize(("name", "begin"), [
    ("a.svg", b"<svg"), ("a.PNG", b"\x89PNG"), ("a.pdf", b"%PDF")])
def test_an_ending_writes_one_file_the_same_each_time(sweeps, tmp_path, name, begin) -> None:
    jobs = find_jobs([sweeps.lr_sweep()])
    path = tmp_path / name
    assert save(jobs, "lr", path) == [path]
    content = path.read_bytes()
    assert content.startswith(begin)
    save(jobs, "lr", path)
    assert path.read_bytes() == content


def test_another_ending_is_refused(sweeps, tmp_path) -> None:
    with pytest.raises(UserError, match=r"'.*a\.gif' is neither PNG, SVG nor PDF; end it in"):
        save(find_jobs([sweeps.lr_sweep()]), "lr", tmp_path / "a.gif")


def test_an_svg_is_text_with_nothing_from_outside(sweeps) -> None:
    sweeps.run("a", {"<b> & $5 $6": (0, 60, 58, 56)})
    svg = draw(find_jobs([sweeps.root]), "bars").svg()
    root = ET.fromstring(svg)
    assert "<b> & $5 $6" in {text.text for text in root.iter(f"{SVG}text")}
    assert root.get("aria-label") == "Target and Known of <b> & $5 $6"
    for word in (" id=", "url(", "href", "<style", "<script", "@font-face", "base64"):
        assert word not in svg


@pytest.mark.filterwarnings("error")
def test_letters_that_matplotlib_lacks_are_left_to_the_readers_font(sweeps) -> None:
    sweeps.run("a", {"月亮门": (0, 60, 58, 56)})
    assert "月亮门</text>" in draw(find_jobs([sweeps.root]), "bars").svg()


def test_on_a_page_an_svg_takes_the_colours_of_its_scheme(sweeps) -> None:
    chart = draw(find_jobs([sweeps.lr_sweep()]), "lr")
    assert f"stroke: var(--accent, {LIGHT['accent']})" in chart.svg()
    assert f"fill: var(--paper, {LIGHT['paper']})" in chart.svg()
    assert "var(" not in chart.svg(themed=False)


def test_the_house_style_neither_takes_nor_leaves_settings(sweeps) -> None:
    jobs = find_jobs([sweeps.lr_sweep()])
    plain = draw(jobs, "lr").svg()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.marker": "x"}):
        assert draw(jobs, "lr").svg() == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_threads_draw_as_one_does(sweeps) -> None:
    jobs = find_jobs([sweeps.lr_sweep()])
    kinds = ["lr", "forgetting", "bars"] * 4
    alone = {kind: draw(jobs, kind).svg() for kind in {*kinds}}
    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(lambda kind: draw(jobs, kind).svg(), kinds)] == [
            alone[kind] for kind in kinds]


@pytest.mark.parametrize("values", [
    [0.0, 0.0], [3.0, 3.0], [-2.0, 5.0], [1e-7, 2e-7], [12345.0, 99999.0], [0.999, 1.0]])
def test_a_history_of_any_range_lies_within_its_frame(values) -> None:
    chart = draw_history([0, 1], values, x_label="step", y_label="loss")
    low, high = chart.figure.axes[0].get_ylim()
    assert low <= min(values) <= max(values) <= high
    assert chart.label == f"loss over step: from {values[0]:.3g} at 0 to {values[1]:.3g} at 1"


def test_a_history_of_one_value_is_a_point_and_of_none_is_nothing() -> None:
    chart = draw_history([0, 7, 8], [None, 0.5, float("nan")], x_label="step", y_label="loss")
    assert "step 7: 0.5" in chart.svg()
    assert draw_history([0], [None], x_label="step", y_label="loss") is None


def test_a_long_history_is_thinned_and_keeps_its_end() -> None:
    steps = range(5001)
    svg = draw_history(steps, [step / 5000 for step in steps], x_label="step", y_label="loss").svg()
    assert len(svg) < 30_000
    assert "step 5000: 1<" in svg


def test_without_matplotlib_a_plot_is_refused_in_one_line(sweeps, capsys, no_matplotlib) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plot", str(sweeps.lr_sweep()), "--kind", "lr", "--out", str(sweeps.root / "a.png")])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "kt-report: error: plots: matplotlib is not installed; pip install 'kt_exp[plots]'\n")


def test_without_matplotlib_pages_are_written_and_say_what_they_lack(
        record, sweeps, tmp_path, no_matplotlib) -> None:
    lacks = "No charts: matplotlib is not installed (pip install &#39;kt_exp[plots]&#39;)."
    page = write_page(record, tmp_path, {}, {}, {}).read_text()
    assert page.count(lacks) == 1
    assert "90.0%" in page
    record.curves = {}
    assert lacks not in write_page(record, tmp_path, {}, {}, {}).read_text()
    sweep = write_sweep_page(find_jobs([sweeps.lr_sweep()]), tmp_path / "sweep.html").read_text()
    assert sweep.count(lacks) == 1
    assert "<svg" not in page + sweep


def test_matplotlib_is_imported_when_a_figure_is_drawn_and_pyplot_never(sweeps) -> None:
    folder = sweeps.lr_sweep()
    code = f"""
import sys
from kt_exp.report.cli import main
import kt_exp.run

def run(*arguments):
    try:
        main([*arguments])
    except SystemExit as ended:
        assert not ended.code

run("table", {str(folder)!r})
assert "matplotlib" not in sys.modules
run("plot", {str(folder)!r}, "--kind", "lr", "--out", {str(folder / "a")!r})
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
