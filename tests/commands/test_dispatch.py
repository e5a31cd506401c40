"""A first word that is a command runs it; everything else is left to Hydra."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kt_exp.commands import COMMANDS, command_of, run_command


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_help(name, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(name, ["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: kt-exp {name}")
    assert COMMANDS[name][1:20] in " ".join(shown.split())


@pytest.mark.parametrize("arguments", [
    [], ["-m", "seed=0,1"], ["store.root=x"], ["--help"], ["-sc", "query=bash"], ["~model"],
])
def test_options_and_overrides_are_no_command(arguments) -> None:
    assert command_of(arguments) is None


@pytest.mark.slow
def test_the_program_calls_it_and_gives_its_exit_code(tmp_path, monkeypatch) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "kt_exp.run", *arguments], cwd=tmp_path,
                              text=True, capture_output=True, check=False, env=os.environ)
    listed = call("list", "models")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "pictoclip" in listed.stdout
    refused = call("export", "nowhere")
    assert refused.returncode == 2
    assert refused.stderr.startswith("kt-exp export: error: nowhere: is not the folder of a run")
    monkeypatch.setenv("COMP_LINE", "kt-exp finetune=closed")
    monkeypatch.setenv("COMP_POINT", "22")
    completed = call("-sc", "query=bash")
    assert completed.stdout.split() == ["finetune=closed_form", "finetune=closed_form_photos"]
