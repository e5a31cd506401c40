"""Overrides and records that nobody would write, made by hypothesis."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

import kt_exp
from kt_exp.config.override_quotes import with_quotes
from kt_exp.errors import UserError, printable
from kt_exp.report.cli import main as kt_report
from trials.small_run import Tally

_ODD_TEXT = st.sampled_from([
    "", "~", "~/x", "null", "NaN", "-.inf", "1e999", "${nowhere}", "${seed}", "${oc.env:HOME}",
    "[", "{a:", "'", "\x1b[31m", "\u202e", "k\udce4", "../../etc/passwd", "/dev/zero", "=1+1",
    "!!python/object:os.system", "*a", "a" * 10_000, "[" * 500, "kt_exp.models.clip.OpenClip"])
_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
                    _ODD_TEXT, st.sampled_from([0, -1, 10**9, 10**400]))
VALUES = st.recursive(_LEAVES, lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6)


def input_trials(count: int, record: Path, seed: int) -> list[Tally]:
    """Return the tallies of `count` overrides, and of `count` records for `kt-report`.

    Each has to be read, or to be refused in one line that is safe to print.

    Args:
        record: a result.json, whose config has the keys to override, and of which a part is
            replaced.
    """
    content = json.loads(record.read_text(encoding="utf-8"))
    keys = [".".join(map(str, place)) for place in _places(content["config"]) if place]
    overrides = st.tuples(st.sampled_from(keys), VALUES)
    records = st.tuples(st.sampled_from(list(_places(content))), VALUES)
    with tempfile.TemporaryDirectory() as folder:
        return [_tally("overrides", count, seed, overrides, compose_one),
                _tally("records", count, seed, records,
                       lambda case: report_one(content, case, Path(folder)))]


def compose_one(case: tuple[str, Any]) -> str:
    """Compose and check the config with one key overridden; return "accepted" or "refused".

    Raises:
        AssertionError: the refusal is not one line that is safe to print.
        Exception: anything else than a refusal.
    """
    key, value = case
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        kt_exp.compose([with_quotes(f"{key}={text}")])
    except UserError as error:
        return _refused(str(error))
    return "accepted"


def report_one(content: Any, case: tuple[tuple[Any, ...], Any], folder: Path) -> str:
    """Show a record with a part replaced; return "shown" or "refused".

    Raises:
        AssertionError: what is shown is not safe to print.
        Exception: anything else than a refusal.
    """
    (folder / "run").mkdir(exist_ok=True)
    text = json.dumps(_replaced(content, *case))
    (folder / "run" / "result.json").write_text(text, encoding="utf-8")
    code = 0
    for command in ("status", "table"):
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                kt_report([command, str(folder)])
            except SystemExit as ended:
                code = max(code, int(ended.code or 0))
        _check_printable(output.getvalue())
    return "refused" if code else "shown"


def _tally(name: str, count: int, seed: int, cases: Any, trial: Callable[[Any], str]) -> Tally:
    tally = Tally(name)

    @seeded(seed)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(cases)
    def run(case: Any) -> None:
        tally.trials += 1
        try:
            tally.count(trial(case))
        except Exception as error:
            tally.problems.append(f"{str(case)[:200]!r}: {type(error).__name__}: {error}"[:500])

    run()
    return tally


def _refused(line: str) -> str:
    _check_printable(line)
    assert "\n" not in line, "more than one line"
    return "refused"


def _check_printable(text: str) -> None:
    assert "Traceback" not in text, "a traceback"
    assert printable(text) == text, "control characters"


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the places in nested dicts and lists, of each list only the first item."""
    yield place
    inside = value.items() if isinstance(value, dict) else enumerate(value[:1]) \
        if isinstance(value, list) else ()
    for key, inner in inside:
        yield from _places(inner, (*place, key))


def _replaced(content: Any, place: Sequence[Any], value: Any) -> Any:
    if not place:
        return value
    changed = copy.deepcopy(content)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed
