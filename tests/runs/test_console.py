from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from kt_exp.results.outcome import JOINT, Metric, Phase
from kt_exp.results.summary import duration, headline, signed
from kt_exp.runs.console import (
    diagnosis_table,
    print_summary,
    score_table,
    summary_table,
    tradeoff_table,
)

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def shown(thing, width: int = 100, **settings) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, **settings)
    console.print(thing)
    return console.file.getvalue()


def summarised(record, folder: Path, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_summary(record, folder, console)
    return console.file.getvalue()


def line_of(text: str, word: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(word))


def test_the_table_shows_before_and_after_with_counts(record):
    table = shown(summary_table(record))
    assert line_of(table, "moongate") == [
        "moongate", "0.0%", "0/20", "90.0%", "18/20", "99.0%", "97.5%", f"{MINUS}1.5",
        "0.0%", "25.0%"]
    assert line_of(table, "umbrella") == [
        "umbrella", "20.0%", "4/20", "0.0%", "0/20", "99.0%", "100.0%", "+1.0", "20.0%", "25.0%"]
    assert line_of(table, "mean") == [
        "mean", "10.0%", "45.0%", "99.0%", "98.8%", f"{MINUS}0.2", "10.0%", "25.0%"]


def test_rates_have_their_wilson_interval_below(record):
    lines = shown(summary_table(record)).splitlines()
    moongate = next(place for place, line in enumerate(lines) if line.startswith("moongate"))
    assert lines[moongate + 1].split() == [  # 0 and 18 of 20, 198 and 195 of 200, 0 and 5 of 20
        "[0–16]", "[70–97]", "[96–100]", "[94–99]", "[0–16]", "[11–47]"]
    assert "[" not in "".join(lines[-1:])  # a mean is no rate


def test_equal_forgetting_stands_beside_plain_accuracy(classified, tmp_path):
    record, _ = classified.record()
    text = summarised(record, tmp_path)
    table = text[text.index("with 2 points of known accuracy lost"):]
    assert line_of(table, "Concept") == [
        "Concept", "bias", "name", "descr.", "both", "parts", "→", "after", "bias", "→", "after"]
    bias, after = (100 * record.metric(phase, "moongate", "target", "target_at_2").value
                   for phase in (Phase.baseline, Phase.transferred))
    cells = line_of(table, "moongate")
    assert (cells[1], cells[6]) == (f"{bias:.1f}%", f"{after:.1f}%")
    assert cells[7:] == [f"{record.metric(phase, 'moongate', 'all', 'auroc').value:.3f}"
                         for phase in (Phase.baseline, Phase.transferred)]
    assert line_of(table, "mean")[1:]
    assert "Metric" not in text  # no flood of the other metrics
    assert max(map(len, table.splitlines()[:9])) <= 100


def test_operating_points_have_their_own_table(classified, tmp_path):
    record, _ = classified.record(budget=0.02)
    text = summarised(record, tmp_path, width=80)
    table = text[text.index("With the largest constant"):]
    assert "loses at most 2 % of 300 other known images" in " ".join(table.split())
    target, known, before = (
        100 * record.metric(phase, "umbrella", split).value for phase, split in (
            ("calibrated", "target"), ("calibrated", "known"), ("baseline", "known")))
    assert line_of(table, "umbrella") == [
        "umbrella", f"{record.calibrations[1].point.gamma:+.4f}".replace("-", MINUS),
        f"{target:.1f}%", f"{known:.1f}%", signed(known - before)]
    assert len(line_of(table, "mean")) == 4  # a mean has no γ
    assert "With the largest" not in summarised(classified.record()[0], tmp_path)


def test_a_missing_operating_point_has_a_dash_and_its_reason(classified, tmp_path):
    record, _ = classified.record(budget=1.0, concepts=("moongate",))
    record.metrics = [row for row in record.metrics if row.phase != Phase.calibrated]
    text = summarised(record, tmp_path)
    table = text[text.index("With the largest constant"):]
    assert line_of(table, "moongate") == ["moongate", DASH, DASH, DASH, DASH]
    assert "note: moongate: no γ: of 300 known images only" in text


def test_phases_that_were_not_measured_have_no_column(classified):
    record, _ = classified.record(concepts=("moongate",))
    record.metrics = [row for row in record.metrics if row.phase == Phase.baseline]
    assert line_of(shown(tradeoff_table(record)), "Concept") == [
        "Concept", "bias", "bias"]


def test_a_narrow_terminal_gets_the_tables_without_intervals(classified, tmp_path):
    record, _ = classified.record(concepts=("a stripe of many names",))
    text = summarised(record, tmp_path, width=80)
    assert "[" not in text
    assert text.count("\na stripe of ") == 2
    assert "…" not in text
    assert "[" in summarised(record, tmp_path)


def test_one_concept_needs_no_mean(record):
    record.concepts = record.concepts[:1]
    assert "mean" not in shown(summary_table(record))


@pytest.mark.parametrize("total", [20, 100, 50_000])
def test_the_table_fits_a_hundred_columns(record, total):
    record.concepts[0].name = long = "a concept with quite a long name"
    record.metrics = [
        replace(row, concept=row.concept.replace("moongate", long),
                count=round(row.value * total), total=total) for row in record.metrics]
    table = shown(summary_table(record))
    assert "…" not in table
    assert f"{round(0.9 * total)}/{total}" in table
    assert max(map(len, table.splitlines())) <= 100


def test_what_was_not_measured_is_left_open(record):
    record.metrics = [row for row in record.metrics if row.phase != Phase.transferred]
    assert line_of(shown(summary_table(record)), "moongate") == [
        "moongate", "0.0%", "0/20", DASH, "99.0%", DASH, DASH, "0.0%", "25.0%"]


def test_the_summary_names_files_and_warnings(record, tmp_path):
    text = summarised(record, tmp_path)
    assert "completed in 1 min 14 s" in text
    assert "from the store: inversion 2\n" in text
    assert "warning: umbrella: the similarity did not rise" in text
    assert str(tmp_path / "report.html") in text


def test_a_failed_run_says_why(record, tmp_path):
    record.metrics = []
    record.close("failed", RuntimeError("loss became NaN for [moongate]"))
    text = summarised(record, tmp_path)
    assert "loss became NaN for [moongate]" in text
    assert "Concept" not in text


def test_an_interrupted_run_says_how_to_go_on(record):
    record.close("interrupted")
    assert "the same command goes on" in headline(record)


def test_piped_output_has_no_escape_codes(record, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    print_summary(record, tmp_path)
    out = capsys.readouterr().out
    assert "moongate" in out
    assert "\x1b" not in out


def test_a_pipe_without_unicode_does_not_end_the_run(record, tmp_path, monkeypatch):
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", pipe)
    print_summary(record, tmp_path)
    pipe.flush()
    assert b"?1.5" in pipe.buffer.getvalue()


def test_gains_are_green_and_losses_red_on_a_terminal_only(record):
    table = shown(summary_table(record), force_terminal=True, color_system="standard")
    assert "\x1b[32m90.0%" in table
    assert "\x1b[31m0.0%" in table


def test_no_color_is_honoured_on_a_terminal(record, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    table = shown(summary_table(record), force_terminal=True, color_system="standard")
    assert "\x1b[32m" not in table
    assert "\x1b[31m" not in table


def test_the_diagnosis_lists_warnings_below(record):
    umbrella = record.concepts[1]
    umbrella.diagnosis = replace(umbrella.diagnosis, warning="cosine 0.12: transfer is unlikely")
    text = shown(diagnosis_table(record.concepts))
    assert line_of(text, "moongate") == ["moongate", "9/32", "0.50", "wheel", "0.61"]
    assert "warning: umbrella: cosine 0.12: transfer is unlikely" in text


def test_a_task_without_targets_shows_each_metric_before_and_after(retrieval, tmp_path):
    text = summarised(retrieval, tmp_path)
    assert line_of(text, "Metric") == ["Metric", "(×", "100)", "before", "→", "after", "points"]
    assert line_of(text, "text_R@1") == ["text_R@1", "73.2", "74.5", "+1.3"]
    assert line_of(text, "image_R@1") == ["image_R@1", "55.0", "54.9", f"{MINUS}0.1"]
    assert "Target" not in text
    assert "note: of 5 captions per image the first were used" in text


def test_models_of_their_own_have_rows_of_their_own(retrieval):
    other = [replace(row, concept="umbrella", value=0.5) for row in retrieval.metrics
             if row.phase == Phase.baseline]
    retrieval.metrics += other
    table = shown(score_table(retrieval))
    assert line_of(table, "Concept")[:2] == ["Concept", "Metric"]
    assert line_of(table, "umbrella") == ["umbrella", "text_R@1", "50.0", DASH, DASH]


def test_scores_of_each_concept_have_a_mean(segmentation, tmp_path):
    text = summarised(segmentation, tmp_path)
    assert line_of(text, "Concept")[:2] == ["Concept", "Metric"]
    assert line_of(text, "moongate") == ["moongate", "DSC", "13.2", "18.7", "+5.5"]
    assert line_of(text, "umbrella") == ["umbrella", "DSC", "42.0", "40.0", f"{MINUS}2.0"]
    means = [line.split() for line in text.splitlines() if line.startswith("mean")]
    assert means == [["mean", "DSC", "27.6", "29.4", "+1.8"], ["mean", "NSD", "6.5", "7.5", "+1.0"]]
    assert "Target" not in text


def test_a_mean_with_a_gap_is_left_open(segmentation):
    segmentation.metrics = [row for row in segmentation.metrics
                            if (row.phase, row.concept) != (Phase.transferred, "umbrella")]
    assert line_of(shown(score_table(segmentation)), "mean") == ["mean", "DSC", "27.6", DASH, DASH]


def test_a_classification_may_have_both_tables(record, tmp_path):
    record.metrics.append(Metric(Phase.baseline, JOINT, "all", "accuracy", 0.621, 621, 1000))
    text = summarised(record, tmp_path)
    assert line_of(text, "moongate")[:2] == ["moongate", "0.0%"]
    assert line_of(text, "accuracy") == ["accuracy", "62.1", DASH, DASH]


def test_a_diagnosis_without_embeddings_counts_tokens_only(retrieval):
    text = shown(diagnosis_table(retrieval.concepts))
    assert line_of(text, "moongate") == ["moongate", "9/32", DASH, DASH]


@pytest.mark.parametrize(("seconds", "text"), [
    (7.42, "7.4 s"), (59.9, "1 min 00 s"), (74, "1 min 14 s"), (7500, "2 h 05 min")])
def test_durations_read_like_a_person_says_them(seconds, text):
    assert duration(seconds) == text


def test_a_change_has_its_sign():
    assert [signed(points) for points in (1.25, -0.84, 0.01, None)] == [
        "+1.2", f"{MINUS}0.8", "±0.0", ""]
