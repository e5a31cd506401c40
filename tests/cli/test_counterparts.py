"""Every sweep over pictograms in conf/experiment/ runs: one job of it, as small as can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.configs import composed
from omegaconf import OmegaConf

from kt_exp.results.record import read_record
from kt_exp.schema import conf_folder

pytestmark = pytest.mark.slow

EXPERIMENTS = Path(conf_folder()) / "experiment"
SWEEPS = sorted(path.stem for path in EXPERIMENTS.glob("*_pictograms.yaml"))
SMALL = [
    "inversion.images=2", "finetune.epochs=1", "finetune.rehearsal=0", "finetune.batch_size=2",
    "benchmark.images_per_known_class=1", "benchmark.images_per_target=2",
    "benchmark.invented_names=0",
]


def first_job(name: str) -> list[str]:
    """The first value of each axis of the sweep, but for the steps: two, without a ladder."""
    config = composed(f"experiment={name}", with_hydra=True)
    params = OmegaConf.to_container(config.hydra.sweeper.params)
    first = {key: str(values).split(",")[0] for key, values in params.items()}
    first |= {"inversion.steps": "2", "inversion.sizes": "[]", "inversion.upsize_at": "[]"}
    return [f"{key}={value}" for key, value in first.items()]


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_runs_and_leaves_its_result_in_its_folder(name, kt_exp, home):
    concepts = "moongate,madras" if name == "main4_pictograms" else \
        "madras" if name == "tab2_pictograms" else "moongate"
    ended = kt_exp(f"experiment={name}", *first_job(name), *SMALL, f"concepts.only=[{concepts}]",
                   "hydra.sweep.subdir=0", "-m")
    assert ended.code == 0, ended.stderr
    record = read_record(home / "outputs" / name / "0")
    assert record.status == "completed"
    assert {row.phase for row in record.metrics} >= {"baseline", "transferred"}


def test_a_job_is_found_in_a_folder_named_after_what_was_chosen(kt_exp, home):
    ended = kt_exp("experiment=tab1_pictograms", "finetune.lr=1e-3", *SMALL[:5],
                   "inversion.steps=17", "concepts.only=[moongate]", "-m")
    assert ended.code == 0, ended.stderr
    [folder] = (home / "outputs/tab1_pictograms").glob("*finetune.lr=0.001*")
    assert read_record(folder).status == "completed"


def test_a_folder_with_too_long_a_name_is_refused(kt_exp):
    ended = kt_exp("experiment=tab1_pictograms", *first_job("tab1_pictograms"), *SMALL,
                   "concepts.only=[moongate]", "-m")
    assert ended.code == 2
    assert "hydra.sweep.subdir: the name of job 0's folder has more than 255 bytes; name it by" \
        in ended.stderr
