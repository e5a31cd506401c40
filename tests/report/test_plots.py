from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from kt_exp.errors import UserError
from kt_exp.report.canvas import THEMED, Canvas
from kt_exp.report.curves import BASE, plot_panels
from kt_exp.report.plots import draw, panels
from kt_exp.report.runs import find_jobs
from kt_exp.report.sweep_page import write_sweep_page
from kt_exp.results.record import Metric, RunRecord, read_record

SVG = "{http://www.w3.org/2000/svg}"


def test_target_and_known_accuracy_lie_over_the_learning_rate(sweeps) -> None:
    rows, note = panels(find_jobs([sweeps.lr_sweep()]), "lr")

    [[target], [known]] = rows
    assert (target.title, target.y_label, known.y_label) == ("moongate", "Target", "Known")
    assert not note
    measured = target.curves[0]
    assert [(at, value) for at, value, _ in measured.points] == [
        (BASE, 0), (1e-5, 10), (2e-5, pytest.approx(60))]


def test_the_papers_curve_is_dashed_and_has_all_its_points(sweeps) -> None:
    [[target], _] = panels(find_jobs([sweeps.lr_sweep()]), "lr")[0]
    [paper] = [curve for curve in target.curves if curve.dashed]
    assert [value for _, value, _ in paper.points] == [0, 10, 60, 90, 100, 100]
    assert target.places == [BASE, 1e-5, 2e-5, 3e-5, 4e-5, 5e-5]


def test_seeds_become_error_bars(sweeps) -> None:
    for seed, target in enumerate((50, 70)):
        for lr in (1e-5, 2e-5):
            sweeps.run(f"{seed}-{lr}", {"moongate": (0, target, 58, 57)}, seed=seed,
                       finetune__lr=lr)
    [[target], _] = panels(find_jobs([sweeps.root]), "lr")[0]
    assert target.curves[0].points[1] == (1e-5, pytest.approx(60), pytest.approx(14.14, abs=0.01))


def test_error_bars_end_where_shares_do(sweeps) -> None:
    for seed, target in enumerate((70, 100, 100)):
        for lr in (1e-5, 2e-5):
            sweeps.run(f"{seed}-{lr}", {"moongate": (0, target, 58, 57)}, seed=seed,
                       finetune__lr=lr)
    root = ET.fromstring(plot_panels(*panels(find_jobs([sweeps.root]), "lr")).to_svg())
    words = {text.text for text in root.iter(f"{SVG}text")}
    assert "100" in words
    assert "150" not in words


def test_strategies_are_curves_of_their_own(sweeps) -> None:
    for strategy in ("visual", "text"):
        for lr in (1e-5, 2e-5):
            sweeps.run(f"{strategy}-{lr}", {"moongate": (0, 50, 58, 57)}, finetune__lr=lr,
                       finetune__strategy=strategy)
    [[target], _] = panels(find_jobs([sweeps.root]), "strategy")[0]
    assert [curve.label for curve in target.curves] == ["text", "visual", "visual (paper)"]


@pytest.mark.parametrize(("kind", "key", "values"), [
    ("steps", "inversion__steps", [500, 1000, 5000]),
    ("names", "finetune__captions", ["description", "named"]),
])
def test_other_settings_lie_across(sweeps, kind, key, values) -> None:
    for value in values:
        sweeps.run(str(value), {"moongate": (0, 50, 58, 57)}, **{key: value})
    [[target], _] = panels(find_jobs([sweeps.root]), kind)[0]
    assert target.places == [BASE, *values]


def test_the_trade_off_has_known_accuracy_across_and_target_accuracy_up(sweeps) -> None:
    [[panel]], _ = panels(find_jobs([sweeps.lr_sweep()]), "tradeoff")
    measured, paper = panel.curves
    assert [(round(known, 2), round(target)) for known, target, _ in measured.points] == [
        (58.10, 0), (57.78, 10), (56.43, 60)]
    assert measured.marks == ["base", "1e-5", "2e-5"]
    assert paper.points[-1][:2] == (42.30, 100)


