"""What each kind of plot shows of a sweep, read from the figure as anyone with it would."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

from kt_exp.errors import UserError
from kt_exp.report.plots import Chart, draw
from kt_exp.report.runs import find_jobs
from kt_exp.results.record import Metric, RunRecord, read_record

APPROX = pytest.approx


def chart(folder: Path, kind: str, **where) -> Chart:
    return draw(find_jobs([folder], where), kind)


def frames(drawn: Chart) -> list[Axes]:
    """The panels: first all that show the first measurement, in the order of concepts."""
    return drawn.figure.axes


def curves(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """The points of each curve, by its label, without what is drawn beside them."""
    return {str(line.get_label()): [tuple(point) for point in line.get_xydata()]
            for line in axes.lines if not str(line.get_label()).startswith("_")}


def percents(axes: Axes, label: str = "measured") -> list[float]:
    return [round(y, 2) for _, y in curves(axes)[label]]


def ticks(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def legend(drawn: Chart) -> list[str]:
    return [text.get_text() for box in drawn.figure.legends for text in box.get_texts()]


def written(drawn: Chart) -> list[str]:
    """The texts in and below the panels: all but the heading, which is the last of the figure's."""
    return [text.get_text() for place in (drawn.figure, *frames(drawn)) for text in place.texts
            if text is not heading(drawn)]


def heading(drawn: Chart) -> Text | None:
    """The line at the top of the figure."""
    return next((text for text in drawn.figure.texts if text.get_verticalalignment() == "top"),
                None)


def tips(drawn: Chart) -> set[str]:
    return {tip for texts in drawn.tips.values() for tip in texts}


def test_target_and_known_accuracy_lie_over_a_logarithmic_learning_rate(sweeps) -> None:
    drawn = chart(sweeps.lr_sweep(), "lr")
    target, known = frames(drawn)
    assert (target.get_ylabel(), known.get_ylabel()) == (
        "Target accuracy (%)", "Known accuracy (%)")
    assert target.get_title(loc="left") == "moongate"
    assert known.get_xlabel() == "learning rate"
    assert target.get_xscale() == known.get_xscale() == "log"
    assert percents(target) == [0, 10, 60]
    assert [x for x, _ in curves(target)["measured"]][1:] == [1e-5, 2e-5]
    assert drawn.label == "Target and Known against learning rate: moongate"


def test_the_untrained_model_lies_left_of_all_rates_and_as_a_line_across(sweeps) -> None:
    drawn = chart(sweeps.lr_sweep(), "lr")
    _, known = frames(drawn)
    assert ticks(known)[0] == "base"
    assert curves(known)["measured"][0] == (APPROX(known.get_xticks()[0]), APPROX(58.10))
    assert known.get_xticks()[0] < 1e-5
    assert [58.10, 58.10] in [APPROX(line.get_ydata()) for line in known.lines
                              if line.get_linestyle() == ":"]
    assert legend(drawn)[-1] == "untrained model"


def test_the_papers_curve_is_dashed_and_has_all_its_points(sweeps) -> None:
    drawn = chart(sweeps.lr_sweep(), "lr")
    target, _ = frames(drawn)
    assert percents(target, "paper") == [0, 10, 60, 90, 100, 100]
    [paper] = [line for line in target.lines if line.get_label() == "paper"]
    assert paper.get_linestyle() == "--"
    assert ticks(frames(drawn)[1]) == ["base", "1e-5", "2e-5", "3e-5", "4e-5", "5e-5"]
    assert "paper, 5e-5: 100.0%" in tips(drawn)


def test_seeds_become_error_bars_that_end_where_shares_do(sweeps) -> None:
    for seed, target in enumerate((70, 100, 100)):
        for lr in (1e-5, 2e-5):
            sweeps.run(f"{seed}-{lr}", {"moongate": (0, target, 58, 57)}, seed=seed,
                       finetune__lr=lr)
    drawn = chart(sweeps.root, "lr")
    target, _ = frames(drawn)
    assert percents(target) == [0, 90, 90]
    bars = [sorted(line.get_ydata()) for line in target.lines if len({*line.get_xdata()}) == 1
            and len(line.get_ydata()) == 2]
    assert bars == [[APPROX(90 - 17.32, abs=0.01), 100]] * 2
    assert "measured, 1e-5: 90.0% ± 17.3" in tips(drawn)
    assert "Error bars: ±1 standard deviation over 3 seeds" in written(drawn)


def test_strategies_are_curves_of_their_own_told_apart_without_colour(sweeps) -> None:
    for strategy in ("visual", "text"):
        for lr in (1e-5, 2e-5):
            sweeps.run(f"{strategy}-{lr}", {"moongate": (0, 50, 58, 57)}, finetune__lr=lr,
                       finetune__strategy=strategy)
    drawn = chart(sweeps.root, "strategy")
    assert legend(drawn) == ["text", "visual", "visual (paper)", "untrained model"]
    lines = {line.get_label(): line for line in frames(drawn)[0].lines}
    assert lines["visual"].get_color() == lines["visual (paper)"].get_color()
    assert lines["visual"].get_color() != lines["text"].get_color()
    assert lines["visual"].get_marker() != lines["text"].get_marker()


