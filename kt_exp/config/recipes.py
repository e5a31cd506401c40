"""Which inversion and fine-tuning a model takes where none is chosen (conf/recipes.yaml)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml
from omegaconf import OmegaConf

RESOLVER = "recipe"  # conf/config.yaml: inversion: ${recipe:${model},inversion}
FILE_NAME = "recipes.yaml"
OTHER = "other"

Recipe = dict[str, str]  # config group → option


def register_recipes(conf: Path) -> None:
    """Let the defaults list of `conf`/config.yaml take options by the model."""
    OmegaConf.register_new_resolver(
        RESOLVER, lambda model, group: recipe_of(str(model), conf)[group], replace=True)


def recipe_of(model: str, conf: Path) -> Recipe:
    """Return the recipe of a model; of a model without one, that of `other`."""
    recipes = _read(conf / FILE_NAME)
    return recipes.get(model, recipes[OTHER])


def has_recipe(model: str, conf: Path) -> bool:
    """Return whether a model has a recipe of its own."""
    return model in _read(conf / FILE_NAME)


@cache
def _read(path: Path) -> dict[str, Recipe]:
    recipes: dict[str, Recipe] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return recipes
