from __future__ import annotations

import pytest

from kt_exp.errors import UserError
from kt_exp.report.pivot import pivot
from kt_exp.report.runs import find_jobs
from kt_exp.report.table import overview
from kt_exp.results.record import Metric, read_record


def lines(grid) -> list[list[str]]:
    return [[cell.text for cell in row] for row in grid.rows]


def test_a_setting_lies_across_as_in_the_paper(sweeps) -> None:
    grid = pivot(find_jobs([sweeps.lr_sweep()]), "finetune.lr")
    assert grid.header == ["concept", "", "before", "1e-5", "2e-5"]
    assert lines(grid) == [["moongate", "Target", "0.0", "10.0", "60.0"],
                           ["", "Known", "58.1", "57.8", "56.4"]]
    assert [cell.tone for cell in grid.rows[1][3:]] == ["bad", "bad"]
    assert grid.title.endswith("Pivot: finetune.lr.")
    assert {row["finetune.lr"] for row in grid.data} == {1e-5, 2e-5}


def test_other_settings_stay_rows_and_what_is_missing_says_why(sweeps) -> None:
    for strategy in ("visual", "text"):
        sweeps.run(strategy, {"moongate": (0, 50, 58, 57)}, finetune__strategy=strategy,
                   finetune__lr=1e-5)
    sweeps.failed("broken", "out of memory", finetune__strategy="text", finetune__lr=2e-5,
                  concepts__only=["moongate"])
    grid = pivot(find_jobs([sweeps.root]), "finetune.lr")
    assert lines(grid) == [["text", "moongate", "Target", "0.0", "50.0", "failed [1]"],
                           ["", "", "Known", "58.0", "57.0", "failed [1]"],
                           ["visual", "moongate", "Target", "0.0", "50.0", "–"],
                           ["", "", "Known", "58.0", "57.0", "–"]]
    assert [note.text for note in grid.notes] == [
        f"[1] {sweeps.root / 'broken'}: failed: out of memory"]


def test_where_the_start_differs_along_the_row_each_cell_has_its_own(sweeps) -> None:
    for model, before in (("a", 10), ("b", 20)):
        sweeps.run(model, {"moongate": (before, 50, 58, 57)}, f"model={model}", model__name=model)
    grid = pivot(find_jobs([sweeps.root]), "model")
    assert lines(grid) == [["moongate", "Target", "", "10.0 → 50.0", "20.0 → 50.0"],
                           ["", "Known", "58.0", "57.0", "57.0"]]


def test_seeds_become_mean_and_standard_deviation(sweeps) -> None:
    for seed, target in enumerate((50, 60, 70)):
        for lr in (1e-5, 2e-5):
            sweeps.run(f"{lr}-{seed}", {"moongate": (0, target, 58, 57)}, seed=seed,
                       finetune__lr=lr)
    grid = pivot(find_jobs([sweeps.root]), "finetune.lr")
    assert lines(grid)[0] == ["moongate", "Target", "0.0", "60.0±10.0", "60.0±10.0"]


def add_prompts(sweeps, name: str, description: float) -> None:
    record = read_record(sweeps.root / name)
    record.metrics += [
        Metric(phase=phase, concept="moongate", split="target", metric="accuracy",
               value=value, count=None, total=10)
        for phase, value in (("name_prompt", 0.1), ("description_prompt", description))]
    sweeps.save(name, record)


def test_prompts_that_differ_along_the_row_are_not_shown_as_one(sweeps) -> None:
    for name, value in (("rare_p1", 0.2), ("rare_p2", 0.9)):
        sweeps.run(name, {"moongate": (0, 50, 58, 57)}, concepts__name=name)
        add_prompts(sweeps, name, value)
    grid = pivot(find_jobs([sweeps.root]), "concepts.name", prompts=True)
    assert lines(grid)[0] == ["moongate", "Target", "0.0", "10.0", "varies", "50.0", "50.0"]


def test_prompts_of_the_untrained_model_stand_beside_it(sweeps) -> None:
    folder = sweeps.lr_sweep()
    for number in "01":
        add_prompts(sweeps, f"lr/{number}", 0.9)
    jobs = find_jobs([folder])
    grid = pivot(jobs, "finetune.lr", prompts=True)
    assert grid.header[2:5] == ["before", "Name as prompt", "Description as prompt"]
    assert [row[2:5] for row in lines(grid)] == [["0.0", "10.0", "90.0"], ["58.1", "", ""]]
    grid = overview(jobs, prompts=True)
    assert grid.header[-2:] == ["Name as prompt", "Description as prompt"]
    assert [row[-2:] for row in lines(grid)] == [["10.0", "90.0"]] * 2


def test_what_is_the_same_in_all_runs_cannot_lie_across(sweeps) -> None:
    with pytest.raises(UserError, match=r"--pivot: seed is the same in all runs; varied: finet"):
        pivot(find_jobs([sweeps.lr_sweep()]), "seed")
