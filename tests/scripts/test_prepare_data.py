"""What holds for every data set: where it is written, and what is refused."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import prepare_data
import pytest
from fixtures.configs import composed

from .conftest import picture, tree

SCRIPT = Path(prepare_data.__file__)


def test_help_has_a_line_for_each_data_set(capsys):
    with pytest.raises(SystemExit):
        prepare_data.main(["--help"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for name, recipe in prepare_data.RECIPES.items():
        assert any(line.startswith(name) and line.endswith(recipe.summary) for line in lines)


@pytest.mark.parametrize("name", prepare_data.RECIPES)
def test_an_empty_download_is_refused_with_what_was_expected(refused, name):
    assert "(there: nothing)" in refused(name)


@pytest.mark.parametrize("name", prepare_data.RECIPES)
def test_another_layout_is_refused_with_what_was_found(source, refused, name):
    (source / "readme.txt").write_text("nothing of use")
    assert "readme.txt" in refused(name)


def test_a_source_that_is_not_there_is_refused(source, refused):
    source.rmdir()
    source.write_text("a file")
    assert "--source: no such folder" in refused("udiat")


def test_a_folder_that_holds_something_is_not_written_to(source, out, capsys):
    picture(source / "moongate" / "1.jpg")
    picture(out / "mine.jpg")
    arguments = ["rare", "--source", str(source), "--out", str(out)]
    assert prepare_data.main(arguments) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert tree(out) == ["mine.jpg"]


@pytest.mark.parametrize("name", prepare_data.RECIPES)
def test_the_keys_of_each_data_set_compose(name):
    words = shlex.split(prepare_data.RECIPES[name].keys.replace("{out}", "prepared"))
    given = composed(*words)
    assert any("prepared" in str(value) for value in dict(given.benchmark).values())


def test_the_keys_to_set_are_printed_last(source, out, prepare):
    picture(source / "moongate" / "1.jpg")
    last = prepare("rare").splitlines()[-1]
    assert last == (f"keys to set: concepts=rare benchmark=rare_imagenet "
                    f"benchmark.target_root={out} benchmark.imagenet_root=IMAGENET")


def test_an_empty_folder_is_filled(source, out, prepare):
    picture(source / "moongate" / "1.jpg")
    out.mkdir()
    prepare("rare")
    assert tree(out) == ["moongate/1.jpg"]


def test_a_killed_run_leaves_nothing(source, out):
    os.mkfifo(source / "images.csv")  # reading it waits for ever
    process = subprocess.Popen([sys.executable, SCRIPT, "nips2017", "--source", source,
                                "--out", out])
    while process.poll() is None and not list(out.parent.glob(f".{out.name}.*")):
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 130
    assert [path.name for path in out.parent.iterdir()] == [source.name]
