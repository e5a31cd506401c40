"""Someone's own dataclass as a plug-in, named by `_target_`."""

import importlib
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from kt_exp.config.plugins import build
from kt_exp.config.renames import CLASSES
from kt_exp.errors import UserError

MODULE = """
from __future__ import annotations
from dataclasses import dataclass
from typing import Optional
from kt_exp.config.checks import choice, number
from kt_exp.errors import UserError

@dataclass
class Camera:
    iso: int = number(minimum=50)
    film: str = choice("colour", "grey")
    label: Optional[str]
    sizes: list[int]

@dataclass
class Tripod:
    legs: int = 3

    def __post_init__(self):
        if self.legs == 4:
            raise UserError("model.legs", "that is a table", "give 3")

class Plain:
    pass
"""
GOOD = {"_target_": "kt_plug.Camera", "iso": 100, "film": "grey", "label": None, "sizes": [1, 2]}


@pytest.fixture(autouse=True)
def kt_plug(tmp_path, monkeypatch):
    (tmp_path / "kt_plug.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("kt_plug", None)


def camera(**changes):
    return OmegaConf.create({"seed": 64, "model": {**GOOD, **changes}}).model


def test_a_node_becomes_the_dataclass_it_names():
    built = build(camera(), "model")
    assert type(built).__name__ == "Camera"
    assert vars(built) == {"iso": 100, "film": "grey", "label": None, "sizes": [1, 2]}
    assert type(built.sizes) is list


def test_values_may_refer_to_other_keys_of_the_config():
    assert build(camera(iso="${seed}"), "model").iso == 64


def test_text_that_reads_as_the_type_is_taken():
    assert build(camera(iso="200"), "model").iso == 200


def test_defaults_of_the_dataclass_stand():
    node = OmegaConf.create({"_target_": "kt_plug.Tripod"})
    assert build(node, "model").legs == 3


@pytest.mark.parametrize(("changes", "line"), [
    ({"iso": 1}, "model.iso: 1 is out of range; give a number at least 50"),
    ({"iso": "fast"}, "model.iso: Value 'fast' of type 'str' could not be converted to Integer"),
    ({"iso": None}, "model.iso: Incompatible value 'None' for field of type 'int'"),
    ({"iso": "???"}, "model.iso: missing; set it: model.iso=…"),
    ({"iso": "${sede}"}, "model.iso: Interpolation key 'sede' not found"),
    ({"sizes": ["a"]}, "model.sizes[0]: Value 'a' of type 'str' could not be converted to Integer"),
    ({"film": "gray"}, "model.film: 'gray' is not an option; did you mean 'grey'?"),
    ({"isso": 1}, "model.isso: Camera has no such key; did you mean 'iso'?"),
    ({"_target_": None}, "model._target_: missing; name a dataclass: 'package.module.Class'"),
    ({"_target_": "kt_plug.Camra"}, "model._target_: cannot import 'kt_plug.Camra': module "
     "'kt_plug' has no attribute 'Camra'; name a dataclass: 'package.module.Class'"),
    ({"_target_": "kt_plugg.Camera"}, "model._target_: cannot import 'kt_plugg.Camera': No module "
     "named 'kt_plugg'; name a dataclass: 'package.module.Class'"),
    ({"_target_": "Camera"}, "model._target_: cannot import 'Camera': Empty module name; "
     "name a dataclass: 'package.module.Class'"),
    ({"_target_": "kt_plug.Plain"}, "model._target_: 'kt_plug.Plain' is not a dataclass; "
     "decorate it with @dataclass"),
])
def test_what_does_not_fit_gets_one_line(changes, line):
    with pytest.raises(UserError) as caught:
        build(camera(**changes), "model")
    assert str(caught.value) == line


def test_a_key_left_out_is_named():
    node = OmegaConf.create({key: value for key, value in GOOD.items() if key != "film"})
    with pytest.raises(UserError, match=r"^model\.film: missing; set it: model\.film=…$"):
        build(node, "model")


def test_a_plug_in_may_refuse_its_values_itself():
    node = OmegaConf.create({"_target_": "kt_plug.Tripod", "legs": 4})
    with pytest.raises(UserError, match="that is a table"):
        build(node, "model")


def test_reading_a_config_does_not_import_torch():
    modules = ("errors", "config.checks", "config.plugins", "schema", "inversion.settings",
               "finetune.settings")
    code = "import sys\n" + "".join(f"import kt_exp.{name}\n" for name in modules)
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def test_a_class_of_ours_that_has_moved_is_named_by_its_new_path():
    node = OmegaConf.create({"_target_": "kt_exp.benchmarks.folders.FolderBenchmark"})
    with pytest.raises(UserError, match=r"was renamed; write benchmark\._target_=kt_exp\."
                       r"benchmarks\.classification\.folders\.FolderBenchmark"):
        build(node, "benchmark")


@pytest.mark.parametrize("path", CLASSES.values())
def test_the_new_paths_are_there(path):
    module, _, name = path.rpartition(".")
    assert hasattr(importlib.import_module(module), name)
