from __future__ import annotations

import io
import logging
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from kt_exp import progress as module
from kt_exp.runs.console import ConsoleHandler, progress


class Clock:
    """A clock that a test moves by hand."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=screen))
    monkeypatch.setattr(module, "_console", Console(file=screen, force_terminal=True, width=100))
    return screen


def test_without_a_terminal_a_line_is_logged_every_ten_seconds(clock, caplog):
    caplog.set_level(logging.INFO)
    with progress("inversion", total=100) as bar:
        for _ in range(100):
            clock.now += 0.25
            bar.advance(similarity=0.5)
    assert [record.getMessage() for record in caplog.records] == [
        "inversion: 40%, 15 s left, similarity 0.50",
        "inversion: 80%, 5.0 s left, similarity 0.50",
        "inversion: 100/100 in 25 s, similarity 0.50",
    ]


def test_steps_of_an_earlier_run_tell_nothing_of_the_time_that_is_left(clock, caplog):
    caplog.set_level(logging.INFO)
    with progress("inversion", total=100) as bar:
        bar.advance(60, earlier=True)
        clock.now += 12
        bar.advance()
        for _ in range(39):
            bar.advance()
    assert caplog.records[0].getMessage() == "inversion: 61%, 7 min 48 s left"


def test_a_bar_shows_what_an_earlier_run_did(clock, terminal):
    with progress("inversion", total=1000) as bar:
        bar.advance(10)
        bar.advance(600, earlier=True)
        clock.now += 1
        bar.advance()
    assert "611/1000" in terminal.getvalue()


def test_what_takes_less_than_two_seconds_logs_nothing(clock, caplog):
    caplog.set_level(logging.INFO)
    with progress("baseline", total=10) as bar:
        for _ in range(10):
            clock.now += 0.1
            bar.advance()
    assert caplog.records == []


def test_a_lazy_field_is_asked_only_when_it_is_shown(clock, caplog):
    caplog.set_level(logging.INFO)
    asked = []
    with progress("inversion", total=1000) as bar:
        for step in range(1000):
            clock.now += 0.02
            bar.advance(similarity=lambda step=step: asked.append(step) or 0.75)
    assert len(asked) == len(caplog.records) == 2
    assert asked[-1] == 999


def test_a_bar_is_drawn_at_most_four_times_a_second(clock, terminal):
    asked = []
    with progress("inversion [red]", total=1000) as bar:
        for step in range(1000):
            clock.now += 0.01
            bar.advance(similarity=lambda step=step: asked.append(step) or 0.75)
    assert 10 < len(asked) <= 42
    assert "inversion [red]" in terminal.getvalue()
    assert "1000/1000" in terminal.getvalue()
    assert "similarity 0.75" in terminal.getvalue()


def test_a_loop_that_fails_is_not_logged_as_done(clock, caplog):
    caplog.set_level(logging.INFO)

    def fails_after_five_seconds() -> None:
        with progress("inversion", total=10) as bar:
            clock.now += 5
            bar.advance()
            raise ValueError("NaN")

    with pytest.raises(ValueError, match="NaN"):
        fails_after_five_seconds()
    assert caplog.records == []


def test_a_log_line_stands_on_a_line_of_its_own_above_the_bar(clock, terminal):
    handler = ConsoleHandler()
    with progress("inversion", total=2) as bar:
        bar.advance()
        handler.emit(logging.LogRecord("kt", logging.INFO, "", 0, "took [2] steps", None, None))
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).split("\n")
    assert any("━" in line for line in lines)
    assert "took [2] steps" in [line.split("\r")[-1].rstrip() for line in lines]
