"""Names of earlier versions: the error says what became of them, and old runs are still read."""

from __future__ import annotations

import json

import pytest

from kt_exp.config.renames import RENAMED, with_current_names
from kt_exp.report.cli import main as kt_report
from kt_exp.report.runs import find_jobs

pytestmark = pytest.mark.slow

TINY = [
    "inversion=fast", "finetune=pictograms",
    "inversion.steps=1", "inversion.sizes=[]", "inversion.upsize_at=[]", "inversion.images=1",
    "finetune.epochs=1", "finetune.rehearsal=0", "benchmark.images_per_known_class=1",
    "benchmark.images_per_target=1", "concepts.only=[gyroscope]",
]


@pytest.fixture
def renamed(monkeypatch):
    """Renames in the table, beside those of the project."""
    for former, current in {
        "old_seed": "seed", "finetune.rate": "finetune.lr", "model.oldname": "model.name",
        "finetune.strategy=textual": "finetune.strategy=text", "tracker=nil": "tracker=none",
    }.items():
        monkeypatch.setitem(RENAMED, former, current)


REFUSED = {
    "removed key": (["inversion.speed.packed=true"],
                    "inversion.speed.packed: was removed; it gained little, and on few CPUs; "
                    "leave it out"),
    "removed key, added": (["+inversion.speed.packed=true"], "inversion.speed.packed: was removed"),
    "key": (["old_seed=1"], "old_seed: was renamed; write seed"),
    "key of a group": (["finetune.rate=1"], "finetune.rate: was renamed; write finetune.lr"),
    "key of a plug-in": (["+model.oldname=x"], "model.oldname: was renamed; write model.name"),
    "value": (["finetune.strategy=textual"],
              "finetune.strategy=textual: was renamed; write finetune.strategy=text"),
    "value, as renamed": (["finetune.loss=bank"],
                          "finetune.loss=bank: was renamed; write finetune.loss=class_ce"),
    "option of a group": (["tracker=nil"], "tracker=nil: was renamed; write tracker=none"),
}


@pytest.mark.usefixtures("renamed")
@pytest.mark.parametrize("case", REFUSED)
def test_a_former_name_is_refused_in_one_line_that_says_what_to_write(case, kt_exp):
    arguments, expected = REFUSED[case]
    ended = kt_exp(*arguments)
    assert ended.code == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"kt-exp: error: {expected}")


@pytest.mark.parametrize(("arguments", "line"), [
    (["--across", "seed"], "--across: was renamed; write --pivot"),
    (["--across=seed"], "--across: was renamed; write --pivot"),
    (["--where", "finetune.loss=bank"],
     "finetune.loss=bank: was renamed; write finetune.loss=class_ce"),
    (["--where", "inversion.speed.packed=true"], "inversion.speed.packed: was removed"),
])
def test_a_former_name_is_refused_by_kt_report_too(arguments, line, home, capfd):
    with pytest.raises(SystemExit) as ended:
        kt_report(["table", str(home), *arguments])
    assert ended.value.code == 2
    assert capfd.readouterr().err.startswith(f"kt-report: error: {line}")


@pytest.mark.usefixtures("renamed")
def test_a_run_of_before_is_recognised_by_its_former_names(kt_exp):
    first = kt_exp(*TINY, "finetune.strategy=text")
    result = first.folder / "result.json"
    record = json.loads(result.read_text(encoding="utf-8"))
    record["config"]["inversion"]["speed"]["packed"] = True
    record["config"]["old_seed"] = record["config"].pop("seed")
    record["config"]["finetune"]["rate"] = record["config"]["finetune"].pop("lr")
    record["config"]["finetune"]["strategy"] = "textual"
    result.write_text(json.dumps(record), encoding="utf-8")

    [job] = find_jobs([first.folder])
    assert job.value("finetune.strategy") == "text"
    assert job.value("finetune.lr") == 0.001
    again = kt_exp(*TINY, "finetune.strategy=text", "on_existing=skip")
    assert (again.code, again.stderr) == (0, "")
    assert "Skipped, as completed before" in again.stdout


def test_a_plug_in_without_a_later_key_had_what_that_key_now_has_to_ask_for():
    old = {"model": {"_target_": "kt_exp.models.vilt.ViLT", "head": "auto"}, "seed": 0}
    assert with_current_names(old)["model"]["rank_by"] == "log_odds"
    assert "rank_by" not in with_current_names({"model": {"_target_": "my.Model"}})["model"]
    assert "rank_by" not in old["model"]
