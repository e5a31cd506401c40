"""A run of the closed form on two pictograms, made once; and CLIPs of each kind that transformers
can express."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import tiny_checkpoints as tiny

from kt_exp.api import run


@pytest.fixture(scope="session")
def closed_form(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that taught two concepts, each to a model of its own."""
    home = tmp_path_factory.mktemp("closed_form")
    run(["inversion=none", "finetune=closed_form", "concepts.only=[madras,chantilly]",
         "benchmark.images_per_known_class=1", "benchmark.images_per_target=4",
         f"store.root={home / 'store'}"], folder=home / "run")
    return home / "run"


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with OpenAI's vocabulary and QuickGELU, in open_clip's local-dir format."""
    return tiny.write_open_clip(tmp_path_factory.mktemp("clip"), "vit", Path())


@pytest.fixture
def load_open_clip():
    """Loads a folder by open_clip alone: the network and the tokenizer."""
    def load(folder: Path):
        name = f"local-dir:{folder}"
        return open_clip.create_model(name).eval(), open_clip.get_tokenizer(name)
    return load
