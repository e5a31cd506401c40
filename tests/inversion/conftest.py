"""A tiny CLIP with random weights, short settings, and a progress that shows nothing."""

from contextlib import contextmanager
from dataclasses import replace

import open_clip
import pytest
import torch

from kt_exp.inversion.invert import initial_state, invert
from kt_exp.inversion.settings import AffineSettings, InversionSettings, SpeedSettings
from kt_exp.models.clip import OpenClipPlainViT

ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 4},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
AFFINE = {"probability": 0.5, "degrees": 30, "translate": 0.1, "scale": [0.7, 1.2],
          "padding": "border", "per_sample": True}
SPEED = {"tower": "model", "bf16": False, "native_size": False, "patch_dropout": 0.0,
         "compile": False}
SETTINGS = {
    "model": None,
    "layers": "all", "feature_prior": "mahalanobis", "feature_weight": 0.1, "statistics": "known",
    "statistics_path": None,
    "images": 2, "steps": 8, "init": "uniform", "sizes": [], "upsize_at": [],
    "restart_optimizer": True, "lr": 0.05, "lr_schedule": "cosine", "lr_period": "run",
    "distance": "cosine", "tv_form": "norm", "tv_weight": 0.005, "grad_clip": "image",
    "grad_clip_norm": 1.0, "clamp": "after_step", "png": "clamp", "chunk_size": 4,
    "checkpoint_seconds": 1000.0,
}


@pytest.fixture(scope="session")
def model():
    torch.manual_seed(0)
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    return OpenClipPlainViT(open_clip.CLIP(**ARCHITECTURE), tokenizer, ARCHITECTURE,
                            torch.device("cpu"))


@pytest.fixture
def settings():
    """Makes settings: the short ones above, with the changes that a test names."""

    def make(affine=None, speed=None, **changes):
        return InversionSettings(**{**SETTINGS, **changes},
                                 affine=AffineSettings(**{**AFFINE, **(affine or {})}),
                                 speed=SpeedSettings(**{**SPEED, **(speed or {})}))

    return make


class Hooks:
    """Stops after the step `stop_at`, keeping what is saved."""

    def __init__(self, stop_at=None):
        self.stop_at, self.saved, self.steps = stop_at, None, 0

    def advance(self, score):
        self.steps += 1

    def stop(self):
        return self.steps == self.stop_at

    def save(self, state):
        self.saved = replace(state, images=state.images.detach().clone(),
                             moments=[moment.clone() for moment in state.moments],
                             curve_steps=list(state.curve_steps), curve=list(state.curve))


@pytest.fixture
def hooks_class():
    """What `invert` calls: to take as it is, or to make others from."""
    return Hooks


@pytest.fixture
def run():
    """Inverts tasks from their start, or from where a saved state is."""

    def run(model, tasks, settings, *, seed=0, hooks=None, state=None):
        return invert(model, tasks, settings, seed,
                      state or initial_state(tasks, settings, model, seed), hooks or Hooks())

    return run


@pytest.fixture
def silent():
    class Silent:
        def __init__(self):
            self.steps = 0

        def advance(self, n=1, *, earlier=False, **fields):
            self.steps += n
            assert all(isinstance(value(), float) for value in fields.values())

    bar = Silent()

    @contextmanager
    def progress(description, total):
        yield bar

    progress.bar = bar
    return progress
