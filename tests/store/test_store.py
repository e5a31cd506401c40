"""The store: what is computed once is whole, verified, and shared between processes."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from kt_exp.errors import UserError
from kt_exp.store import Store, signature

pytestmark = pytest.mark.slow

RECORD = {"score": [0.1, 0.75], "caption": "a tower – with a roof"}
TENSORS = {"images": torch.arange(24.0).view(2, 3, 2, 2), "steps": torch.tensor([7])}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def entry_file(store, kind="inversion", key="abc"):
    return store.root / kind / f"{key}.safetensors"


def python(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_what_is_committed_is_fetched_by_another_process_as_it_was(store):
    store.commit("inversion", "abc", RECORD, TENSORS)
    entry = Store(store.root).fetch("inversion", "abc")
    assert entry.record == RECORD
    assert entry.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(entry.tensors[name], TENSORS[name]) for name in TENSORS)


def test_an_entry_may_be_a_record_alone(store):
    store.commit("evaluation", "abc", RECORD)
    entry = store.fetch("evaluation", "abc")
    assert (entry.record, entry.tensors) == (RECORD, {})


def test_commit_returns_what_fetch_returns(store):
    committed = store.commit("inversion", "abc", RECORD, {"t": torch.eye(3).T.requires_grad_()})
    fetched = store.fetch("inversion", "abc")
    assert torch.equal(committed.tensors["t"], fetched.tensors["t"])
    assert not committed.tensors["t"].requires_grad


def test_absent_until_committed_and_after_discarding(store):
    assert store.fetch("inversion", "abc") is None
    assert not store.has("inversion", "abc")
    assert store.keys("inversion") == []
    store.commit("inversion", "abc", RECORD, TENSORS)
    assert store.has("inversion", "abc")
    assert store.keys("inversion") == ["abc"]
    store.discard("inversion", "abc")
    assert store.fetch("inversion", "abc") is None
    store.discard("inversion", "abc")


def test_a_second_commit_takes_the_place_of_the_first(store):
    store.commit("partial", "abc", {"step": 1}, {"images": torch.zeros(2), "old": torch.ones(1)})
    store.commit("partial", "abc", {"step": 2}, {"images": torch.ones(2)})
    entry = store.fetch("partial", "abc")
    assert entry.record == {"step": 2}
    assert list(entry.tensors) == ["images"]
    assert [path.name for path in (store.root / "partial").iterdir()] == ["abc.safetensors"]


def test_every_flipped_byte_is_noticed_or_harmless(store):
    store.commit("inversion", "abc", {"step": 2}, {"images": torch.arange(4.0)})
    path = entry_file(store)
    good = path.read_bytes()
    noticed = 0
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1:])
        entry = store.fetch("inversion", "abc")
        if entry is None:
            noticed += 1
        else:  # For instance, in the blanks that pad the header.
            assert entry.record == {"step": 2}
            assert torch.equal(entry.tensors["images"], torch.arange(4.0))
    assert noticed > 0.9 * len(good)


def test_a_damaged_entry_is_set_aside_said_so_and_computed_again(store, caplog):
    store.commit("inversion", "abc", RECORD, TENSORS)
    path = entry_file(store)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert store.fetch("inversion", "abc") is None
    assert "Damaged entry" in caplog.text
    assert [p.read_bytes() for p in (store.root / "damaged").iterdir()] == [bytes(damaged)]
    store.commit("inversion", "abc", RECORD, TENSORS)
    assert store.fetch("inversion", "abc").record == RECORD


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00" * 100])
def test_a_file_cut_short_is_damage_too(store, content):
    store.commit("inversion", "abc", RECORD, TENSORS)
    entry_file(store).write_bytes(content)
    assert store.fetch("inversion", "abc") is None


def test_killed_in_the_middle_of_a_write_the_old_entry_stands(store):
    store.commit("partial", "abc", {"step": 1}, {"images": torch.zeros(2)})
    code = """if True:
        import os, signal, sys, torch
        from kt_exp.store import store
        store._sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
        store.Store(sys.argv[1]).commit("partial", "abc", {"step": 2}, {"images": torch.ones(2)})
        """
    process = python(code, store.root)
    assert process.wait(60) == -signal.SIGKILL
    assert store.fetch("partial", "abc").record == {"step": 1}
    assert store.keys("partial") == ["abc"]


def test_drafts_that_killed_runs_left_are_cleared_a_day_later(store):
    store.commit("partial", "abc", {"step": 1})
    fresh, stale = (store.root / "partial" / f"{name}.draft" for name in ("fresh", "stale"))
    fresh.touch()
    stale.touch()
    os.utime(stale, (time.time() - 2 * 86400,) * 2)
    Store(store.root)
    assert fresh.exists()
    assert not stale.exists()


def test_drafts_of_a_killed_process_of_this_machine_are_cleared_at_once(store):
    code = """if True:
        import os, signal, sys
        from kt_exp.store import Store, store
        store._sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
        Store(sys.argv[1]).commit("partial", "abc", {})
        """
    assert python(code, store.root).wait(60) == -signal.SIGKILL
    [draft] = store.root.glob("partial/*.draft")
    with store.lock("partial", ["other"]):
        Store(store.root)
    assert not draft.exists()
    assert list((store.root / "locks").iterdir()) == []


def test_a_write_that_fails_leaves_nothing_and_is_one_line(store):
    code = """if True:
        import resource, signal, sys, torch
        from kt_exp.errors import UserError
        from kt_exp.store import Store
        store = Store(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        try:
            store.commit("inversion", "abc", {}, {"images": torch.zeros(10_000)})
        except UserError as error:
            print(error)
        """
    out, err = python(code, store.root).communicate(timeout=60)
    assert out.startswith("store.root: cannot write"), err
    assert "free some space" in out
    assert list((store.root / "inversion").iterdir()) == []


def test_a_root_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"store\.root: cannot write to .*name a folder"):
        Store(tmp_path / "file" / "store")


def test_an_entry_that_may_not_be_opened_is_not_called_damaged(store):
    entry_file(store).mkdir(parents=True)
    with pytest.raises(UserError, match=r"store\.root: cannot read"):
        store.fetch("inversion", "abc")


HOLD = """if True:
    import sys, time
    from kt_exp.store import Store
    with Store(sys.argv[1]).lock("inversion", ["abc"]):
        print("held", flush=True)
        time.sleep(60)
    """


def test_a_lock_is_released_when_its_holder_is_killed(store):
    holder = python(HOLD, store.root)
    assert holder.stdout.readline() == "held\n"
    waiter = python(HOLD, store.root)
    with pytest.raises(subprocess.TimeoutExpired):
        waiter.wait(3)
    holder.send_signal(signal.SIGKILL)
    try:
        assert waiter.stdout.readline() == "held\n"
    finally:
        waiter.kill()
        holder.wait()
        waiter.wait()


def test_locks_of_other_keys_do_not_wait(store):
    with store.lock("inversion", ["b", "a", "a"]), store.lock("inversion", ["c"]), \
            store.lock("finetune", ["a"]):
        pass
    with store.lock("inversion", ["a"]):
        pass


COMPUTE = """if True:
    import sys, time
    from kt_exp.store import Store
    store = Store(sys.argv[1])
    while time.time() < float(sys.argv[2]):
        time.sleep(0.01)
    with store.lock("inversion", ["abc"]):
        if store.fetch("inversion", "abc") is None:
            print("computed", flush=True)
            time.sleep(0.5)
            store.commit("inversion", "abc", {})
    """


def test_two_processes_that_need_the_same_key_compute_it_once(store):
    start = time.time() + 4
    processes = [python(COMPUTE, store.root, start) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert sorted(outputs) == ["", "computed\n"]
    assert store.has("inversion", "abc")


def test_a_signature_depends_on_values_not_on_the_order_of_keys():
    assert signature({"a": 1, "b": [1, 2]}) == signature({"b": [1, 2], "a": 1})
    assert signature({"a": 1}) != signature({"a": 2})
    assert signature([1, 2]) != signature([2, 1])
    assert signature("é") == signature("é")


def test_an_entry_may_be_read_by_whom_the_umask_allows(tmp_path):
    store = Store(tmp_path)
    before = os.umask(0o022)
    try:
        store.commit("kind", "key", {})
    finally:
        os.umask(before)
    assert (tmp_path / "kind" / "key.safetensors").stat().st_mode & 0o777 == 0o644
