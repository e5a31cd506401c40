"""Hydra as a function: composes and runs without changing global state."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kt_exp.config.compose_errors import explain
from kt_exp.schema import conf_folder, register_schema

Result = TypeVar("Result")


def composed(overrides: Sequence[str]) -> DictConfig:
    """Return the composed config, not yet checked.

    Raises:
        UserError: an unknown group, option or key.
    """
    with _isolated(), initialize_config_dir(conf_folder(), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def run_once(overrides: Sequence[str], job: Callable[[DictConfig], Result],
             folder: Path | str | None) -> Result:
    """Call `job` with the composed config in Hydra's output folder; return its result.

    Args:
        folder: the output folder; None: `hydra.run.dir` of the config.

    Raises:
        UserError: the config cannot be composed, or the folder cannot be created.
    """
    given = list(overrides)
    if folder is not None:
        quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
        given.append(f"hydra.run.dir='{quoted}'")
    results: list[Result] = []
    errors: list[BaseException] = []

    def task(cfg: DictConfig) -> None:
        try:
            results.append(job(cfg))
        except BaseException as error:  # Hydra would print it and wrap it.
            errors.append(error)

    with _isolated():
        hydra = Hydra.create_main_hydra2("kt_exp", create_config_search_path(conf_folder()))
        hydra.run("config", task, given)
    if errors:
        raise errors[0]
    return results[0]


@contextmanager
def _isolated() -> Iterator[None]:
    """Restore Hydra's singletons and the root logger; turn Hydra's errors into `UserError`."""
    state = copy.deepcopy(Singleton.get_state())
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    GlobalHydra.instance().clear()
    register_schema()
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError, OSError) as error:
        raise explain(error, "hydra.run.dir") from error
    finally:
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)
            handler.close()
        for handler in handlers:
            root.addHandler(handler)
        root.setLevel(level)
        Singleton.set_state(state)
