"""Folders as they are found: several studies mixed, concepts in runs of their own, gaps, seeds."""

from __future__ import annotations

import yaml

from kt_exp.report.grid import as_csv, as_latex, as_markdown
from kt_exp.report.plots import draw
from kt_exp.report.runs import find_jobs
from kt_exp.report.sweep_page import write_sweep_page
from kt_exp.report.table import overview
from kt_exp.results.record import Metric, RunRecord, read_record


def rows(jobs) -> list[list[str]]:
    return [[cell.text for cell in row] for row in overview(jobs).rows]


def retrieval_run(sweeps, name: str) -> None:
    record = RunRecord(command=["kt-exp"], config=sweeps.config(finetune__scope="joint"))
    record.metrics = [Metric(phase=phase, concept="all concepts", split="all", metric="text_R@1",
                             value=value, count=None, total=1000)
                      for phase, value in (("baseline", 0.5), ("transferred", 0.6))]
    record.close("completed")
    sweeps.save(name, record)


def test_concepts_taught_in_runs_of_their_own_are_rows_side_by_side(sweeps) -> None:
    sweeps.run("a", {"moongate": (0, 50, 58, 57)})
    sweeps.run("b", {"tonometer": (10, 70, 58, 56)})
    assert rows(find_jobs([sweeps.root])) == [
        ["moongate", "0.0", "50.0", "58.0", "57.0"], ["tonometer", "10.0", "70.0", "58.0", "56.0"]]


def test_a_failed_run_marks_the_concepts_that_it_was_to_teach_and_no_other(sweeps) -> None:
    sweeps.run("a", {"moongate": (0, 50, 58, 57)})
    sweeps.failed("b", "out of memory", concepts__only=["tonometer"])
    assert rows(find_jobs([sweeps.root])) == [
        ["moongate", "0.0", "50.0", "58.0", "57.0"], ["tonometer", "–", "–", "–", "failed [1]"]]


def test_of_seeds_the_failed_one_is_named_beside_the_mean_of_the_others(sweeps) -> None:
    for seed, target in enumerate((50, 70)):
        sweeps.run(str(seed), {"moongate": (0, target, 58, 57)}, seed=seed)
    sweeps.failed("2", "out of memory", seed=2, concepts__only=["moongate"])
    assert rows(find_jobs([sweeps.root])) == [
        ["moongate", "0.0", "60.0±14.1", "58.0", "57.0±0.0 (failed [1])", "2"]]


def test_studies_of_different_tasks_share_a_table_a_plot_and_a_page(sweeps, tmp_path) -> None:
    folder = sweeps.lr_sweep("a")
    retrieval_run(sweeps, "b")
    jobs = find_jobs([folder, sweeps.root / "b"])

    grid = overview(jobs)
    assert [title for title in grid.header if "before" in title] == [
        "Target before", "Known before", "text_R@1 before"]
    assert [cell.text for cell in grid.rows[-1]][-6:] == ["–", "–", "–", "–", "50.0", "60.0"]
    for text in (as_markdown(grid), as_latex(grid), as_csv(grid)):
        assert "text\\_R" in text or "text_R" in text
    frames = draw(jobs, "lr").figure.axes
    assert [axes.get_ylabel() for axes in frames if axes.get_ylabel()] == [
        "Target accuracy (%)", "Known accuracy (%)", "text_R@1 (%)"]
    assert "text_R@1" in write_sweep_page(jobs, tmp_path / "page.html").read_text()


def test_a_cell_of_latex_never_reads_as_an_argument_of_the_line_before(sweeps) -> None:
    for steps in ("[32]", "[32, 64]"):
        sweeps.run(steps, {"a_b": (0, 50, 58, 57)}, inversion__steps=steps)
    text = as_latex(overview(find_jobs([sweeps.root])))
    assert "\n{[}32, 64] & a\\_b & " in text


def test_a_half_written_record_is_shown_as_failed_and_the_others_count(sweeps) -> None:
    folder = sweeps.lr_sweep()
    path = folder / "1" / "result.json"
    (folder / "1" / ".hydra").mkdir()
    config = read_record(path).config
    config["concepts"] |= {"items": []}  # as a set from a file
    (folder / "1" / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "1" / ".hydra" / "overrides.yaml").write_text("- finetune.lr=2e-05\n")
    path.write_text(path.read_text()[:200])
    grid = overview(find_jobs([folder]))
    assert [[cell.text for cell in row] for row in grid.rows] == [
        ["1e-5", "moongate", "0.0", "10.0", "58.1", "57.8"],
        ["2e-5", "–", "–", "–", "–", "failed [1]"]]
    assert grid.title.startswith("2 runs: 1 completed, 1 failed")
    assert f"{path}: is not valid JSON" in grid.notes[-1].text
