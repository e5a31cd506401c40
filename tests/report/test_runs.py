from __future__ import annotations

import json

import pytest

from kt_exp.errors import UserError
from kt_exp.report.grouping import grouped, labels, shown, varied
from kt_exp.report.runs import find_jobs, newest
from kt_exp.results.record import RunRecord

NOTHING = (0, 0, 50, 50)


def test_finds_runs_at_any_depth_and_single_files(sweeps) -> None:
    sweeps.lr_sweep("study/first")
    alone = sweeps.run("alone", {"moongate": NOTHING})

    found = find_jobs([sweeps.root / "study", alone / "result.json"])

    assert [job.folder.name for job in found] == ["0", "1", "alone"]
    assert {job.state for job in found} == {"completed"}


def test_a_sweep_promises_the_jobs_that_left_nothing_yet(sweeps) -> None:
    folder = sweeps.lr_sweep()
    sweeps.multirun("lr", "finetune.lr=1e-05,2e-05,3e-05")

    *begun, promised = find_jobs([folder])

    assert [job.state for job in begun] == ["completed", "completed"]
    assert promised.state == "pending"
    assert promised.folder == folder / "2"
    assert promised.value("finetune.lr") == 3e-5
    assert promised.concepts == ["moongate"]


def test_a_sweep_in_an_experiment_file_promises_its_jobs_too(sweeps) -> None:
    folder = sweeps.multirun("sweep", "seed=1", **{"finetune.lr": "1e-5,2e-5"})
    assert [list(job.overrides) for job in find_jobs([folder])] == [
        ["finetune.lr=1e-05", "seed=1"], ["finetune.lr=2e-05", "seed=1"]]


def test_names_what_varied_and_leaves_out_seeds_and_paths(sweeps) -> None:
    for number, (lr, seed) in enumerate([(1e-5, 0), (1e-5, 1), (2e-5, 0)]):
        sweeps.run(str(number), {"moongate": NOTHING}, f"finetune.lr={lr}", finetune__lr=lr,
                   seed=seed, store__root=f"store{number}")
    jobs = find_jobs([sweeps.root])

    assert varied(jobs) == ["finetune.lr"]
    assert [len(some) for some in grouped(jobs, ["finetune.lr"]).values()] == [2, 1]


def test_the_option_of_a_group_stands_for_the_keys_it_brings(sweeps) -> None:
    for model in ("clip_vit_b32", "clip_vit_l14"):
        for strategy in ("visual", "text"):
            sweeps.run(f"{model}-{strategy}", {"moongate": NOTHING}, f"model={model}",
                       f"finetune.strategy={strategy}", model__name=model,
                       finetune__strategy=strategy)
    jobs = find_jobs([sweeps.root])

    assert varied(jobs) == ["model", "finetune.strategy"]
    assert next(iter(grouped(jobs, varied(jobs)))) == ("clip_vit_b32", "text")


def test_a_swept_key_is_named_though_another_tells_the_runs_apart(sweeps) -> None:
    for lr, size in ((1e-6, 16), (2e-6, 128)):
        sweeps.run(f"{lr}", {"moongate": NOTHING}, f"finetune.lr={lr}",
                   f"finetune.batch_size={size}", finetune__lr=lr, finetune__batch_size=size)
    assert varied(find_jobs([sweeps.root])) == ["finetune.lr", "finetune.batch_size"]


def test_of_a_run_made_again_the_completed_one_counts(sweeps) -> None:
    sweeps.run("first", {"moongate": NOTHING})
    sweeps.failed("second", "out of memory", concepts__only=["moongate"])
    assert [job.folder.name for job in newest(find_jobs([sweeps.root]))] == ["first"]


@pytest.mark.parametrize(("condition", "left"), [
    ({"finetune.lr": "1e-5"}, 1), ({"finetune.lr": [1e-5, 2e-5]}, 2),
    ({"model.name": "vit-b-32*"}, 2), ({"finetune.images": "inverted", "finetune.lr": 2e-5}, 1),
])
def test_conditions_choose_runs(sweeps, condition, left) -> None:
    assert len(find_jobs([sweeps.lr_sweep()], condition)) == left


def test_bad_input_is_one_line(sweeps) -> None:
    folder = sweeps.lr_sweep()
    (sweeps.root / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no runs here; give folders that hold a result"):
        find_jobs([sweeps.root / "empty"])
    with pytest.raises(UserError, match="nowhere: no such folder"):
        find_jobs([sweeps.root / "nowhere"])
    with pytest.raises(UserError, match="--where: none of the 2 runs fits"):
        find_jobs([folder], {"finetune.lr": 7})

    path = folder / "0" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(UserError, match=r"result\.json: has schema version 99"):
        find_jobs([folder])


def test_a_job_that_failed_before_its_config_is_still_found(sweeps) -> None:
    record = RunRecord(command=["kt-exp"], config={}, overrides=["finetune.lr=x"])
    record.close("failed", UserError("finetune.lr", "'x' is not a number"))
    sweeps.save("broken", record)
    [job] = find_jobs([sweeps.root])
    assert (job.state, job.concepts, varied([job])) == ("failed", [], [])


@pytest.mark.parametrize(("value", "text"), [
    (2e-05, "2e-5"), (1e-3, "1e-3"), (0.005, "0.005"), (1.5e-4, "1.5e-4"), (0.0, "0"),
    (5000, "5000"), (None, "none"), (True, "true"), ("visual", "visual"),
])
def test_settings_are_shown_as_people_write_them(value, text) -> None:
    assert shown(value) == text


def test_numbers_of_a_setting_are_shown_alike() -> None:
    assert list(labels([(1e-3, "a"), (0.003, "b"), (0.0, "c")]).values()) == [
        ["1e-3", "a"], ["3e-3", "b"], ["0", "c"]]
    assert list(labels([(0.5,), (0.003,)]).values()) == [["0.5"], ["0.003"]]
