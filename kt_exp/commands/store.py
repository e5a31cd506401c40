"""`kt-exp store list|size|prune|verify`: what the store holds, and removing what may go."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kt_exp.commands.parser import CommandParser, SubcommandParser, sentence
from kt_exp.errors import UserError
from kt_exp.units import shown_size

if TYPE_CHECKING:
    from kt_exp.results.record import RunRecord

_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}
EXIT_DAMAGED = 1


def run(arguments: Sequence[str]) -> int:
    """Run one of the four."""
    options = _parser().parse_args(arguments)
    options.root = options.root or Path(os.environ.get("KT_EXP_STORE", "outputs/store"))
    options.root = options.root.expanduser()
    return int(options.run(options))


def _list(options: argparse.Namespace) -> int:
    for file in _files(options):
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.used))
        print(f"{file.kind:<20} {file.key}  {shown_size(file.bytes):>9}  {used}")
    return 0


def _size(options: argparse.Namespace) -> int:
    files = _files(options)
    for kind in dict.fromkeys(file.kind for file in files):
        sizes = [file.bytes for file in files if file.kind == kind]
        print(f"{kind:<20} {len(sizes):>7}  {shown_size(sum(sizes)):>9}")
    print(f"{'all':<20} {len(files):>7}  {shown_size(sum(file.bytes for file in files)):>9}")
    return 0


def _prune(options: argparse.Namespace) -> int:
    from kt_exp.report.runs import find_jobs
    from kt_exp.store import housekeeping

    files, chosen = _files(options), bool(options.kind)
    if options.unused_by:
        jobs = find_jobs(options.unused_by)
        files = housekeeping.unused(files, used_keys([job.record for job in jobs if job.record]))
        chosen = True
    if options.older_than is not None:
        files, chosen = housekeeping.older_than(files, options.older_than), True
    paths = [file.path for file in files] if chosen else []
    paths += housekeeping.leftovers(options.root)
    freed = sum(path.stat().st_size for path in paths)
    for path in paths:
        print(path)
        if not options.dry_run:
            path.unlink(missing_ok=True)
    done = "would be removed" if options.dry_run else "removed"
    print(f"{len(paths)} files, {shown_size(freed)} {done}", file=sys.stderr)
    return 0


def _verify(options: argparse.Namespace) -> int:
    from kt_exp.store import Store

    files, store = _files(options), Store(options.root)
    damaged = [file for file in files if store.check(file.kind, file.key) is False]
    for file in damaged:
        print(f"damaged, set aside: {file.kind} {file.key}")
    print(f"{len(files) - len(damaged)} of {len(files)} entries match their checksum")
    return EXIT_DAMAGED if damaged else 0


def _files(options: argparse.Namespace) -> list[Any]:
    from kt_exp.store.housekeeping import stored_files  # imports torch

    return stored_files(options.root, options.kind)


def used_keys(records: Sequence[RunRecord]) -> dict[str, set[str]]:
    """Return the store keys that the runs used, of the kinds that their records name.

    `inversion` is left out if a record does not say which images were rehearsed.
    """
    used: dict[str, set[str]] = {"inversion": set(), "finetune": set()}
    for record in records:
        for kind in ("inversion", "finetune"):
            used[kind] |= set(record.signatures.get(kind, {}).values())
        used["inversion"] |= set(record.signatures.get("rehearsal", ()))
    rehearses = [record for record in records if record.config.get("finetune", {}).get("rehearsal")]
    if not all("rehearsal" in record.signatures for record in rehearses):
        del used["inversion"]
    return used


def _age(text: str) -> float:
    found = re.fullmatch(r"(\d+)([hdw])", text)
    if not found:
        raise UserError("--older-than", f"'{text}' is no age", "give one such as 12h, 30d or 8w")
    return int(found[1]) * _SECONDS[found[2]]


def _parser() -> CommandParser:
    parser = CommandParser("store")
    actions = parser.add_subparsers(required=True, metavar="ACTION", parser_class=SubcommandParser)
    _action(actions, "list", _list, "each entry: kind, key, size, last use")
    _action(actions, "size", _size, "entries and bytes of each kind")
    prune = _action(actions, "prune", _prune,
                    "remove entries that meet all conditions given, and what killed runs left")
    prune.add_argument("--older-than", type=_age, metavar="AGE",
                       help="entries neither written nor read for so long: 12h, 30d, 8w")
    prune.add_argument("--unused-by", type=Path, nargs="+", metavar="RUNS",
                       help="inverted images and fine-tuned weights that no run in these folders "
                            "used; records do not name entries of other kinds")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    _action(actions, "verify", _verify,
            "compare each entry with its checksum; damaged ones are set aside, and the exit code "
            "is 1")
    return parser


def _action(actions: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=text,
                                                         description=sentence(text))
    action.add_argument("--root", type=Path, metavar="DIR",
                        help="the store (default: $KT_EXP_STORE, or outputs/store)")
    action.add_argument("--kind", action="append", default=[], metavar="KIND",
                        help="only entries of this kind (embeddings, pixels, …); may be repeated")
    action.set_defaults(run=run)
    return action
