"""What a run says about options that follow its model."""

from __future__ import annotations

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from kt_exp.config.recipes import FILE_NAME, has_recipe, recipe_of
from kt_exp.runs.overrides import given_keys
from kt_exp.runs.session import Session
from kt_exp.schema import conf_folder

log = logging.getLogger(__name__)


def say_recipe(session: Session) -> None:
    """Log which options the model's recipe chose, once for each model of a call."""
    line = recipe_line()
    if line and line not in session.shown:
        session.shown.add(line)
        log.info(line)


def recipe_line() -> str:
    """Return which options of this job follow its model, and how to choose others.

    Empty if the command line, an experiment or a method chooses them.
    """
    hydra, conf = HydraConfig.get(), Path(conf_folder())
    choices = hydra.runtime.choices
    if choices.get("experiment") or choices.get("method"):
        return ""
    given = given_keys()
    model = str(choices.get("model"))
    left = [group for group in recipe_of(model, conf) if group not in given]
    if not left:
        return ""
    taken = " ".join(f"{group}={choices[group]}" for group in left)
    why = f"the recipe of model={model}" if has_recipe(model, conf) \
        else f"model={model} has no recipe in {FILE_NAME}"
    return f"Taken: {taken} ({why}). Others: {' '.join(f'{group}=…' for group in left)} " \
        f"(kt-exp list {' '.join(left)})"