def test_concepts_stand_side_by_side_with_the_description_as_prompt(sweeps, tmp_path) -> None:
    folder = sweeps.run("one", {"moongate": (0, 60, 58, 56), "tonometer": (50, 80, 58, 57)})
    record = read_record(folder)
    record.metrics += [
        Metric(phase="description_prompt", concept=name, split="target", metric="accuracy",
               value=0.9, count=None, total=10) for name in ("moongate", "tonometer")]
    sweeps.save("one", record)
    [[target], [known]], _ = panels(find_jobs([folder]), "bars")
    assert target.places == ["moongate", "tonometer"]
    assert {curve.label: [value for _, value, _ in curve.points] for curve in target.curves} == {
        "before": [0, 50], "description as prompt": [90, 90], "after": [60, 80]}
    assert [curve.label for curve in known.curves] == ["before", "after"]
    [svg] = draw(find_jobs([folder]), "bars", tmp_path / "bars.svg")
    words = [text.text for text in ET.parse(svg).getroot().iter(f"{SVG}text")]
    assert words.count("90") == 2
    assert len({*words} & {"before", "after", "moongate", "tonometer"}) == 4


def test_a_trade_off_along_nothing_names_the_start_only(sweeps) -> None:
    folder = sweeps.run("one", {"moongate": (0, 60, 58, 56)})
    [[panel]], _ = panels(find_jobs([folder]), "tradeoff")
    assert panel.curves[0].marks == [BASE, ""]


def test_of_several_trade_offs_the_ends_are_named_and_the_start_once(sweeps) -> None:
    for captions, known in (("named", 50), ("description", 55)):
        for lr, target in ((1e-5, 20), (2e-5, 40), (3e-5, 90)):
            sweeps.run(f"{captions}{lr}", {"a": (0, target, 58, known - target / 10)},
                       finetune__lr=lr, finetune__captions=captions)
    root = ET.fromstring(plot_panels(*panels(find_jobs([sweeps.root]), "tradeoff")).to_svg())
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert [words.count(name) for name in ("base", "1e-5", "2e-5", "3e-5")] == [1, 0, 0, 2]


def test_each_setting_has_a_panel_of_concepts(sweeps) -> None:
    [target, _] = panels(find_jobs([sweeps.lr_sweep()]), "bars")[0]
    assert [panel.title for panel in target] == ["lr 1e-5", "lr 2e-5"]


def test_any_other_setting_that_was_varied_is_a_kind(sweeps) -> None:
    for weight in (0, 0.005):
        for share in (0, 0.5):
            sweeps.run(f"{weight}-{share}", {"moongate": (0, 50, 58, 57)},
                       inversion__tv_weight=weight, inversion__affine={"probability": share})
    [[target], _] = panels(find_jobs([sweeps.root]), "inversion.tv_weight")[0]
    assert target.places == [BASE, 0, 0.005]
    assert [curve.label for curve in target.curves] == ["probability 0", "probability 0.5"]


def test_words_below_an_axis_have_room(sweeps) -> None:
    for number in range(6):
        sweeps.run(str(number), {"moongate": (0, 50, 58, 57)},
                   concepts__name=f"a_long_name_{number}")
    canvas = plot_panels(*panels(find_jobs([sweeps.root]), "concepts.name"))
    assert {f"a_long_name_{number}" for number in range(6)} <= set(
        ET.fromstring(canvas.to_svg()).itertext())


def test_runs_without_a_result_are_left_out_and_said_so(sweeps) -> None:
    folder = sweeps.lr_sweep()
    sweeps.failed("lr/2", "out of memory", finetune__lr=3e-5)
    assert panels(find_jobs([folder]), "lr")[1] == "1 run without a result left out"


def test_writes_both_kinds_of_picture(sweeps, tmp_path: Path) -> None:
    png, svg = draw(find_jobs([sweeps.lr_sweep()]), "lr", tmp_path / "plots" / "lr")

    with Image.open(png) as image:
        assert image.width > 500
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert (0x25, 0x63, 0xA8) in colours  # the curve
    root = ET.parse(svg).getroot()
    dashes = [line.get("stroke-dasharray") for line in root.iter(f"{SVG}polyline")]
    assert dashes.count("6 4") == 3  # two panels and the legend
    assert "moongate" in {text.text for text in root.iter(f"{SVG}text")}
    assert "measured, 2e-5: 60.0%" in {title.text for title in root.iter(f"{SVG}title")}


