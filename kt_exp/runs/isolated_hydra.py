"""Hydra as a function: composes and runs without changing global state.

The caller may be a Hydra app itself: after a call it finds the same objects as before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra import compose, version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.basecontainer import BaseContainer

from kt_exp.config.compose_errors import COMPOSE_ERRORS, explain
from kt_exp.config.recipes import RESOLVER
from kt_exp.runs.log_handlers import logging_as
from kt_exp.runs.overrides import checked, folder_override
from kt_exp.schema import conf_folder, register_schema

Result = TypeVar("Result")

# Hydra's state is global to the process, so calls from several threads run one at a time.
_ONE_AT_A_TIME = threading.RLock()
_OF_ONE_APP = (GlobalHydra, HydraConfig, JobRuntime, version.VersionBase)
_RESOLVERS = ("hydra", "now", "python_version", RESOLVER)
_SCHEMA = "schema.yaml"


def with_composed(overrides: Sequence[str], use: Callable[[DictConfig], Result]) -> Result:
    """Call `use` with the composed config, whose references it can resolve; return its result.

    Raises:
        UserError: a group, option or key is unknown.
    """
    with _isolated():
        with _explained():
            cfg = compose("config", checked(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with read_write(cfg), open_dict(cfg):
            del cfg["hydra"]
        return use(cfg)


def run_once(overrides: Sequence[str], job: Callable[[DictConfig], Result],
             folder: Path | str | None) -> Result:
    """Call `job` with the composed config in Hydra's output folder; return its result.

    Args:
        folder: the output folder; None: a new one below outputs/.

    Raises:
        UserError: the config cannot be composed, or the folder cannot be created.
    """
    given = [*checked(overrides), folder_override(folder)]
    results: list[Result] = []
    errors: list[BaseException] = []

    def task(cfg: DictConfig) -> None:
        try:
            with logging_as(_job_logging()):
                results.append(job(cfg))
        except BaseException as error:  # Hydra would print it and wrap it.
            errors.append(error)

    with _isolated() as hydra, _explained():
        hydra.run("config", task, given, with_log_configuration=False)
    if errors:
        raise errors[0]
    return results[0]


def _job_logging() -> dict[str, Any]:
    return cast(dict[str, Any],
                OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True))


@contextmanager
def _explained() -> Iterator[None]:
    """Turn Hydra's errors into `UserError`."""
    try:
        yield
    except COMPOSE_ERRORS as error:
        raise explain(error, "folder") from error


@contextmanager
def _isolated() -> Iterator[Hydra]:
    """Yield a new Hydra; restore the caller's singletons and resolvers afterwards."""
    with _ONE_AT_A_TIME:
        Plugins.instance()  # Before: plug-ins register in the config store once, and have to stay.
        singletons: dict[Any, Any] = Singleton._instances
        apps = {kind: singletons.pop(kind, None) for kind in _OF_ONE_APP}
        resolvers = {name: BaseContainer._resolvers.get(name) for name in _RESOLVERS}
        nodes = ConfigStore.instance().repo
        schema = {_SCHEMA: nodes.get(_SCHEMA)}
        try:
            version.setbase("1.3")
            register_schema()
            yield Hydra.create_main_hydra2("kt_exp", create_config_search_path(conf_folder()))
        finally:
            _put_back(singletons, apps)
            _put_back(BaseContainer._resolvers, resolvers)
            _put_back(nodes, schema)


def _put_back(place: dict[Any, Any], before: dict[Any, Any]) -> None:
    for key, value in before.items():
        place.pop(key, None)
        if value is not None:
            place[key] = value
