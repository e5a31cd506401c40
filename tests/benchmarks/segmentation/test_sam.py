"""SAM from a folder, prompted by boxes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import SamModel, SamProcessor

from kt_exp.benchmarks.segmentation.sam import Sam
from kt_exp.errors import UserError

CPU = torch.device("cpu")
BOXES = [(10, 10, 50, 40), (60, 20, 90, 60)]


@pytest.fixture
def image():
    return Image.effect_noise((100, 70), 80).convert("RGB")


def test_the_mask_is_the_union_over_boxes_at_the_size_of_the_image(tiny_sam, image):
    sam = Sam(str(tiny_sam), CPU)
    one, other, both = (sam.segment(image, some) for some in (BOXES[:1], BOXES[1:], BOXES))
    assert both.shape == (70, 100)
    assert np.array_equal(both, one | other)
    assert 0 < one.mean() < 1


def test_the_mask_is_that_of_transformers(tiny_sam, image):
    processor, model = SamProcessor.from_pretrained(tiny_sam), SamModel.from_pretrained(tiny_sam)
    inputs = processor(image, input_boxes=[[list(map(float, BOXES[0]))]], return_tensors="pt")
    with torch.no_grad():
        found = model(**inputs, multimask_output=False)
    masks = processor.post_process_masks(found.pred_masks, inputs["original_sizes"],
                                         inputs["reshaped_input_sizes"])
    mine = Sam(str(tiny_sam), CPU).segment(image, BOXES[:1])
    assert np.array_equal(mine, masks[0][0, 0].numpy())


def test_the_fingerprint_follows_the_weights(tiny_sam, tmp_path):
    folder = shutil.copytree(tiny_sam, tmp_path / "sam")
    assert Sam(str(folder), CPU).fingerprint == Sam(str(tiny_sam), CPU).fingerprint
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[0]
    save_file({**weights, name: weights[name] + 1}, folder / "model.safetensors", {"format": "pt"})
    assert Sam(str(folder), CPU).fingerprint != Sam(str(tiny_sam), CPU).fingerprint


def test_what_is_no_sam_is_refused_in_one_line(tiny_sam, tmp_path):
    def refusal(source):
        with pytest.raises(UserError) as caught:
            Sam(str(source), CPU)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert refusal(tmp_path).startswith(f"benchmark.sam: '{tmp_path}' is no folder with a SAM")
    assert "null for coarse masks" in refusal(tmp_path / "nowhere")
    folder = shutil.copytree(tiny_sam, tmp_path / "sam")
    weights = load_file(folder / "model.safetensors")
    del weights["mask_decoder.iou_token.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "is not a SAM: it lacks 'mask_decoder.iou_token.weight'" in refusal(folder)


def test_code_that_comes_with_it_is_not_run(tiny_sam, tmp_path):
    folder = shutil.copytree(tiny_sam, tmp_path / "sam")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    path = next(folder.glob("*processor_config.json"))
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "trust_remote_code": True}))
    with pytest.raises(UserError, match="asks for trust_remote_code"):
        Sam(str(folder), CPU)
    evil = {"auto_map": {"AutoImageProcessor": "evil.Evil"}, "image_processor_type": "Evil"}
    path.write_text(json.dumps({**config, **evil}))
    Sam(str(folder), CPU)  # transformers has a class for this type of model
    assert not (tmp_path / "ran").exists()
