"""Overrides given from Python: the same strings as on the command line, without its options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from kt_exp.config.override_quotes import quote, with_quotes
from kt_exp.errors import UserError

# In a loop, runs may start within the same second.
NEW_FOLDER = "outputs/${now:%Y-%m-%d}/${now:%H-%M-%S-%f}"


def checked(overrides: Sequence[str]) -> list[str]:
    """Return the overrides as a list, with non-ASCII words in quotes.

    Raises:
        UserError: `overrides` is a single string, or an item is no string, an option (`-m`), or a
            key of Hydra other than `hydra.searchpath`.
    """
    if isinstance(overrides, str):
        raise UserError("overrides", "one string instead of a list", f'give ["{overrides}"]')
    for override in overrides:
        if not isinstance(override, str):
            raise UserError("overrides", f"{override!r} is not a string", 'give "key=value"')
        if override.startswith("-"):
            raise UserError(override, "an option of the command line, not an override",
                            "a sweep is a loop over calls")
        key = key_of(override)
        if re.match(r"hydra\b", key) and key != "hydra.searchpath":
            raise UserError(key, "cannot be set from Python", "the run folder is `folder`; a sweep "
                            "is a loop over calls")
    return [with_quotes(override) for override in overrides]


def key_of(override: str) -> str:
    """Return the key that an override sets, adds or removes."""
    return override.partition("=")[0].lstrip("+~").strip()


def given_keys() -> set[str]:
    """Return the keys and groups that the command line overrides in the job of this process."""
    # Unresolved: an override may refer to a key that does not exist.
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task) or []
    return {key_of(str(override)) for override in overrides}


def folder_override(folder: Path | str | None) -> str:
    """Return the override that makes `folder` the run folder; None: a new one below outputs/.

    Raises:
        UserError: OmegaConf would interpret the name as a reference.
    """
    text = NEW_FOLDER if folder is None else str(folder)
    if folder is not None and "${" in text:
        raise UserError("folder", f"'{text}' holds '${{', which starts a reference",
                        "name another folder")
    return f"hydra.run.dir={quote(text)}"
