"""`kt-exp store`: what is there, what may go, and whether it is whole."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import torch

from kt_exp.commands import run_command
from kt_exp.results.record import RunRecord, write_record
from kt_exp.store import Store

DAY = 86400
ENTRIES = [("finetune", "kept"), ("finetune", "orphan"), ("inversion", "kept"),
           ("inversion", "rehearsed"), ("inversion", "orphan"), ("embeddings", "other")]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of six entries, which the environment names."""
    store = Store(tmp_path / "store")
    for kind, key in ENTRIES:
        store.commit(kind, key, {"of": key}, {"weights": torch.zeros(1000)})
    monkeypatch.setenv("KT_EXP_STORE", str(store.root))
    return store.root


def store(*arguments: object) -> int:
    return run_command("store", [str(argument) for argument in arguments])


def there(root: Path) -> set[tuple[str, str]]:
    return {(path.parent.name, path.stem) for path in root.glob("*/*.safetensors")}


def age(root: Path, kind: str, key: str, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(root / kind / f"{key}.safetensors", (then, then))


def save_run(folder: Path, signatures: dict, rehearsal: float = 0.0) -> Path:
    folder.mkdir()
    record = RunRecord(command=["kt-exp"], config={"finetune": {"rehearsal": rehearsal}},
                       signatures=signatures)
    record.close("completed")
    write_record(record, folder)
    return folder


def test_entries_are_listed_and_summed_by_kind(root, capsys) -> None:
    assert store("list", "--kind=finetune") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["finetune", "kept"], ["finetune", "orphan"]]
    assert store("size") == 0
    sizes = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in sizes] == [["embeddings", "1"], ["finetune", "2"],
                                          ["inversion", "3"], ["all", "6"]]
    assert sizes[0][3] == "kB"


def test_what_was_not_used_for_long_is_pruned(root, capsys) -> None:
    for kind, key in ENTRIES:
        age(root, kind, key, days=31)
    Store(root).fetch("embeddings", "other")  # a use
    age(root, "finetune", "kept", days=29)
    assert store("prune", "--older-than=30d", "--dry-run") == 0
    assert len(there(root)) == 6
    assert capsys.readouterr().err.startswith("4 files, ")
    assert store("prune", "--older-than=30d") == 0
    assert there(root) == {("embeddings", "other"), ("finetune", "kept")}


def test_what_runs_used_is_kept_and_what_records_do_not_name(root, tmp_path) -> None:
    run = save_run(tmp_path / "run", {
        "inversion": {"moongate": "kept"}, "finetune": {"moongate": "kept"},
        "rehearsal": ["rehearsed"]}, rehearsal=1.0)
    assert store("prune", "--unused-by", run) == 0
    assert there(root) == {*ENTRIES} - {("finetune", "orphan"), ("inversion", "orphan")}


def test_no_image_goes_if_a_record_does_not_say_what_was_rehearsed(root, tmp_path) -> None:
    run = save_run(tmp_path / "run", {"finetune": {"moongate": "kept"}}, rehearsal=1.0)
    assert store("prune", "--unused-by", run) == 0
    assert there(root) == {*ENTRIES} - {("finetune", "orphan")}


def test_conditions_hold_together(root, tmp_path) -> None:
    run = save_run(tmp_path / "run", {})
    age(root, "finetune", "orphan", days=3)
    assert store("prune", "--unused-by", run, "--older-than=2d", "--kind=finetune") == 0
    assert there(root) == {*ENTRIES} - {("finetune", "orphan")}


def test_without_a_condition_only_what_killed_runs_left_goes(root, capsys) -> None:
    (root / "locks").mkdir()
    dead, alive = (root / "locks" / f"{name}.lease" for name in ("dead", "alive"))
    from kt_exp.store.lease import Lease

    lease = Lease(alive)
    assert lease.acquire()
    holder = json.loads(alive.read_text())
    dead.write_text(json.dumps({**holder, "pid": 2**22 + 1}))
    draft = root / "finetune" / "0.draft"
    draft.touch()
    os.utime(draft, (0, 0))
    assert store("prune") == 0
    assert (dead.exists(), draft.exists(), alive.exists()) == (False, False, True)
    assert there(root) == {*ENTRIES}
    lease.release()


def test_a_damaged_entry_is_found_and_set_aside(root, capsys) -> None:
    assert store("verify") == 0
    assert capsys.readouterr().out == "6 of 6 entries match their checksum\n"
    path = root / "finetune" / "kept.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert store("verify") == 1
    assert capsys.readouterr().out == ("damaged, set aside: finetune kept\n"
                                       "5 of 6 entries match their checksum\n")
    assert not path.exists()


def test_verifying_is_no_use_of_an_entry(root) -> None:
    age(root, "finetune", "kept", days=31)
    store("verify")
    store("prune", "--older-than=30d")
    assert ("finetune", "kept") not in there(root)


@pytest.mark.parametrize(("arguments", "message"), [
    (["size", "--kind=finetun"], "--kind: the store has no 'finetun'; did you mean 'finetune'"),
    (["prune", "--older-than=soon"], "--older-than: 'soon' is no age; give one such as 12h"),
    (["list", "--root=nowhere"], "--root: no such folder: nowhere"),
    ([], "the following arguments are required: ACTION"),
    (["prune", "--unused-by", "nowhere"], "nowhere: no such folder"),
])
def test_mistakes_are_one_line(root, arguments, message, capsys) -> None:
    assert store(*arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("kt-exp store: error: ")
    assert message in line
