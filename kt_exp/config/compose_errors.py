"""Converts errors of Hydra and OmegaConf about a command line into user errors."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from kt_exp.config.renames import former_name
from kt_exp.errors import UserError, did_you_mean

# What composing a config raises; `mapping_error` explains two more.
COMPOSE_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, RecursionError, ValueError,
                  OverflowError, TypeError, OSError)
_HYDRAS_KEY = "_dummy_"  # under which Hydra resolves a reference in a defaults list


def explain(error: Exception, folder_key: str) -> UserError:
    """Return the user error for an error of composing the config.

    `folder_key` is the config key of the output folder.
    """
    for cause in _causes(error):
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            return _no_choice(cause) or key_error(cause)
        if isinstance(cause, MarkedYAMLError) and (mark := cause.problem_mark):
            return UserError(mark.name, f"line {mark.line + 1} is not YAML ({cause.problem})")
        if isinstance(cause, RecursionError):
            return UserError("config", "an option inherits from itself",
                             "name another one in its defaults")
    if isinstance(error, OverflowError):  # an integer that no float can hold; its text has the key
        key = re.search(r"full_key: (\S+)", str(error))
        return UserError(key[1] if key else "config", _first_line(error), "give a smaller number")
    text = "\n".join(str(cause) for cause in _causes(error))
    for pattern, explained in _KNOWN:
        if found := re.search(pattern, text, re.DOTALL):
            return explained(found)
    if failed := next((cause for cause in _causes(error) if isinstance(cause, OSError)), None):
        where = f" to '{failed.filename}'" if failed.filename else ""
        return UserError(folder_key, f"cannot write{where} ({failed.strerror or failed})",
                         "free some space, or name another folder")
    if isinstance(error, TypeError):  # of Hydra, for a group with a list of anything but options
        return UserError("config", f"cannot be composed ({_first_line(error)})",
                         "write group=option; kt-exp --help lists them")
    return UserError("config", _first_line(error))


def mapping_error(error: Exception) -> UserError | None:
    """Return the user error for a mapping that is set where the config has null.

    OmegaConf fails there with errors that are not its own. None if the error is another one.
    """
    place = traceback.extract_tb(error.__traceback__)[-1].filename
    if Path(place).parent.name != "omegaconf":
        return None
    found = re.search(r"full_key: (\S+)", str(error))
    return UserError(found[1] if found else "hydra.sweeper.params",
                     "holds null, in which no mapping can be set",
                     "what a sweep varies is written key=a,b after -m")


def key_error(error: OmegaConfBaseException) -> UserError:
    """Return the user error for an error of OmegaConf about a key."""
    key = error.full_key or "config"
    if isinstance(error, MissingMandatoryValue):
        return UserError(key, "missing", f"set it: {key}=…")
    # ConfigAttributeError is one too.
    if isinstance(error, (ConfigKeyError, AttributeError)):
        if former := former_name(key):
            return former
        parent = error.parent_node
        known = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
        return UserError(key, "no such key", did_you_mean(str(error.key), known) if known else "")
    return UserError(key, _first_line(error), _expected(error))


def _no_choice(error: OmegaConfBaseException) -> UserError | None:
    """Return the user error for a defaults list that refers to a group without an option."""
    found = re.search(r"Interpolation key '(\S+)' not found", str(error))
    if error.full_key != _HYDRAS_KEY or not found:
        return None
    return UserError(found[1], "missing", f"choose one option of this group: {found[1]}=…")


def _expected(error: OmegaConfBaseException) -> str:
    """Return what a key with a value of the wrong type expects, from its type in the schema."""
    parent = error.parent_node
    if not isinstance(parent, DictConfig) or error.key is None:
        return ""
    kind = OmegaConf.get_type(parent, str(error.key))
    return {int: "give a whole number", float: "give a number", bool: "give true or false",
            list: "give a list: [a,b]"}.get(kind, "") if isinstance(kind, type) else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _no_option(found: re.Match[str]) -> UserError:
    group, option, options = found.groups()
    known = [name for name in (options or "").split() if not _is_internal(group, name)]
    return former_name(f"{group}={option}") or UserError(
        group, f"no option '{option}'", did_you_mean(option, known))


def _is_internal(group: str, option: str) -> bool:
    """Whether an option only serves others: schemas, and launchers that kt_exp's build on."""
    return group == "hydra/launcher" and option.startswith(("basic", "kt_exp_", "submitit_"))


def _no_group(found: re.Match[str]) -> UserError:
    return UserError(found[1], "no such config group", "kt-exp --help lists them")


_KNOWN = [
    (r"Could not load 'hydra/launcher/kt_exp_slurm'", lambda found: UserError(
        "hydra/launcher", "SLURM's launcher is not installed", "pip install 'kt_exp[slurm]'")),
    (r"In '([^']+)': Could not load '([^']+)'", lambda found: UserError(
        f"{found[1]}.yaml", f"its defaults name '{found[2]}', which is not there",
        "name options that exist")),
    (r"Could not find '(.+?)/([^/']+)'\n\n(?:Available options in '.+?':\n(.+?))?\n?Config search",
     _no_option),
    (r"Could not override '([^']+)'", _no_group),
    (r"Could not delete from config\. '([^']+)' does not exist", _no_group),
    (r"(?:Ambiguous value for argument|Sweep parameters) '([^'=]+)=", lambda found: UserError(
        found[1], "several values, of which a single run takes one",
        "this is a sweep: add -m, or write a loop in Python; a list is [1,2]")),
    (r"Config group override must be", lambda found: UserError(
        "config", "a config group without an option",
        "write group=option; kt-exp --help lists them")),
    (r"Error parsing override '(.*?)'\nmissing EQUAL", lambda found: UserError(
        found[1], "not an override", "write key=value; kt-exp --help shows examples")),
    (r"(?:Error parsing override '(.*?)'\n|)(\S[^\n]*)\nSee https://hydra.cc/\S+grammar",
     lambda found: UserError(found[1] or "command line", f"cannot be parsed ({found[2]})",
                             "put values with brackets, braces, commas or spaces in quotes")),
]
