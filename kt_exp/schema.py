"""The typed schema of the whole config, and the checks that span its groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kt_exp.concepts import ConceptsSettings
from kt_exp.config import plugins
from kt_exp.config.checks import check, choice, number
from kt_exp.config.compose_errors import key_error
from kt_exp.errors import UserError
from kt_exp.finetune.settings import FinetuneSettings
from kt_exp.inversion.settings import InversionSettings

PACKAGE = Path(__file__).parent
PLUGINS = ("model", "benchmark", "tracker")
ON_EXISTING = ("skip", "rerun", "error")


@dataclass
class StoreSettings:
    """Where stage results are kept, and which of the images that were decoded for them."""

    root: str
    pixels_gib: float = number(minimum=0)

    def problems(self) -> Iterator[tuple[str, str, str]]:
        if not self.root:
            yield "root", "empty", "name a folder you may write to"


@dataclass(kw_only=True)
class Config:
    """Everything a run depends on; `model`, `benchmark` and `tracker` are plug-ins."""

    model: Any
    concepts: ConceptsSettings
    inversion: InversionSettings
    finetune: FinetuneSettings
    benchmark: Any
    tracker: Any
    store: StoreSettings
    seed: int = number(minimum=0, maximum=2**32 - 1)
    device: str
    precision: str = choice("fp32", "bf16")
    traceback: bool
    on_existing: str = choice(*ON_EXISTING)


def conf_folder() -> str:
    """Return the folder of the config groups: inside an installed wheel, or of the checkout."""
    inside = PACKAGE / "conf"
    return str(inside if inside.is_dir() else PACKAGE.parent / "conf")


def register_schema() -> None:
    """Make the schema known to Hydra, as the first of the defaults in conf/config.yaml."""
    ConfigStore.instance().store(name="schema", node=Config)


def parse(cfg: DictConfig) -> Config:
    """Return the checked config, its plug-ins built.

    Raises:
        UserError: a missing, mistyped or out-of-range value; names its key.
    """
    for group in PLUGINS:
        if OmegaConf.is_missing(cfg, group) or group not in cfg:
            raise UserError(group, "missing", f"choose an option of this group: {group}=…")
    built = {group: plugins.build(cfg[group], group) for group in PLUGINS}
    rest = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in built])
    try:
        # As plain values: what was added to a section (+inversion.key=…) is not checked otherwise.
        values = cast(dict[str, Any], OmegaConf.to_container(rest))
        typed = OmegaConf.merge(OmegaConf.structured(Config), values, dict.fromkeys(built))
        config = OmegaConf.to_object(typed)
    except OmegaConfBaseException as error:
        raise key_error(error) from error
    assert isinstance(config, Config)
    check(config, "")
    for group, plugin in built.items():
        setattr(config, group, plugin)
    return config


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """Return the config as dicts and lists, references resolved.

    Raises:
        UserError: a reference to something that is not there.
    """
    try:
        return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    except OmegaConfBaseException as error:
        raise key_error(error) from error
