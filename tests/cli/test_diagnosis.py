"""What a run says of its concepts before it begins."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

MOONGATE = ["inversion=fast", "finetune=pictograms", "concepts.only=[moongate]",
            "inversion.steps=1", "inversion.images=2", "finetune.epochs=1", "finetune.rehearsal=0",
            "finetune.save_models=false", "benchmark.images_per_known_class=1",
            "benchmark.images_per_target=2"]


def test_a_low_cosine_is_warned_about_for_the_caption_that_it_concerns(kt_exp) -> None:
    warned = kt_exp(*MOONGATE, "finetune.captions=named")
    assert "transfer is unlikely by a caption 'A X is …'" in " ".join(warned.stdout.split())
    silent = kt_exp(*MOONGATE, "finetune.captions=mixed")
    assert silent.code == 0
    assert "warning" not in silent.stdout
