"""The first job of an experiment, cut to three steps and a few images, as a process of kt-exp."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import DEVNULL, run

from full_size import checkpoints, data, sweeps
from kt_exp.concepts import load_concepts
from kt_exp.results.record import FILE_NAME, read_record
from kt_exp.schema import parse_sections

STEPS = 3
# The folders that the printed commands name → data set.
FOLDERS = {"RareConcepts": "rare", "imagenet": "imagenet1k", "imagenet100": "imagenet100",
           **{name: name for name in ("chexpert", "jsrt", "flickr30k", "mscoco", "unitochest",
                                      "siim_pneumothorax", "udiat", "brats")}}
# By option of `benchmark`: what would take hours on a CPU although the images are few.
ONE_CANDIDATE = ["benchmark.tune.layers=[7]", "benchmark.tune.betas=[0.1]",
                 "benchmark.tune.variances=[1.0]"]  # in place of 27
CUTS = {"rare_imagenet": ["benchmark.templates=photo"],  # 1000 prompts in place of 80,000
        **dict.fromkeys(("unitochest", "siim_pneumothorax", "udiat", "brats"), ONE_CANDIDATE)}
PROGRAM = ["-m", "kt_exp.run"]
MEASURED = Path(__file__).with_name("measured.py")
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class DryRun:
    """How the first job of an experiment ended.

    Attributes:
        line: the error; empty if it went well.
        stages: wall seconds of each stage, as in result.json.
        seconds: wall seconds of the process.
        cpu_seconds: of all its threads, where other processes make wall seconds vary.
        peak: its largest resident memory, bytes.
        image_steps: steps of inversion times images.
    """

    experiment: str
    model: str
    code: int
    line: str
    seconds: float
    cpu_seconds: float
    peak: int
    stages: dict[str, float] = field(default_factory=dict)
    image_steps: int = 0

    @property
    def good(self) -> bool:
        return self.code == 0 and not self.line


def arguments(experiment: str, number: int = 0) -> list[str]:
    """Return the overrides of an experiment's first job, cut short; weights that would be
    downloaded are not among them.

    Args:
        number: seed, so that no experiment finds another one's images in the store.
    """
    job = sweeps.jobs(experiment)[0]
    config = parse_sections(sweeps.plain(job))
    names = [concept.name for concept in load_concepts(config.concepts)]
    taught = names[:2] if config.finetune.scope == "joint" else names[:1]
    return sweeps.last_of_each([
        *job, *CUTS.get(sweeps.option(job, "benchmark"), []), "debug=smoke",
        f"inversion.steps={STEPS}", f"concepts.only=[{','.join(taught)}]", f"seed={number}",
        "device=cpu"])


def prepare(job: Sequence[str]) -> list[str]:
    """Write what the job `job` needs below the working directory; return the keys of weights."""
    named = {Path(word.partition("=")[2]).parts[0] for word in job if not word.endswith("=")}
    for folder in named & FOLDERS.keys():
        if not Path(folder).exists():
            data.write(FOLDERS[folder], Path(folder))
    weights = Path("weights")
    weights.mkdir(exist_ok=True)
    return checkpoints.WRITERS[sweeps.option(job, "model")](weights)


def dry_run(experiment: str, number: int, threads: int) -> DryRun:
    """Run the first job of an experiment below the working directory, and measure it."""
    job = arguments(experiment, number)
    folder = Path("runs", experiment).absolute()
    folder.mkdir(parents=True)
    words = [*job, *prepare(job), f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=job"]
    out = folder / "measured.json"
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1",
                   "KT_EXP_STORE": str(Path("store").absolute()), "PYTHONPATH": path}
    with (folder / "stderr").open("w") as said:
        run([sys.executable, MEASURED, out, sys.executable, *PROGRAM, "-m", *words],
            stdout=DEVNULL, stderr=said, env=environment, check=False)
    measured = json.loads(out.read_text())
    ended = DryRun(experiment, sweeps.option(job, "model"), measured["code"], "",
                   measured["seconds"], measured["cpu_seconds"], measured["peak"])
    return _with_record(ended, folder)


def _with_record(ended: DryRun, folder: Path) -> DryRun:
    path = folder / "job" / FILE_NAME
    lines = (folder / "stderr").read_text().splitlines()
    if ended.code or not path.exists():
        return replace(ended, line=lines[-1] if lines else "no result")
    record = read_record(path)
    absent = {"baseline", "transferred"} - {row.phase for row in record.metrics}
    images = record.config["inversion"]["images"] * len(record.signatures.get("inversion", {}))
    return replace(ended, stages=record.seconds, image_steps=images * STEPS,
                    line=f"no results of {sorted(absent)[0]}" if absent else "")