def test_one_ending_writes_one_file(sweeps, tmp_path: Path) -> None:
    assert draw(find_jobs([sweeps.lr_sweep()]), "lr", tmp_path / "a.svg") == [tmp_path / "a.svg"]
    with pytest.raises(UserError, match="neither PNG nor SVG"):
        draw(find_jobs([sweeps.lr_sweep()]), "lr", tmp_path / "a.pdf")


def test_what_cannot_be_plotted_is_refused(sweeps) -> None:
    jobs = find_jobs([sweeps.lr_sweep()])
    with pytest.raises(UserError, match=r"finetune\.strategy is visual in all runs"):
        panels(jobs, "strategy")
    with pytest.raises(UserError, match=r"no kind of plot 'tradeof', .* did you mean 'tradeoff'"):
        panels(jobs, "tradeof")
    sweeps.save("new/0", RunRecord(command=["kt-exp"], config=sweeps.config()))
    with pytest.raises(UserError, match="none of the runs has measured anything yet"):
        panels(find_jobs([sweeps.root / "new"]), "lr")


def test_a_drawing_takes_the_colours_of_a_page_and_escapes_text() -> None:
    canvas = Canvas(10, 10, "a < b")
    canvas.words((0, 0), "<script>")
    svg = canvas.to_svg(THEMED)
    assert "&lt;script&gt;" in svg
    assert 'fill="var(--soft)"' in svg
    assert ET.fromstring(svg).get("aria-label") == "a < b"


def test_many_panels_grow_the_picture(sweeps) -> None:
    for lr in (1e-5, 2e-5):
        sweeps.run(str(lr), dict.fromkeys("abc", (0, 50, 58, 57)), finetune__lr=lr)
    rows, note = panels(find_jobs([sweeps.root]), "lr")
    assert (len(rows), len(rows[0])) == (2, 3)
    assert plot_panels(rows, note).width > 3 * 200


def test_a_sweep_becomes_one_page_that_needs_nothing_beside_it(sweeps, tmp_path: Path) -> None:
    folder = sweeps.lr_sweep()
    sweeps.failed("lr/2", "<out> of memory", "finetune.lr=3e-05", finetune__lr=3e-5)
    record_folder = sweeps.run("lr/0", {"moongate": sweeps.MOONGATE[1e-5]}, "finetune.lr=1e-05",
                               finetune__lr=1e-5)
    Image.new("RGB", (2000, 300), "red").save(record_folder / "overview.png")
    text = (record_folder / "result.json").read_text()
    (record_folder / "result.json").write_text(
        text.replace('"files": {}', '"files": {"overview": "overview.png"}'))

    page = write_sweep_page(find_jobs([folder]), tmp_path / "page.html").read_text()

    assert "2 completed, 1 failed" in page
    assert "&lt;out&gt; of memory" in page
    assert page.count("<svg") == 2  # over the learning rate, and the trade-off
    assert "data:image/jpeg;base64," in page
    assert "--accent" in page.partition("</style>")[0]
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    with pytest.raises(UserError, match=r"end it in \.html"):
        write_sweep_page(find_jobs([folder]), tmp_path / "page.txt")


def test_a_page_plots_what_the_runs_differ_in_and_bars_where_in_nothing(sweeps, tmp_path) -> None:
    def titles(*folders: Path) -> list[str]:
        text = write_sweep_page(find_jobs(folders), tmp_path / "page.html").read_text()
        return re.findall(r"<h2>(.*?)</h2>", text)[1:-1]

    one = sweeps.run("one", {"moongate": (0, 60, 58, 56)})
    assert titles(one) == ["Concepts side by side"]
    other = sweeps.run("other", {"moongate": (0, 60, 58, 56)}, inversion__tv_weight=0)
    assert titles(one, other) == ["Against inversion.tv_weight", "Target against known accuracy"]
    for captions in ("named", "description"):
        for lr in (1e-5, 2e-5):
            sweeps.run(f"names/{captions}{lr}", {"moongate": (0, 60, 58, 56)}, finetune__lr=lr,
                       finetune__captions=captions)
    assert titles(sweeps.root / "names") == ["Captions with and without the name",
                                             "Target against known accuracy"]
