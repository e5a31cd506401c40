"""The sweeps of conf/experiment: their commands as printed, and their jobs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from kt_exp.report.sweeps import with_overrides
from kt_exp.schema import conf_folder, register_schema, to_plain

COMMAND = "#   python -m kt_exp.run -m "
FOLDER = Path(conf_folder()) / "experiment"


def of_the_paper() -> list[str]:
    """Return the experiments that need the paper's weights and data."""
    ours = ("_pictograms", "photos", "novel_words")
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.stem.endswith(ours))


def command(name: str) -> list[str]:
    """Return the overrides of the command in an experiment's header."""
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").replace(" \\\n#", "")
    [line] = [line for line in text.splitlines() if line.startswith(COMMAND)]
    return shlex.split(line.removeprefix(COMMAND))


def jobs(name: str) -> list[list[str]]:
    """Return the overrides of each job of the sweep, in order: swept ones, then the command's."""
    params = _composed(f"experiment={name}").hydra.sweeper.params
    given = [*(f"{key}={value}" for key, value in params.items()), *command(name)]
    [found] = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(given), None)
    return [list(job) for job in found]


def option(overrides: Sequence[str], group: str) -> str:
    """Return the option of a config group that a job has."""
    return str(_composed(*_options(overrides)).hydra.runtime.choices[group])


def plain(overrides: Sequence[str]) -> DictConfig:
    """Return the composed config of a job, without the section `hydra`.

    Only options of groups are composed anew, which takes a second; values are set.
    """
    whole = _composed(*_options(overrides))
    ours = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
    return OmegaConf.create(with_overrides(to_plain(ours), overrides))


def last_of_each(overrides: Sequence[str]) -> list[str]:
    """Return the last override of each key."""
    return list({word.partition("=")[0]: word for word in overrides}.values())


def _options(overrides: Sequence[str]) -> list[str]:
    return [word for word in overrides if "." not in word.partition("=")[0]]


@cache
def _composed(*overrides: str) -> DictConfig:
    register_schema()
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=True)
