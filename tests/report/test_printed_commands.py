"""Each `kt-report` command of README and docs, on the sweep that its page makes: the jobs as the
page's own command makes them, their numbers invented."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fixtures.classified import outcome
from fixtures.configs import composed
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from kt_exp.report.cli import main
from kt_exp.results.margins_file import write_margins
from kt_exp.results.outcome import Outcome, Phase
from kt_exp.results.record import ConceptEntry, RunRecord, write_record
from kt_exp.schema import to_plain

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REPORT, SWEEP = ("kt-report ",), ("kt-exp -m ", "python -m kt_exp.run -m ")


@cache
def lines(page: Path) -> list[str]:
    """The commands of a page, without comments and with continued lines as one."""
    blocks = re.findall(r"```(?:ba)?sh\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines()]


COMMANDS = [(page, line) for page in PAGES for line in lines(page) if line.startswith(REPORT)]


def split(overrides: Sequence[str]) -> list[list[str]]:
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    [jobs] = BasicSweeper.split_arguments(parsed, None)
    return [list(job) for job in jobs]


@cache
def sweeps(page: Path) -> dict[str, list[list[str]]]:
    """The overrides of each job of the page's sweeps, by the folder of the sweep."""
    found = {}
    for line in lines(page):
        if line.startswith(SWEEP) and "hydra/sweeper=" not in line:
            given = [word for word in shlex.split(line, comments=True) if "=" in word]
            hydra = composed(*split(given)[0], with_hydra=True).hydra
            params = [f"{key}={value}" for key, value in hydra.sweeper.params.items()] \
                if hydra.sweeper.params else []
            found[hydra.sweep.dir] = split([*params, *given])
    return found


def leave_a_result(folder: Path, overrides: list[str]) -> None:
    config: dict[str, Any] = to_plain(composed(*overrides))
    concepts = config["concepts"]["only"] or [one["name"] for one in config["concepts"]["items"]]
    record = RunRecord(command=["kt-exp", *overrides], config=config, overrides=overrides,
                       seed=config["seed"])
    outcomes = []
    for concept in concepts:
        record.concepts.append(ConceptEntry(name=concept, description="…", caption="…",
                                            diagnosis=None))
        outcomes += [measured(Phase.baseline, concept), measured(Phase.transferred, concept)]
    for one in outcomes:
        record.add_outcome(one)
    record.close("completed")
    folder.mkdir(parents=True)
    write_record(record, folder)
    write_margins(outcomes, folder)


@cache
def measured(phase: Phase, concept: str) -> Outcome:
    return outcome(phase, concept, knowledge=0 if phase == Phase.baseline else 3)


@pytest.mark.parametrize(("page", "command"), COMMANDS,
                         ids=[f"{page.name}: {line}" for page, line in COMMANDS])
def test_a_printed_command_does_what_the_page_says(page: Path, command: str, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command, comments=True)[1:]
    made = sweeps(page)
    [runs] = [word for word in words if word in made]
    for number, overrides in enumerate(made[runs]):
        leave_a_result(Path(runs) / str(number), overrides)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code
    for written in [words[words.index("--out") + 1]] if "--out" in words else []:
        assert Path(written).is_file()
