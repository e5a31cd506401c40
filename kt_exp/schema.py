"""The typed schema of the whole config."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kt_exp.concepts import ConceptsSettings
from kt_exp.config import plugins
from kt_exp.config.checks import check, choice, number
from kt_exp.config.compose_errors import key_error
from kt_exp.config.recipes import register_recipes
from kt_exp.errors import UserError
from kt_exp.finetune.settings import FinetuneSettings
from kt_exp.inversion.settings import InversionSettings, in_steps
from kt_exp.results.objective import ObjectiveSettings

PACKAGE = Path(__file__).parent
PLUGINS = ("model", "benchmark", "tracker")
INVERTED = "inversion.model"  # a plug-in, too, or null
OWN = "kt_exp."  # where the plug-ins of kt_exp are imported from
PAGES = {"model": "docs/models.md", "inversion": "docs/models.md",  # of inversion.model
         "benchmark": "docs/datasets.md", "tracker": "docs/results.md"}
ON_EXISTING = ("skip", "rerun", "error")


@dataclass
class StoreSettings:
    """The store's folder, and the limit for image sets whose pixels it caches."""

    root: str
    pixels_gib: float = number(minimum=0)

    def problems(self) -> Iterator[tuple[str, str, str]]:
        if not self.root:
            yield "root", "empty", "name a folder you may write to"


@dataclass(kw_only=True)
class Config:
    """The config of a run; `model`, `benchmark`, `tracker` and `inversion.model` are plug-ins."""

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
    dry_run: bool
    max_inversion_hours: Optional[float] = number(above=0)
    check_files: bool
    traceback: bool
    on_existing: str = choice(*ON_EXISTING)
    objective: ObjectiveSettings


def conf_folder() -> str:
    """Return the folder of the config groups, in the installed wheel or in the checkout."""
    inside = PACKAGE / "conf"
    return str(inside if inside.is_dir() else PACKAGE.parent / "conf")


def register_schema() -> None:
    """Register what conf/config.yaml names in its defaults: the schema, and recipes by model."""
    ConfigStore.instance().store(name="schema", node=Config)
    register_recipes(Path(conf_folder()))


def parse(cfg: DictConfig) -> Config:
    """Return the typed, checked config with its plug-ins built.

    Raises:
        UserError: a value is missing, mistyped or out of range; the error names its key.
    """
    config = parse_sections(cfg)
    for group in PLUGINS:
        setattr(config, group, plugins.build(cfg[group], group))
    if (inverted := OmegaConf.select(cfg, INVERTED)) is not None:
        config.inversion.model = plugins.build(_section(inverted), INVERTED)
    return config


def parse_sections(cfg: DictConfig) -> Config:
    """Return the typed, checked config with None in place of its plug-ins.

    No code of plug-ins is imported, which takes seconds.

    Raises:
        UserError: a value is missing, mistyped or out of range, or a plug-in lacks a value.
    """
    refuse_missing(cfg)
    return parse_settings(cfg)


def parse_settings(cfg: DictConfig) -> Config:
    """As `parse_sections`, whatever the plug-ins lack."""
    rest = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in PLUGINS])
    try:
        # As plain values: otherwise keys added to a section (+inversion.key=…) are not checked.
        values = cast(dict[str, Any], OmegaConf.to_container(rest))
        typed = OmegaConf.merge(OmegaConf.structured(Config), values, dict.fromkeys(PLUGINS),
                                {"inversion": {"model": None}} if "inversion" in values else {})
        config = OmegaConf.to_object(typed)
    except OmegaConfBaseException as error:
        raise key_error(error) from error
    assert isinstance(config, Config)
    check(config, "")
    config.inversion = config.inversion.in_steps()
    return config


def _section(inverted: Any) -> DictConfig:
    if not OmegaConf.is_dict(inverted):
        raise UserError(INVERTED, f"'{inverted}' is no section",
                        "name an option of the group model: model@inversion.model=…")
    return inverted


def refuse_missing(cfg: DictConfig) -> None:
    """Check that there are all plug-ins, and that those of kt_exp have all their values.

    None of them has defaults.

    Raises:
        UserError: plug-ins or values are missing; the error names all such values.
    """
    for group in PLUGINS:
        if OmegaConf.is_missing(cfg, group) or group not in cfg:
            raise UserError(group, "missing", f"choose an option of this group: {group}=…")
    sections = {name: OmegaConf.select(cfg, name) for name in (*PLUGINS, INVERTED)}
    missing = [f"{name}.{key}" for name, section in sections.items()
               if OmegaConf.is_dict(section) and str(section.get("_target_")).startswith(OWN)
               for key in section if OmegaConf.is_missing(section, key)]
    if missing:
        pages = dict.fromkeys(PAGES[key.partition(".")[0]] for key in missing)
        raise UserError(", ".join(missing), "missing",
                        f"set {'it' if len(missing) == 1 else 'them'}: "
                        + " ".join(f"{key}=…" for key in missing) + f" ({', '.join(pages)})")


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """Return the config as dicts and lists, with interpolations resolved.

    Shares of steps become steps, so that records of either form compare equal.

    Raises:
        UserError: an interpolation refers to a key that does not exist.
    """
    try:
        config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    except OmegaConfBaseException as error:
        raise key_error(error) from error
    inversion = config.get("inversion") or {}
    with suppress(KeyError, TypeError, ValueError):  # values that `parse` refuses
        inversion["upsize_at"] = in_steps(inversion["upsize_at"], inversion["steps"])
    return config
