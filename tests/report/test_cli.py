from __future__ import annotations

import subprocess
import sys

import pytest

from kt_exp.report.cli import main
from kt_exp.results.record import RunRecord


@pytest.fixture
def report(capsys):
    """Call `kt-report`; return the exit code, standard output and standard error."""
    def call(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return ended.value.code or 0, streams.out, streams.err
    return call


def test_the_table_of_a_sweep(sweeps, report) -> None:
    code, out, err = report("table", sweeps.lr_sweep(), "--format", "md")
    assert (code, err) == (0, "")
    assert "| 2e-5 | moongate | 0.0 | 60.0 | 58.1 | 56.4 |" in out


def test_check_tells_by_the_exit_code(sweeps, report) -> None:
    folder = sweeps.lr_sweep()
    assert report("table", folder, "--table", "tab1", "--check", 1)[0] == 0
    sweeps.run("lr/1", {"moongate": (0, 55, 58.10, 56.43)}, "finetune.lr=2e-05", finetune__lr=2e-5)
    assert report("table", folder, "--table", "tab1", "--check", 6)[0] == 0
    code, out, err = report("table", folder, "--table", "tab1", "--check", 4)
    assert code == 1
    assert "−5.00" in out
    assert err == "6 cells compared; 1 differ by more than 4 points, failed or are ambiguous\n"


def test_a_check_that_compares_nothing_does_not_pass(sweeps, report) -> None:
    sweeps.run("running", {"moongate": (0, 55, 58.10, 56.43)})
    sweeps.save("running", RunRecord(command=["kt-exp"], config=sweeps.config()))
    code, _, err = report("table", sweeps.root, "--table", "tab1", "--check", 100)
    assert (code, err.split(";")[0]) == (1, "0 cells compared")


def test_a_setting_across(sweeps, report) -> None:
    code, out, err = report("table", sweeps.lr_sweep(), "--pivot", "finetune.lr", "--prompts",
                            "--format", "md")
    assert (code, err) == (0, "")
    assert "| moongate | Target | 0.0 | – | – | 10.0 | 60.0 |" in out


def test_conditions_on_the_command_line(sweeps, report) -> None:
    out = report("table", sweeps.lr_sweep(), "--where", "finetune.lr=1e-5", "--format", "csv")[1]
    assert len(out.splitlines()) == 3
    out = report("table", sweeps.lr_sweep("b"), "--where", "finetune.lr=1e-5,2e-5", "--format",
                 "csv")[1]
    assert len(out.splitlines()) == 5


def test_plot_page_and_status_write_and_say_where(sweeps, report, tmp_path) -> None:
    folder = sweeps.lr_sweep()
    assert report("plot", folder, "--kind", "lr", "--out", tmp_path / "lr.png") == (
        0, f"{tmp_path / 'lr.png'}\n", "")
    assert report("page", folder, "--out", tmp_path / "a.html")[:2] == (
        0, f"{tmp_path / 'a.html'}\n")
    code, out, _ = report("status", folder)
    assert (code, out.splitlines()[0]) == (0, "2 completed")


@pytest.mark.parametrize(("arguments", "message"), [
    (["table", "nowhere"], "nowhere: no such folder; give the folder of a run or of a sweep"),
    (["table", "SWEEP", "--table", "tabb1"], "--table: no table 'tabb1'; did you mean 'tab1'"),
    (["table", "SWEEP", "--table", "tab5"], "--table: the runs cover no cell of tab5"),
    (["table", "SWEEP", "--check", "1"], "--check: nothing to compare with"),
    (["table", "SWEEP", "--pivot", "x"], "--pivot: x is the same in all runs; varied: finetune"),
    (["table", "SWEEP", "--table", "tab1", "--prompts"], "--table: the paper's tables have a lay"),
    (["table", "SWEEP", "--where", "lr"], "--where: 'lr' is not a condition; write KEY=VALUE"),
    (["table", "SWEEP", "--format", "pdf"], "command line: argument --format: invalid choice"),
    (["plot", "SWEEP", "--kind", "names", "--out", "x"], "--kind: finetune.captions is named in"),
    (["tables", "SWEEP"], "command line: argument COMMAND: invalid choice: 'tables'"),
])
def test_bad_input_is_one_line_and_exit_2(sweeps, report, arguments, message) -> None:
    folder = str(sweeps.lr_sweep())
    code, out, err = report(*(folder if word == "SWEEP" else word for word in arguments))
    assert (code, out) == (2, "")
    assert err.startswith(f"kt-report: error: {message}")
    assert err.count("\n") == 1


def test_needs_no_torch() -> None:
    script = "import sys, kt_exp.report.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