def test_a_series_has_one_colour_on_all_plots_of_the_same_runs(sweeps) -> None:
    for captions in ("named", "description"):
        for lr in (1e-5, 2e-5):
            sweeps.run(f"{captions}{lr}", {"moongate": (0, 60, 58, 56)}, finetune__lr=lr,
                       finetune__captions=captions)
    colours = [{line.get_label(): line.get_color() for axes in frames(chart(sweeps.root, kind))
                for line in axes.lines if line.get_label() in ("named", "description")}
               for kind in ("lr", "names", "forgetting")]
    assert len(colours[0]) == 2
    assert colours[0] == colours[1] == colours[2]


@pytest.mark.parametrize(("values", "scale"), [
    ([500, 1000, 5000], "log"), ([0, 1, 10, 100], "log"), ([10, 20, 40], "linear"),
    ([0, 2, 4], "linear")])
def test_numbers_lie_to_scale(sweeps, values, scale) -> None:
    for value in values:
        sweeps.run(str(value), {"moongate": (0, 50, 58, 57)}, inversion__steps=value)
    target, known = frames(chart(sweeps.root, "steps"))
    assert target.get_xscale() == scale
    assert ticks(known) == ["base", *map(str, values)]
    assert list(target.get_xticks()) == sorted({*target.get_xticks()})
    assert known.get_xlabel() == "steps of inversion"


def test_words_lie_side_by_side_and_no_line_joins_them(sweeps) -> None:
    for value in ("description", "named"):
        sweeps.run(value, {"moongate": (0, 50, 58, 57)}, finetune__captions=value)
    target, known = frames(chart(sweeps.root, "names"))
    assert ticks(known) == ["base", "description", "named"]
    [line] = [line for line in target.lines if line.get_label() == "measured"]
    assert (line.get_linestyle(), line.get_marker()) == ("None", "o")


def test_series_over_words_hide_each_other_nowhere(sweeps) -> None:
    for captions in ("description", "named"):
        for loss in ("ntxent", "class_ce"):
            sweeps.run(captions + loss, {"moongate": (0, 50, 58, 57)}, finetune__captions=captions,
                       finetune__loss=loss)
    target, _ = frames(chart(sweeps.root, "finetune.captions"))
    xs = [x for points in curves(target).values() for x, _ in points]
    assert len({*xs}) == len(xs) == 6


def test_any_other_setting_that_was_varied_is_a_kind(sweeps) -> None:
    for weight in (0, 0.005):
        for share in (0, 0.5):
            sweeps.run(f"{weight}-{share}", {"moongate": (0, 50, 58, 57)},
                       inversion__tv_weight=weight, inversion__affine={"probability": share})
    drawn = chart(sweeps.root, "inversion.tv_weight")
    assert ticks(frames(drawn)[1]) == ["base", "0", "0.005"]
    assert legend(drawn)[:2] == ["probability 0", "probability 0.5"]


def test_the_trade_off_has_known_accuracy_across_and_target_accuracy_up(sweeps) -> None:
    drawn = chart(sweeps.lr_sweep(), "forgetting")
    [axes] = frames(drawn)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Known accuracy (%)", "Target accuracy (%)")
    assert [(round(x, 2), round(y)) for x, y in curves(axes)["measured"]] == [
        (58.10, 0), (57.78, 10), (56.43, 60)]
    assert curves(axes)["paper"][-1] == (42.30, 100)
    assert sorted(written(drawn)) == ["1e-5", "2e-5", "base"]
    assert "measured, 2e-5: 60.0%, known 56.4%" in tips(drawn)


def test_a_trade_off_along_nothing_names_the_start_only(sweeps) -> None:
    folder = sweeps.run("one", {"moongate": (0, 60, 58, 56)})
    assert written(chart(folder, "forgetting")) == ["base"]


def test_of_several_trade_offs_the_ends_are_named_and_the_start_once(sweeps) -> None:
    for captions, known in (("named", 50), ("description", 55)):
        for lr, target in ((1e-5, 20), (2e-5, 40), (3e-5, 90)):
            sweeps.run(f"{captions}{lr}", {"a": (0, target, 58, known - target / 10)},
                       finetune__lr=lr, finetune__captions=captions)
    assert sorted(written(chart(sweeps.root, "forgetting"))) == ["3e-5", "3e-5", "base"]


def test_trade_offs_of_all_concepts_share_their_scales(sweeps) -> None:
    for lr in (1e-5, 2e-5):
        sweeps.run(str(lr), {"a": (0, 50, 58, 57), "b": (0, 10, 58, 30)}, finetune__lr=lr)
    left, right, mean = frames(chart(sweeps.root, "forgetting"))
    assert left.get_xlim() == right.get_xlim() == mean.get_xlim()
    assert left.get_ylim() == right.get_ylim() == mean.get_ylim()


