"""Inversion and fine-tuning follow the model where nothing else chooses them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fixtures.configs import composed
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from kt_exp.config.recipes import OTHER, has_recipe
from kt_exp.runs.recipe_line import recipe_line
from kt_exp.schema import conf_folder, register_schema

CONF = Path(conf_folder())
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
RECIPES = yaml.safe_load((CONF / "recipes.yaml").read_text(encoding="utf-8"))
# The experiments that reproduce the paper with each model.
EXPERIMENTS = {"clip_vit_b32": "tab1_clip", "vilt": "tab1_vilt", "medclip": "tab3",
               "biomedclip": "tab4_brain_tumor", "coca": "tab6_coca",
               "coca_mscoco": "tab6_coca_mscoco", "effnet_minilm": "photos"}


def choices(*overrides: str) -> dict[str, str]:
    found = composed(*overrides, with_hydra=True).hydra.runtime.choices
    return {group: found[group] for group in ("model", "inversion", "finetune")}


def test_every_model_has_a_recipe_of_options_that_exist() -> None:
    assert sorted(RECIPES) == sorted([*MODELS, OTHER])
    for recipe in RECIPES.values():
        assert list(recipe) == ["inversion", "finetune"]
        for group, option in recipe.items():
            assert (CONF / group / f"{option}.yaml").is_file()


@pytest.mark.parametrize(("model", "experiment"), EXPERIMENTS.items())
def test_the_recipe_of_a_model_is_that_of_its_experiment(model: str, experiment: str) -> None:
    assert choices(f"model={model}") == choices(f"experiment={experiment}")


def test_the_default_is_pictoclip_in_closed_form() -> None:
    assert choices() == {"model": "pictoclip", "inversion": "none", "finetune": "closed_form"}
    assert composed().finetune.edit.strength == 1.3


@pytest.mark.parametrize("override", ["inversion=fast", "method=closed_form",
                                      "experiment=fig5_pictograms"])
def test_what_is_chosen_wins(override: str) -> None:
    assert choices("model=vilt", override)["inversion"] == choices(override)["inversion"]


@pytest.fixture
def line_of():
    """The line that a run with these overrides says about its recipe."""
    def line(*overrides: str) -> str:
        register_schema()
        with initialize_config_dir(conf_folder(), version_base="1.3"):
            config = compose("config", list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        return recipe_line()

    before = HydraConfig.instance().cfg
    yield line
    HydraConfig.instance().cfg = before


def test_the_line_names_what_was_taken_and_how_to_choose_others(line_of) -> None:
    assert line_of("model=coca") == (
        "Taken: inversion=paper finetune=coca (the recipe of model=coca). Others: inversion=… "
        "finetune=… (kt-exp list inversion finetune)")
    assert line_of("model=coca", "inversion=fast").startswith("Taken: finetune=coca (")
    assert line_of("model=coca", "inversion=fast", "finetune=paper") == ""
    assert line_of("experiment=tab1_clip") == line_of("method=paper") == ""


def test_a_model_of_ones_own_takes_the_papers_recipe_and_says_so(line_of, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "_target_: kt_exp.pictograms.weights.PictoClip\n", encoding="utf-8")
    assert not has_recipe("mine", CONF)
    assert line_of(f"hydra.searchpath=[file://{tmp_path}]", "model=mine").startswith(
        "Taken: inversion=paper finetune=paper (model=mine has no recipe in recipes.yaml).")
