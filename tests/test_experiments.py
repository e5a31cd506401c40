"""conf/experiment/: the command in each header composes its sweep, and the sweeps together hold
every number of the paper that can be measured. tests/cli/test_counterparts.py runs the pictogram
counterparts."""

from __future__ import annotations

import itertools
import shlex
from functools import cache
from pathlib import Path

import pytest
from fixtures.configs import composed
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from kt_exp.concepts import load_concepts, name_key
from kt_exp.report.costs import published_costs
from kt_exp.report.published import published
from kt_exp.report.runs import Job
from kt_exp.report.sweeps import with_overrides
from kt_exp.schema import conf_folder, parse, to_plain

pytestmark = pytest.mark.slow

FOLDER = Path(conf_folder()) / "experiment"
SINGLE = ["novel_words", "photos"]  # a run each, not a sweep
EXPERIMENTS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in SINGLE)
CONTROLS = ["controls_photos", "controls_pictograms"]
METHODS = ["methods_photos", "methods_pictograms"]
COUNTERPARTS = [name for name in EXPERIMENTS
                if name.endswith("_pictograms") and name not in [*CONTROLS, *METHODS]]
COMMAND = "#   python -m kt_exp.run -m "
# The column whose images came from a generator: the paper does not publish them.
GENERATED = "SDXL"


def command(name: str) -> list[str]:
    """The overrides of the command in the file's header."""
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").replace(" \\\n#", "")
    [line] = [line for line in text.splitlines() if line.startswith(COMMAND)]
    return shlex.split(line.removeprefix(COMMAND))


def without_hydra(cfg: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def axes(name: str) -> list[list[str]]:
    """The overrides of each axis of the sweep; those of the command are axes of one value."""
    params = composed(*command(name), with_hydra=True).hydra.sweeper.params
    given = [*(f"{key}={value}" for key, value in params.items()), *command(name)]
    [jobs] = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(given), None)
    return [list(dict.fromkeys(axis)) for axis in zip(*jobs, strict=True)]


def is_option(axis: list[str]) -> bool:
    """Whether an axis chooses options of a config group."""
    name = axis[0].split("=")[0]
    return ("." not in name or "@" in name) and name != "seed"


@cache
def variants(name: str) -> list[DictConfig]:
    """The sweep's jobs with the first value of each key, for all combinations of options."""
    return [composed(*job, with_hydra=True) for job in itertools.product(
        *(axis if is_option(axis) else axis[:1] for axis in axes(name)))]


@cache
def jobs(name: str) -> list[Job]:
    """All jobs of the sweep, as a report would find them before they began."""
    values = [axis for axis in axes(name) if not is_option(axis)]
    return [Job(Path(), None, with_overrides(to_plain(without_hydra(cfg)), overrides), overrides,
                choices=dict(cfg.hydra.runtime.choices))
            for cfg in variants(name) for overrides in itertools.product(*values)]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_command_in_the_header_names_options_and_keys_there_are(name: str) -> None:
    assert f"experiment={name}" in command(name)
    for cfg in variants(name):
        assert load_concepts(parse(without_hydra(cfg)).concepts)


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_run_has_photos_of_its_concepts(name: str) -> None:
    config = parse(without_hydra(composed(f"experiment={name}")))
    config.benchmark.check_concepts(load_concepts(config.concepts))


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_change_one_thing_each_over_three_seeds(name: str) -> None:
    def changed(job: Job) -> dict[str, object]:
        return {key: value for key, value in job.settings.items()
                if value != plain.settings[key] and key != "seed"}

    plain, *others = [job for job in jobs(name) if job.value("seed") == 0]
    assert [changed(job) for job in others] == [
        {"finetune.images": "noise"}, {"finetune.captions": "description"},
        {"concepts.exchange": "descriptions"}]
    assert sorted(job.value("seed") for job in jobs(name)) == [*[0] * 4, *[1] * 4, *[2] * 4]


def test_controls_of_photos_are_those_of_the_standard_test() -> None:
    standard = composed("experiment=novel_words", *command("controls_photos")[1:])
    assert without_hydra(variants("controls_photos")[0]) == without_hydra(standard)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_value_of_the_sweep_fits_the_schema(name: str) -> None:
    for axis in axes(name):
        for value in [] if is_option(axis) else axis:
            parse(OmegaConf.create(with_overrides(jobs(name)[0].config, [value])))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_job_has_a_folder_of_its_own_named_after_what_is_swept(name: str) -> None:
    for cfg in variants(name):
        sweep, swept = cfg.hydra.sweep, cfg.hydra.sweeper.params
        assert sweep.dir == f"outputs/{name}"
        assert {part.split("=")[0] for part in sweep.subdir.split(",")} >= set(swept)
        assert "/" not in sweep.subdir


def test_the_studies_that_pictograms_allow_have_a_counterpart() -> None:
    studies = ("tab1", "tab2", "main2", "main4", "main6", "main9", "main10", "fig5", "fig6",
               "fig7")
    assert {f"{name}_pictograms" for name in studies} == set(COUNTERPARTS)


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_a_counterpart_needs_no_files(name: str) -> None:
    assert command(name) == [f"experiment={name}"]


@pytest.mark.parametrize("name", published())
def test_every_number_of_the_paper_is_measured_by_a_sweep(name: str) -> None:
    table = published()[name]
    measured = [job for experiment in EXPERIMENTS for job in jobs(experiment)]
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            if cell.conditions is None or cell.percent is None or column == GENERATED:
                continue
            fitting = [job for job in measured if job.fits(cell.conditions)]
            assert any(cell.concept is None or name_key(cell.concept) in map(name_key, job.concepts)
                       for job in fitting), (*row.labels, column)


def test_what_the_paper_s_inversion_costs_is_measured_by_a_sweep_with_stores_of_its_own() -> None:
    costs = published_costs()["main6"]
    measured = jobs("main6")
    assert {job.value("inversion.images") for job in measured} == set(costs.costs)
    assert {job.value("model.name") for job in measured} == {costs.model}
    for job in [*measured, *jobs("main6_pictograms")]:
        assert job.value("finetune.rehearsal") == 0
    for name in ("main6", "main6_pictograms"):
        roots = [composed(f"experiment={name}", f"inversion.images={images}",
                          f"inversion.chunk_size={chunk}").store.root
                 for images in (10, 100) for chunk in (10, 100)]
        assert len(set(roots)) == 4
