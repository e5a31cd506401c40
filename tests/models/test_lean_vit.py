"""The ViT that is run by hand: the same function, on other sizes and on parts of images too."""

from functools import partial

import open_clip
import pytest
import torch
from torch import nn

from kt_exp.models.clip import OpenClipPlainViT, kind_of
from kt_exp.models.lean_vit import LeanViT, can_run_lean

MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])


def tower(**changes):
    torch.manual_seed(0)
    return open_clip.transformer.VisionTransformer(
        **{"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "heads": 2,
           "mlp_ratio": 4, "output_dim": 16, **changes}).eval().requires_grad_(False)


def pixels(size=32):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def as_open_clip(visual, images):
    return visual((images - MEAN[:, None, None]) / STD[:, None, None])


@pytest.mark.parametrize("changes", [
    {}, {"act_layer": open_clip.transformer.QuickGELU}, {"ls_init_value": 0.5},
    {"no_ln_pre": True}, {"final_ln_after_pool": True}, {"pos_embed_type": "sin_cos_2d"},
    {"layers": 1}, {"patch_size": 2},
])
def test_embeddings_and_pixel_gradients_are_open_clips(changes):
    visual, found = tower(**changes), []
    assert can_run_lean(visual)
    for encode in (partial(as_open_clip, visual), LeanViT(visual, MEAN, STD)):
        images = pixels().requires_grad_()
        embeddings = encode(images)
        embeddings.square().sum().backward()
        found.append((embeddings, images.grad))
    (embeddings, gradient), (lean, lean_gradient) = found
    torch.testing.assert_close(lean, embeddings, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lean_gradient, gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("changes", [
    {"pool_type": "avg"}, {"attentional_pool": True}, {"qk_norm": True},
    {"act_layer": nn.ReLU}, {"patch_size": (8, 4)},
])
def test_a_tower_with_other_parts_is_left_alone(changes):
    visual = tower(**changes)
    assert not can_run_lean(visual)
    assert kind_of(visual) is not OpenClipPlainViT


def test_another_size_is_that_of_open_clip_with_its_positions_resized():
    visual = tower()
    state = {"visual.positional_embedding": visual.positional_embedding.clone()}
    larger = tower(image_size=48)
    holder = nn.Module()
    holder.visual = larger
    open_clip.model.resize_pos_embed(state, holder)
    weights = {**visual.state_dict(), "positional_embedding": state["visual.positional_embedding"]}
    larger.load_state_dict(weights)
    torch.testing.assert_close(LeanViT(visual, MEAN, STD)(pixels(48)),
                               as_open_clip(larger, pixels(48)), rtol=1e-4, atol=1e-5)


def test_patches_that_are_not_kept_play_no_part_and_their_order_neither():
    lean, images = LeanViT(tower(), MEAN, STD), pixels()
    kept = torch.tensor([[0, 5, 9], [15, 2, 3]])
    seen = lean(images, kept)
    torch.testing.assert_close(seen, lean(images, kept.flip(1)), rtol=1e-4, atol=1e-5)
    painted = images.clone()
    painted[0, :, 8:16, 16:24] = 1  # The patch 6.
    torch.testing.assert_close(seen, lean(painted, kept))
    assert not torch.allclose(lean(images), lean(painted))
    everything = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(lean(images), lean(images, everything))


def test_in_half_precision_it_is_near_and_the_model_keeps_its_weights():
    visual = tower()
    whole, half = LeanViT(visual, MEAN, STD)(pixels()), LeanViT(visual, MEAN, STD, half=True)
    assert half(pixels()).dtype == torch.float32
    torch.testing.assert_close(half(pixels()), whole, rtol=0.05, atol=0.05)
    assert {p.dtype for p in visual.parameters()} == {torch.float32}
