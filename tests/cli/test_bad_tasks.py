"""Checkpoints and data that do not fit the task: one line, exit code 2, before inversion."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
from PIL import Image

from kt_exp.benchmarks.captioning import metrics as caption_metrics
from kt_exp.benchmarks.segmentation import benchmark as segmentation

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[1] / "data"
COCO = DATA / "coco"
PAIRS = DATA.parent / "benchmarks" / "segmentation" / "pairs"
CAPTIONS = f"benchmark.captions={COCO / 'dataset_coco.json'}"
JOINT = ["finetune=paper", "finetune.scope=joint"]
CAPTIONING = ["benchmark=mscoco_captioning", CAPTIONS, f"benchmark.image_root={COCO}", *JOINT]
LUNGS = ["concepts=inline", "concepts.items=[{name: lungs, description: two dark fields}]"]
SEGMENTATION = ["benchmark=segmentation", "benchmark.sam=null", *LUNGS, *JOINT]


@pytest.fixture
def refused(kt_exp, home):
    """Calls the entrypoint with what it has to refuse; returns the line that says why."""
    def call(*arguments: str) -> str:
        ended = kt_exp(*arguments)
        assert ended.code == 2, ended.stderr
        # What only reading the images shows comes after the cost.
        [line] = [line for line in ended.stderr.splitlines() if not line.startswith("Cost: ")]
        assert not list(home.glob("store/inversion/*"))
        return line.removeprefix("kt-exp: error: ")

    return call


@pytest.fixture
def pairs(tmp_path) -> Path:
    """Real images with masks, free to be damaged."""
    return Path(shutil.copytree(PAIRS, tmp_path / "pairs"))


def test_a_missing_extra_is_named_with_what_to_install(refused, monkeypatch):
    monkeypatch.setattr(caption_metrics, "find_spec", lambda name: None)
    assert refused(*CAPTIONING).endswith("; pip install 'kt_exp[captioning]'")
    monkeypatch.setattr(segmentation, "EXTRA", ("not_installed",))
    assert refused(*SEGMENTATION, f"benchmark.root={PAIRS}").endswith(
        "; pip install 'kt_exp[segmentation]'")


def test_a_missing_java_is_named(refused, monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setenv("PATH", "")
    assert refused(*CAPTIONING).startswith("benchmark: no Java on this machine")


class TestCheckpointsOfAnotherArchitecture:
    def test_open_clip(self, refused, tmp_path):
        folder = tiny.write_open_clip(tmp_path / "vit", "vit", tmp_path)
        config = json.loads((folder / "open_clip_config.json").read_text())
        config["model_cfg"]["vision_cfg"]["width"] = 48
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        line = refused("model=open_clip", f"model.name=local-dir:{folder}", "model.pretrained=null")
        assert "'visual.class_embedding'" in line

    def test_vilt(self, refused, tmp_path):
        state = tiny.vilt_state("itm_score")
        del state["vilt.layernorm.bias"]
        folder = tiny.write_vilt(tmp_path / "vilt", state)
        line = refused("model=vilt", f"model.name={folder}", "inversion=vilt", "finetune=vilt")
        assert "it lacks 'vilt.layernorm.bias'" in line

    def test_medclip(self, refused, tmp_path):
        text, _ = tiny.write_medclip_configs(tmp_path)
        weights = tiny.write_medclip(tmp_path / "swin", "swin")
        line = refused("model=medclip_resnet", f"model.weights={weights}", f"model.text={text}")
        assert "it lacks 'vision_model.model.conv1.weight'; MedCLIP-ViT is model=medclip" in line

    def test_a_clip_that_is_no_coca(self, refused, tmp_path):
        folder = tiny.write_open_clip(tmp_path / "vit", "vit", tmp_path)
        line = refused("model=coca", f"model.name=local-dir:{folder}", "model.pretrained=null")
        assert "is no CoCa: it has no text decoder" in line

    def test_a_vilt_that_is_no_sam(self, refused, tmp_path):
        folder = tiny.write_vilt(tmp_path / "vilt", tiny.vilt_state("itm_score"))
        line = refused(*SEGMENTATION, f"benchmark.root={PAIRS}", f"benchmark.sam={folder}",
                       "benchmark.m2ib.layer=2")
        assert line.startswith(f"benchmark.sam: '{folder}' is no")


class TestFoldersInAnotherLayout:
    def test_pairs(self, refused, pairs):
        (pairs / "lungs").rename(pairs / "heart")
        assert ("nor a folder 'lungs' with them (found: brain_tumor, heart); put images/ and "
                "masks/ there") in refused(*SEGMENTATION, f"benchmark.root={pairs}")

    def test_classes(self, refused, tmp_path):
        (tmp_path / "flat").mkdir()
        Image.new("L", (8, 8)).save(tmp_path / "flat" / "a.png")
        line = refused("benchmark=folders", f"benchmark.known_root={tmp_path / 'flat'}",
                       f"benchmark.target_root={tmp_path / 'flat'}")
        assert line.endswith(f"no sub-folder in {tmp_path / 'flat'} (found: a.png); put each class "
                             "into its own")

    def test_captions(self, refused, tmp_path):
        (tmp_path / "other.json").write_text('{"photos": []}')
        line = refused("benchmark=mscoco", f"benchmark.captions={tmp_path / 'other.json'}",
                       f"benchmark.image_root={COCO}", *JOINT)
        assert "unknown layout: no list 'images' (its keys are: photos); give Karpathy's" in line


def test_captions_of_images_that_are_not_there(refused, tmp_path):
    line = refused("benchmark=mscoco", CAPTIONS, f"benchmark.image_root={tmp_path}", *JOINT)
    assert f"6 of 6 images are not in {tmp_path}: val2014/COCO_val2014_" in line


def test_masks_of_another_size(refused, pairs):
    mask = next((pairs / "lungs" / "masks").iterdir())
    Image.new("L", (9, 9), 255).save(mask)
    line = refused(*SEGMENTATION, "inversion=fast", f"benchmark.root={pairs}",
                   "benchmark.m2ib.layer=2")
    assert f"another size than its image: masks/{mask.name}; give masks of the images'" in line


class TestTasksThatTheModelCannotDo:
    @pytest.fixture
    def vilt(self, tmp_path) -> list[str]:
        folder = tiny.write_vilt(tmp_path / "vilt", tiny.vilt_state("itm_score", "mlm_score"))
        return ["model=vilt", f"model.name={folder}", "inversion=vilt", "finetune=vilt",
                "finetune.scope=joint"]

    def test_segmentation_with_vilt(self, refused, vilt):
        line = refused("benchmark=segmentation", "benchmark.sam=null", f"benchmark.root={PAIRS}",
                       *LUNGS, *vilt)
        assert "cannot segment" in line
        assert "; choose a dual encoder with a ViT: clip_vit_b32" in line

    def test_a_closed_set_with_vilt(self, refused, vilt, tmp_path):
        for name in ("lungs", "heart"):
            (tmp_path / "set" / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(tmp_path / "set" / name / "a.png")
        line = refused("benchmark=chexpert", f"benchmark.known_root={tmp_path / 'set'}", *LUNGS,
                       *vilt)
        assert "; choose a dual encoder such as CLIP or MedCLIP, or benchmark=folders" in line

    def test_captioning_with_a_clip(self, refused):
        pytest.importorskip("pycocoevalcap")
        if caption_metrics.java_version() is None:
            pytest.skip("no Java on this machine")
        assert refused(*CAPTIONING).endswith(
            "writes no captions; choose a captioner: model=coca or model=coca_mscoco")
