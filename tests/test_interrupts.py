"""Ctrl-C, SIGTERM and SIGUSR2 between two steps."""

import os
import signal
import threading

import pytest

import kt_exp.progress
from kt_exp import interrupts
from kt_exp.runs.progress_file import ProgressFile


@pytest.fixture
def restored():
    numbers = (signal.SIGTERM, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_is_kept_until_the_block_is_done(number):
    done = []

    def work():
        with interrupts.deferred() as stop:
            assert not stop()
            os.kill(os.getpid(), number)
            assert stop()
            done.append("the step")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the step"]


def test_a_second_ctrl_c_stops_at_once():
    done = []

    def work():
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("first")
            os.kill(os.getpid(), signal.SIGINT)
            done.append("second")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["first"]


def test_the_two_signals_of_a_preemption_let_the_step_be_finished():
    done = []

    def work():
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGUSR2)
            done.append("the step")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the step"]


def test_afterwards_signals_are_handled_as_before():
    before = signal.getsignal(signal.SIGINT)
    with interrupts.deferred():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_a_block_within_another_hands_the_signal_on_to_it():
    done = []

    def work():
        with interrupts.deferred() as stop:
            with interrupts.deferred():
                os.kill(os.getpid(), signal.SIGINT)
            assert stop()
            done.append("the outer step")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the outer step"]


def test_a_stop_outlasts_an_error_of_the_block():
    def work():
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            raise ValueError("of the step")

    with pytest.raises(KeyboardInterrupt):
        work()


def test_a_signal_that_was_ignored_still_is(restored):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with interrupts.deferred():
        os.kill(os.getpid(), signal.SIGTERM)


def test_outside_the_main_thread_it_never_tells_to_stop():
    told = []

    def work():
        with interrupts.deferred() as stop:
            told.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert told == [False]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_they_can_be_made_to_interrupt_once(number, restored):
    interrupts.sigterm_interrupts()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR2)


def test_the_second_signal_of_a_pair_does_not_disturb_the_clean_up(restored):
    interrupts.sigterm_interrupts()
    with pytest.raises(KeyboardInterrupt), interrupts.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR2)


class StoppedInItsFinalizer:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_that_python_drops_is_raised_at_the_next_step(tmp_path, restored):
    interrupts.sigterm_interrupts()
    progress = ProgressFile(tmp_path, kt_exp.progress.progress)
    with progress("steps", 2) as bar:
        bar.advance()
        lost = StoppedInItsFinalizer()
        del lost
        with pytest.raises(KeyboardInterrupt):
            bar.advance()
    with pytest.raises(KeyboardInterrupt):
        progress.begin("next stage")
    interrupts.caught()
    progress.begin("the report of an interrupted run")
