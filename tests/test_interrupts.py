"""Ctrl-C and SIGTERM between two steps."""

import os
import signal
import threading

import pytest

from kt_exp import interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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


def test_a_second_signal_stops_at_once():
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


def test_afterwards_signals_are_handled_as_before():
    before = signal.getsignal(signal.SIGINT)
    with interrupts.deferred():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_outside_the_main_thread_it_never_tells_to_stop():
    told = []

    def work():
        with interrupts.deferred() as stop:
            told.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert told == [False]


def test_sigterm_can_be_made_to_interrupt():
    before = signal.getsignal(signal.SIGTERM)
    try:
        interrupts.sigterm_interrupts()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
