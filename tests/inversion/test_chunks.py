"""How many images go through the model together."""

from copy import deepcopy

import open_clip
import pytest
import torch

from kt_exp.inversion import chunks
from kt_exp.inversion.chunks import auto_chunk_size, make_chunks
from kt_exp.models.clip import OpenClipModel

IMAGES = [(concept, number) for concept in "abc" for number in range(4)]


def test_chunks_are_the_images_in_order():
    assert [len(chunk) for chunk in make_chunks(IMAGES, 5)] == [5, 5, 2]
    assert [image for chunk in make_chunks(IMAGES, 5) for image in chunk] == IMAGES
    assert make_chunks(IMAGES, 100) == [IMAGES]
    assert make_chunks([], 5) == []


@pytest.mark.parametrize(("size", "lengths"), [(1, [4, 4, 4]), (5, [4, 4, 4]), (9, [8, 4])])
def test_images_of_a_caption_that_are_coupled_stay_together(size, lengths):
    assert [len(chunk) for chunk in make_chunks(IMAGES, size, whole=4)] == lengths


def test_the_automatic_size_shrinks_as_models_grow(model, monkeypatch):
    monkeypatch.setattr(chunks, "_LARGEST", 10**9)
    architecture = deepcopy(model._architecture)
    architecture["vision_cfg"] |= {"layers": 8, "width": 64}
    large = OpenClipModel(open_clip.CLIP(**architecture),
                          open_clip.SimpleTokenizer(context_length=16), architecture,
                          torch.device("cpu"))
    assert auto_chunk_size(model) > 2 * auto_chunk_size(large) > 2


def test_the_automatic_size_is_at_least_one_and_not_without_end(model, monkeypatch):
    assert auto_chunk_size(model) == 256
    monkeypatch.setattr(chunks, "_CPU_BUDGET", 1)
    assert auto_chunk_size(model) == 1


def test_measuring_leaves_no_hook_behind(model):
    auto_chunk_size(model)
    assert not any(module._forward_hooks for module in model.module.modules())
