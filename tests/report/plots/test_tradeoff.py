"""Target against known accuracy over all constants on the concept's score."""

from __future__ import annotations

from statistics import fmean

import pytest
from matplotlib.axes import Axes

from kt_exp.drawing import SOFT
from kt_exp.errors import UserError
from kt_exp.report.plots import Chart, draw
from kt_exp.report.runs import Job, find_jobs

APPROX = pytest.approx


def chart(folder) -> Chart:
    return draw(find_jobs([folder]), "tradeoff")


def curves(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    return {str(line.get_label()): [tuple(point) for point in line.get_xydata()]
            for line in axes.lines if not str(line.get_label()).startswith("_")}


def legend(drawn: Chart) -> list[str]:
    return [text.get_text() for text in drawn.figure.legends[0].get_texts()]


def target_at(curve: list[tuple[float, float]], least: float) -> float:
    """The highest target accuracy with a known accuracy of `least` or more, as the figure shows."""
    return max(target for known, target in curve if known >= least - 1e-6)


def accuracy(job: Job, phase: str, split: str, concept: str = "moongate") -> float:
    return 100 * (job.measured(phase, concept, split, "accuracy") or 0.0)


def test_a_run_has_a_curve_for_each_phase_and_a_dot_where_it_is(classified) -> None:
    folder = classified.run("one", concepts=("moongate",))
    drawn = chart(folder)
    [axes] = drawn.figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Known accuracy (%)", "Target accuracy (%)")
    assert legend(drawn) == [
        "bias alone", "name as prompt", "description as prompt", "name and description",
        "parts of description", "after fine-tuning", "no constant added", "2 known points lost"]
    assert list(curves(axes)) == legend(drawn)[:-2]
    [job] = find_jobs([folder])
    target, known = (accuracy(job, "transferred", split) for split in ("target", "known"))
    assert f"after fine-tuning: target {target:.1f}%, known {known:.1f}%" in {
        tip for tips in drawn.tips.values() for tip in tips}


def test_the_curves_meet_two_points_lost_at_target_at_2(classified) -> None:
    [job] = find_jobs([classified.run("one", concepts=("moongate",))])
    [axes] = draw([job], "tradeoff").figure.axes
    reference = accuracy(job, "baseline", "known")
    for label, phase in (("bias alone", "baseline"), ("after fine-tuning", "transferred")):
        assert target_at(curves(axes)[label], reference - 2) == APPROX(
            100 * job.measured(phase, "moongate", "target", "target_at_2"))


def test_the_mean_is_at_equal_loss_of_each_concept(classified) -> None:
    [job] = find_jobs([classified.run("two")])
    left, right, mean = draw([job], "tradeoff").figure.axes
    assert [axes.get_title(loc="left") for axes in (left, right, mean)] == [
        "moongate", "umbrella", "mean of 2"]
    reference = fmean(accuracy(job, "baseline", "known", name) for name in classified.CONCEPTS)
    for label, phase in (("bias alone", "baseline"), ("after fine-tuning", "transferred")):
        assert target_at(curves(mean)[label], reference - 2) == APPROX(fmean(
            100 * job.measured(phase, name, "target", "target_at_2")
            for name in classified.CONCEPTS))


def test_a_bias_moves_along_the_curve_of_the_untrained_model(classified) -> None:
    folder = classified.run("bias", knowledge=0, bias=2, concepts=("moongate",))
    [axes] = chart(folder).figure.axes
    start = axes.lines[0].get_xdata()[0] + 2  # the untrained model's known accuracy
    for lost in (1, 2, 5):
        after, before = (target_at(curves(axes)[label], start - lost)
                         for label in ("after fine-tuning", "bias alone"))
        assert after == before > 0


def test_variants_are_curves_beside_one_bias_alone(classified) -> None:
    drawn = chart(classified.controls())
    assert legend(drawn)[:-2] == ["bias alone", "inverted images", "noise",
                                  "captions without the name", "exchanged descriptions"]
    bias = drawn.figure.axes[0].lines[1]
    assert (bias.get_label(), bias.get_color()) == ("bias alone", SOFT)


def test_runs_that_differ_elsewhere_are_named_by_what_differs(classified) -> None:
    for lr in (1e-5, 1e-4):
        classified.run(str(lr), finetune__lr=lr)
    assert legend(chart(classified.root))[:3] == ["bias alone", "lr 1e-5", "lr 1e-4"]


def test_variants_that_train_otherwise_have_names_and_lines_of_their_own(classified) -> None:
    for captions in ("named", "mixed"):
        for lr in (1e-5, 2e-5, 3e-5, 4e-5):
            classified.run(f"{captions}{lr}", finetune__lr=lr, finetune__captions=captions,
                           concepts=("moongate",))
    drawn = chart(classified.root)
    assert len({*legend(drawn)}) == len(legend(drawn)) == 11
    assert {"mixed, lr 1e-5", "named, lr 4e-5"} < {*legend(drawn)}
    looks = {(line.get_color(), line.get_linestyle()) for line in drawn.figure.axes[0].lines
             if "lr" in str(line.get_label())}
    assert len(looks) == 8
    classified.run("noise", finetune__images="noise", finetune__lr=1e-5, concepts=("moongate",))
    assert "inverted images, captions mixed, lr 1e-5" in legend(chart(classified.root))


def test_a_curve_is_drawn_as_far_as_it_rises(classified) -> None:
    [axes] = chart(classified.run("good", knowledge=12, bias=0,
                                  concepts=("moongate",))).figure.axes
    [weak] = chart(classified.run("weak", knowledge=1, bias=0,
                                  concepts=("moongate",))).figure.axes
    assert max(target for _, target in curves(axes)["after fine-tuning"]) == 100
    assert weak.get_xlim()[0] < axes.get_xlim()[0] + 1


def test_seeds_are_averaged(classified) -> None:
    for seed, knowledge in enumerate((1.0, 4.0)):
        classified.run(str(seed), knowledge=knowledge, seed=seed, concepts=("moongate",))
    jobs = find_jobs([classified.root])
    [axes] = draw(jobs, "tradeoff").figure.axes
    found = [100 * job.measured("transferred", "moongate", "target", "target_at_2")
             for job in jobs]
    reference = accuracy(jobs[0], "baseline", "known")
    assert target_at(curves(axes)["after fine-tuning"], reference - 2) == APPROX(fmean(found))


def test_the_operating_point_is_a_diamond_on_the_curve(classified) -> None:
    [job] = find_jobs([classified.run("one", budget=0.01, concepts=("moongate",))])
    drawn = draw([job], "tradeoff")
    [axes] = drawn.figure.axes
    target, known = (accuracy(job, "calibrated", split) for split in ("target", "known"))
    assert f"after fine-tuning, calibrated: target {target:.1f}%, known {known:.1f}%" in {
        tip for tips in drawn.tips.values() for tip in tips}
    [diamond] = [line for line in axes.lines if line.get_marker() == "D"]
    assert diamond.get_xydata().tolist() == [[known, target]]
    assert [known, target] in [APPROX(point) for point in curves(axes)["after fine-tuning"]]
    assert "calibrated on other images" in legend(drawn)


def test_operating_points_of_seeds_are_averaged(classified) -> None:
    for seed, knowledge in enumerate((1.0, 4.0)):
        classified.run(str(seed), knowledge=knowledge, seed=seed, concepts=("moongate",),
                       budget=0.01)
    jobs = find_jobs([classified.root])
    [axes] = draw(jobs, "tradeoff").figure.axes
    [diamond] = [line for line in axes.lines if line.get_marker() == "D"]
    assert diamond.get_xydata()[0].tolist() == APPROX([
        fmean(accuracy(job, "calibrated", split) for job in jobs) for split in ("known", "target")])


def test_runs_without_curves_are_refused(sweeps) -> None:
    folder = sweeps.run("old", {"moongate": (0, 60, 58, 56)})
    with pytest.raises(UserError, match=r"--kind: the runs hold no curves: .*older version"):
        chart(folder)
