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
from kt_exp.store import lease, process
from kt_exp.store.lease import Lease, clear_abandoned, hold

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


def lock_of_another_machine(path, host="node7"):
    path.write_text(json.dumps({"token": "x", "pid": os.getpid(), "started": "1",
                                "machine": "another", "host": host}))


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


def test_the_locks_of_dead_machines_cost_one_wait_for_all(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "STALE_SECONDS", 0.6)
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.05)
    paths = [tmp_path / f"{number}.lease" for number in range(20)]
    for number, path in enumerate(paths):
        lock_of_another_machine(path, host=f"node{number}")
    waits = []
    start = time.monotonic()
    with hold(paths[:10], lambda: waits.append(1)), hold(paths[10:], lambda: waits.append(2)):
        assert 0.6 < time.monotonic() - start < 1.2
    assert waits == [1]


def test_a_dead_process_of_before_the_restart_of_its_machine_is_known(path, monkeypatch):
    monkeypatch.setattr(process, "_hardware", lambda: "this one")
    owner = process.identity()
    path.write_text(json.dumps(owner | {"machine": "earlier-boot pid:[1]"}))
    mine = Lease(path)
    assert mine.acquire()
    mine.release()
    path.write_text(json.dumps(owner | {"machine": "earlier-boot pid:[1]", "host": "node7"}))
    assert not Lease(path).acquire()


def test_a_lock_that_cannot_be_written_leaves_nothing_and_says_why(tmp_path):
    code = """if True:
        import resource, sys
        from pathlib import Path
        from kt_exp.errors import UserError
        from kt_exp.store.lease import hold
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        try:
            with hold([Path(sys.argv[1]) / "locks" / "a.lease"], lambda: None):
                pass
        except UserError as error:
            print(error)
        """
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, text=True,
                         capture_output=True).stdout
    assert out == (f"store.root: cannot lock {tmp_path}/locks (File too large); free some space, "
                   "or name another folder\n")
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_lock_is_never_seen_empty(path, monkeypatch):
    def killed(*_):
        assert not path.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(lease.os, "link", killed)
    with pytest.raises(KeyboardInterrupt):
        Lease(path).acquire()
    assert list(path.parent.iterdir()) == []


def test_file_systems_without_hard_links_have_locks(path, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(lease.os, "link", refused)
    first, second = Lease(path), Lease(path)
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert list(path.parent.iterdir()) == []


def test_of_two_that_find_a_dead_lock_one_takes_it_over(path, other, monkeypatch):
    other.kill()
    other.wait()
    faster = Lease(path)

    def taken_over_meanwhile(owner):
        with monkeypatch.context() as patch:
            patch.setattr(lease, "has_ended", lambda _: True)
            assert faster.acquire()
        return True

    monkeypatch.setattr(lease, "has_ended", taken_over_meanwhile)
    assert not Lease(path).acquire()
    assert json.loads(path.read_text())["token"] == faster._token
    faster.release()
    assert list(path.parent.iterdir()) == []


def test_locks_of_dead_processes_are_cleared(tmp_path, path, other):
    other.kill()
    other.wait()
    living = Lease(tmp_path / "living.lease")
    assert living.acquire()
    for name, age in (("elsewhere", 0), ("long ago", 1000)):
        lock_of_another_machine(tmp_path / f"{name}.lease")
        os.utime(tmp_path / f"{name}.lease", (time.time() - age,) * 2)
    clear_abandoned(tmp_path, time.time() - 500)
    assert {path.stem for path in tmp_path.iterdir()} == {"living", "elsewhere"}
    living.release()


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
