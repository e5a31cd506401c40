"""Bad input: one line that names the key, exit code 2, before anything costly."""

from __future__ import annotations

import pytest

from kt_exp.results.record import ErrorEntry

ZORB = "{name: zorb, description: a red ball}"

TRAINS = ["inversion=fast", "finetune=pictograms"]

BAD = {
    "a mapping over null": (["hydra.sweeper.params={seed: '0,1'}", "-m"],
                            "hydra.sweeper.params: holds null, in which no mapping can be set"),
    "a key below null": (["+hydra.sweeper.params.seed='0'", "-m"],
                         "hydra.sweeper.params: holds null, in which no mapping can be set"),
    "launcher": (["hydra/launcher=nope"], "known: in_process, local_processes, slurm_cpu"),
    "unknown key": (["inversion.stps=3"], "inversion.stps: no such key; did you mean 'steps'?"),
    "unknown root key": (["sedd=1"], "sedd: no such key; did you mean 'seed'?"),
    "unknown group": (["modle=x"], "modle: no such key; did you mean 'model'?"),
    "unknown option": (["tracker=nope"], "tracker: no option 'nope'; did you mean 'none'?"),
    "added key": (["+foo=1"], "foo: no such key"),
    "added key of a section": (["+inversion.speed.foo=1"], "inversion.speed.foo: no such key"),
    "added plug-in key": (["+model.z=1"], "model.z: "),
    "no equals sign": (["bogus"], "bogus: not an override; write key=value"),
    "several values": (["seed=1,2"], "seed: several values, of which a single run takes one; "
                       "this is a sweep: add -m"),
    "sweep in a config": (["experiment=tab1_pictograms"], "experiment=tab1_pictograms: this is a "
                          "sweep (over finetune.lr); add -m, or fix what is swept: finetune.lr=…"),
    "empty value": (["seed="], "seed: "),
    "group removed": (["~model"], "model: missing"),
    "group without option": (["model=null"], "config: a config group without an option"),
    "braces": (["concepts.items=[{"], "command line: cannot be parsed"),
    "reference": (["seed=${nowhere}"], "seed: Interpolation key 'nowhere' not found"),
    "whole number": (["seed=x"], "; give a whole number"),
    "true or false": (["traceback=maybe"], "; give true or false"),
    "section as value": (["store=3"], "store: "),
    "seed": (["seed=-1"], "seed: -1 is out of range; give a number at least 0"),
    "steps": (["inversion.steps=0"], "inversion.steps: 0 is out of range"),
    "rate of inversion": (["inversion.lr=0"], "inversion.lr: 0.0 is out of range"),
    "layers": (["inversion.layers=top"], "inversion.layers: 'top' is not an option; choose all"),
    "too many layers": ([*TRAINS, "inversion.layers=last_6"], "inversion.layers: last_6 of 5 "
                        "layers; choose at most last_5, or all"),
    "weight of the prior": (["inversion.feature_weight=-1"], "inversion.feature_weight: -1.0 is"),
    "prior": (["inversion.feature_prior=l2"], "inversion.feature_prior: 'l2' is not an option"),
    "no statistics": ([*TRAINS, "inversion.layers=last_1", "inversion.statistics=file"],
                      "inversion.statistics_path: missing, but inversion.statistics is 'file'"),
    "no statistics file": ([*TRAINS, "inversion.layers=last_1", "inversion.statistics=file",
                            "inversion.statistics_path=gone"], "cannot read 'gone'"),
    "not a statistics file": ([*TRAINS, "inversion.layers=last_1", "inversion.statistics=file",
                               "inversion.statistics_path=file"], "'file' holds no statistics"),
    "no statistics folder": ([*TRAINS, "inversion.layers=last_1", "inversion.statistics=folder",
                              "inversion.statistics_path=gone"], "no such folder: gone"),
    "nothing above the cut": ([*TRAINS, "inversion.layers=projection",
                               "finetune.strategy=visual_trunk"], "no parameters for "
                              "'visual_trunk' above the cut inversion.layers=projection"),
    "rate of fine-tuning": (["finetune.lr=-1"], "finetune.lr: -1.0 is out of range"),
    "batch": (["finetune.batch_size=0"], "finetune.batch_size: 0 is out of range"),
    "sizes": (["inversion.sizes=[1000000000]"], "inversion.sizes: 1000000000 is out of range"),
    "images": (["inversion.images=1000000000"], "inversion.images: 1000000000 is out of range"),
    "workers": (["benchmark.workers=1000000"], "benchmark.workers: 1000000 is out of range"),
    "scale": (["inversion.affine.scale=[1,0.5]"], "inversion.affine.scale: [1.0, 0.5] is not"),
    "strategy": (["finetune.strategy=visul"], "finetune.strategy: 'visul' is not an option"),
    "calibration": (["finetune.calibration=half"], "finetune.calibration: 'half' is not an option"),
    "budget": (["finetune.budget=1.5"], "finetune.budget: 1.5 is out of range; give a number at "
                                        "least 0 and at most 1"),
    "drawings to calibrate on": (["benchmark.calibration_per_known_class=-1"],
                                 "benchmark.calibration_per_known_class: -1 is out of range"),
    "seed of drawings": (["benchmark.seed=4294967296"], "benchmark.seed: 4294967296 is out of"),
    "clip with one concept": ([*TRAINS, "finetune.loss=clip"],
                              "finetune.loss: 'clip' learns nothing"),
    "rank": (["finetune.lora.rank=-1"], "finetune.lora.rank: -1 is out of range"),
    "LoRA's targets": ([*TRAINS, "finetune.lora.rank=2", "finetune.lora.targets=[visual.prj]"],
                       "finetune.lora.targets: 'visual.prj' matches no linear layer that "
                       "finetune.strategy 'projection' trains; did you mean 'visual.proj'?"),
    "LoRA of an edit": (["finetune=closed_form", "finetune.lora.rank=2"],
                        "finetune.lora.rank: not possible with finetune.strategy"),
    "null space without images": ([*TRAINS, "finetune.null_space=0.9", "finetune.rehearsal=0"],
                                  "finetune.null_space: needs images of known classes, but "
                                  "finetune.rehearsal is 0"),
    "null space": (["finetune.null_space=1"], "finetune.null_space: 1 leaves nothing to train"),
    "interpolation": (["finetune.interpolation=1.5"], "finetune.interpolation: 1.5 is out of"),
    "no images to train on": (["finetune=paper"], "inversion.images: 0, but finetune.strategy "
                              "'visual' trains on such images; choose an inversion"),
    "no folder": (["finetune.images=folder"], "finetune.folder: missing"),
    "device": (["device=tpu"], "device: 'tpu' is no device"),
    "CUDA": (["device=cuda:99"], "device: 'cuda:99' asked for"),
    "plug-in": (["model._target_=nope.X"], "model._target_: cannot import 'nope.X'"),
    "model name": (["model=open_clip"], "model.name: missing; set it: model.name="),
    "unknown model": (["model=open_clip", "model.name=ViT-B-3"], "model.name: open_clip has no"),
    "unknown tag": (["model=clip_vit_b32", "model.pretrained=openia"], "did you mean 'openai'"),
    "no weights": (["model=clip_vit_b32", "model.pretrained=gone.pt"], "no such file: gone.pt"),
    "benchmark root": (["benchmark=folders"],
                       "benchmark.target_root, benchmark.known_root: missing; "
                       "set them: benchmark.target_root=… benchmark.known_root=…"),
    "no such root": (["benchmark=folders", "benchmark.target_root=a", "benchmark.known_root=b"],
                     "benchmark.known_root: no such folder: b"),
    "no images of it": (["concepts=inline", f"concepts.items=[{ZORB}]"],
                        "concepts: no images of 'zorb'"),
    "no concepts": (["concepts=inline"], "concepts: the set 'inline' holds no concepts"),
    "no concepts file": (["concepts=file", "concepts.path=gone.csv"], "cannot read 'gone.csv'"),
    "unknown concept": (["concepts.only=[gyroscop]"], "did you mean 'gyroscope'?"),
    "exchange": (["concepts.exchange=names"], "concepts.exchange: 'names' is not an option"),
    "nothing to exchange": (["concepts=inline", f"concepts.items=[{ZORB}]",
                             "control=exchanged"], "concepts.exchange: the set 'inline' holds one"),
    "unknown control": (["control=nois"], "control: no option 'nois'; did you mean 'noise'"),
    "images of another name": (["concepts=inline", "concepts.items=[{name: dax, images_of: zorb, "
                                "description: a zorb}]"], "contains 'zorb', the name that 'dax'"),
    "twice": (["concepts=inline", f"concepts.items=[{ZORB},{ZORB}]"], "two concepts of one name"),
    "also known": (["concepts=inline", "concepts.items=[{name: House, description: a box}]"],
                   "concepts: 'House' is also a known class"),
    "too long": (["concepts=inline",
                  f"concepts.items=[{{name: gyroscope, description: {'big red ' * 60}}}]"],
                 "shorten the description"),
    "empty store": (["store.root="], "store.root: empty"),
    "store": (["store.root=file/below"], "store.root: cannot write to file/below"),
    "pixels": (["store.pixels_gib=-1"], "store.pixels_gib: "),
    "run folder": (["hydra.run.dir=file/below"], "hydra.run.dir: cannot write to 'file"),
    "a job of a sweep": (["sedd=1,2", "-m"], "sedd: no such key"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_line_and_exit_code_2(case, kt_exp, home):
    (home / "file").touch()
    arguments, expected = BAD[case]
    ended = kt_exp(*arguments)
    assert ended.code == 2
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("kt-exp: error: ")
    assert expected in lines[0]
    assert not list(home.glob("store/inversion/*"))
    assert not list(home.glob("run/traceback.txt"))


def test_a_refused_run_leaves_its_record(kt_exp):
    record = kt_exp("inversion.steps=0").record
    assert record.status == "failed"
    assert record.error == ErrorEntry("UserError", "inversion.steps: 0 is out of range; "
                                      "give a number at least 1")
    assert record.config["inversion"]["steps"] == 0


def test_a_traceback_on_demand(kt_exp):
    assert "Traceback" in kt_exp("inversion.steps=0", "traceback=true").stderr
