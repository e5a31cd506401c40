"""Locks of the store: one holder at a time, and none that outlives its process."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from kt_exp import interrupts
from kt_exp.store import lease
from kt_exp.store.lease import Lease, hold

pytestmark = pytest.mark.slow

HOLD = """if True:
    import sys, time
    from pathlib import Path
    from kt_exp.store.lease import Lease
    assert Lease(Path(sys.argv[1])).acquire()
    print("held", flush=True)
    time.sleep(60)
    """


@pytest.fixture
def path(tmp_path):
    return tmp_path / "key.lease"


@pytest.fixture
def other(path):
    """Another process of this machine that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_one_holder_at_a_time_and_no_file_afterwards(path):
    first, second = Lease(path), Lease(path)
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()
    assert not path.exists()


def test_a_living_process_keeps_its_lock(path, other):
    assert not Lease(path).acquire()


def test_the_lock_of_a_killed_process_is_taken_over_at_once(path, other):
    other.kill()
    mine = Lease(path)
    deadline = time.monotonic() + 5
    while not mine.acquire():
        assert time.monotonic() < deadline
    mine.release()


def test_a_process_that_has_the_number_of_a_dead_one_is_not_taken_for_it(path, other):
    owner = json.loads(path.read_text())
    path.write_text(json.dumps(owner | {"started": "1"}))
    mine = Lease(path)
    assert mine.acquire()
    mine.release()


def lock_of_another_machine(path):
    path.write_text(json.dumps({"token": "x", "pid": os.getpid(), "started": "1",
                                "machine": "another", "host": "node7"}))


@pytest.mark.parametrize("make", [lock_of_another_machine, lambda path: path.touch()],
                         ids=["of another machine", "never written"])
def test_a_lock_nobody_touches_is_taken_over_after_a_while(make, path, monkeypatch):
    monkeypatch.setattr(lease, "STALE_SECONDS", 0.6)
    make(path)
    mine = Lease(path)
    assert not mine.acquire()
    time.sleep(0.4)
    assert not mine.acquire()
    os.utime(path)  # its holder lives
    assert not mine.acquire()
    time.sleep(0.4)
    assert not mine.acquire()
    time.sleep(0.4)
    assert mine.acquire()
    mine.release()


def test_the_clocks_of_two_machines_need_not_agree(path, monkeypatch):
    monkeypatch.setattr(lease, "STALE_SECONDS", 30.0)
    lock_of_another_machine(path)
    os.utime(path, (1.0, 1.0))
    assert not Lease(path).acquire()


def test_a_lock_that_vanishes_on_the_server_while_it_is_read_is_free(path, monkeypatch):
    lock_of_another_machine(path)

    def vanishes(file):
        path.unlink()
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(lease.os, "fstat", vanishes)
        mine = Lease(path)
        assert mine.acquire()
    mine.release()
    assert not path.exists()


def test_its_holder_touches_it(path, monkeypatch):
    monkeypatch.setattr(lease, "TOUCH_SECONDS", 0.05)
    mine = Lease(path)
    assert mine.acquire()
    os.utime(path, (1.0, 1.0))
    time.sleep(0.3)
    assert path.stat().st_mtime > 1.0
    mine.release()


def test_who_lost_the_lock_leaves_it_to_the_new_holder(path, monkeypatch):
    monkeypatch.setattr(lease, "TOUCH_SECONDS", 0.05)
    mine = Lease(path)
    assert mine.acquire()
    lock_of_another_machine(path)
    os.utime(path, (1.0, 1.0))
    time.sleep(0.2)
    mine.release()
    assert path.stat().st_mtime == 1.0


# Where a stop may come: in the lease itself, and in what it stands on.
WATCHED = {module.__file__ for module in (lease, interrupts, contextlib, threading)}


def hold_and_interrupt(paths, moment):
    """Hold the locks, with Ctrl-C at the instruction number `moment`; tell whether it was reached.
    """
    seen = 0

    def trace(frame, event, argument):
        nonlocal seen
        if frame.f_code.co_filename not in WATCHED:
            return None
        frame.f_trace_opcodes = True
        seen += event == "opcode"
        if seen == moment:
            sys.settrace(None)
            signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with hold(paths, lambda: None):
            pass
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return seen >= moment


def test_wherever_a_stop_comes_no_lock_is_left(tmp_path):
    paths = [tmp_path / "locks" / "a.lease", tmp_path / "locks" / "b.lease"]
    handlers = [signal.getsignal(number) for number in interrupts.SIGNALS]
    threads = threading.active_count()
    moment = 1
    while hold_and_interrupt(paths, moment):
        left = [path for path in paths if path.exists()]
        assert not left, f"left by a stop at instruction {moment}"
        assert [signal.getsignal(number) for number in interrupts.SIGNALS] == handlers
        moment += 1
    assert moment > 1000  # It came everywhere, not nowhere.
    deadline = time.monotonic() + 5
    while threading.active_count() > threads:
        assert time.monotonic() < deadline, "a thread goes on touching a lock"
        time.sleep(0.01)