def test_several_concepts_have_a_panel_of_their_mean_over_seeds_that_have_all(sweeps) -> None:
    for seed, (one, other) in enumerate(((10, 30), (30, 50))):
        for lr in (1e-5, 2e-5):
            sweeps.run(f"{seed}-{lr}", {"a": (0, one, 58, 57), "b": (0, other, 58, 55)}, seed=seed,
                       finetune__lr=lr)
    sweeps.run("lacking", {"a": (0, 90, 58, 57)}, seed=2, finetune__lr=2e-5)
    drawn = chart(sweeps.root, "lr")
    titles = [axes.get_title(loc="left") for axes in frames(drawn)[:3]]
    assert titles == ["a", "b", "mean of 2"]
    mean = frames(drawn)[2]
    assert percents(mean) == [0, 30, 30]  # of 20 and 40, not with the 90 of a concept alone
    assert "measured, 2e-5: 30.0% ± 14.1" in tips(drawn)


def test_no_panel_is_of_a_mean_that_no_run_has(sweeps) -> None:
    for concept in ("a", "b"):
        for lr in (1e-5, 2e-5):
            sweeps.run(f"{concept}{lr}", {concept: (0, 50, 58, 57)}, finetune__lr=lr,
                       finetune__loss={"a": "ntxent", "b": "class_ce"}[concept])
    titles = [axes.get_title(loc="left") for axes in frames(chart(sweeps.root, "lr"))]
    assert titles == ["a", "b", "", ""]


@pytest.mark.parametrize("kind", ["lr", "forgetting", "bars"])
def test_the_heading_says_what_was_taught_and_measured(sweeps, kind) -> None:
    jobs = find_jobs([sweeps.lr_sweep()])
    found = heading(draw(jobs, kind))
    assert found is not None
    assert found.get_text().endswith(": ViT-B-32-quickgelu, moongate")
    assert heading(draw(jobs, kind, headed=False)) is None


def test_concepts_stand_side_by_side_with_the_description_as_prompt(sweeps) -> None:
    folder = sweeps.run("one", {"tonometer": (50, 80, 58, 57), "moongate": (0, 60, 58, 56)})
    record = read_record(folder)
    record.metrics += [
        Metric(phase="description_prompt", concept=name, split="target", metric="accuracy",
               value=0.9, count=None, total=10) for name in ("moongate", "tonometer")]
    sweeps.save("one", record)
    drawn = chart(folder, "bars")
    target, known = frames(drawn)
    assert ticks(known) == ["tonometer", "moongate", "mean of 2"]
    assert legend(drawn) == ["before", "description as prompt", "after"]
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in target.containers}
    assert {label: height for label, [height] in heights.items() if "tonometer" in label} == {
        "tonometer, before": 50, "tonometer, description as prompt": 90, "tonometer, after": 80}
    assert [text.get_text() for text in target.texts].count("90") == 3
    assert {height[0] for label, height in heights.items() if "mean" in label} == {25, 90, 70}
    assert len(known.containers) == 6
    assert target.get_ylim()[0] == known.get_ylim()[0] == 0


def test_a_bar_of_nothing_can_be_seen_and_says_0(sweeps) -> None:
    target, _ = frames(chart(sweeps.run("one", {"moongate": (0, 60, 58, 56)}), "bars"))
    [before] = target.containers[0]
    assert 0 < before.get_height() < 1
    assert [text.get_text() for text in target.texts] == ["0", "60"]


def test_each_setting_has_a_panel_of_bars(sweeps) -> None:
    titles = [axes.get_title(loc="left") for axes in frames(chart(sweeps.lr_sweep(), "bars"))]
    assert titles == ["lr 1e-5", "lr 2e-5", "", ""]


def test_runs_without_a_result_are_left_out_and_said_so(sweeps) -> None:
    folder = sweeps.lr_sweep()
    sweeps.failed("lr/2", "out of memory", finetune__lr=3e-5)
    assert "1 run without a result left out" in written(chart(folder, "lr"))


def test_what_cannot_be_plotted_is_refused(sweeps) -> None:
    jobs = find_jobs([sweeps.lr_sweep()])
    with pytest.raises(UserError, match=r"finetune\.strategy is visual in all runs"):
        draw(jobs, "strategy")
    with pytest.raises(UserError, match=r"no kind of plot 'tradeof', .* did you mean 'tradeoff'"):
        draw(jobs, "tradeof")
    sweeps.save("new/0", RunRecord(command=["kt-exp"], config=sweeps.config()))
    with pytest.raises(UserError, match="none of the runs has measured anything yet"):
        draw(find_jobs([sweeps.root / "new"]), "lr")
