"""Options of fine-tuning against forgetting, on the command line."""

from __future__ import annotations

import open_clip
import pytest
import torch
from fixtures.configs import SHORT_TRAINING
from safetensors.torch import load_file

from kt_exp.models.loading import CHANGES_FILE
from kt_exp.pictograms.weights import FOLDER
from kt_exp.report.runs import find_jobs
from kt_exp.results.record import RunRecord

pytestmark = pytest.mark.slow

TINY = [*SHORT_TRAINING, "finetune.lr=0.05", "benchmark.images_per_target=4"]
WITHOUT_REHEARSAL = [*TINY, "finetune.rehearsal=0"]


def change(folder) -> dict[str, torch.Tensor]:
    before = open_clip.create_model(f"local-dir:{FOLDER}").state_dict()
    after = load_file(folder / "models" / "gyroscope" / CHANGES_FILE)
    return {name: tensor - before[name] for name, tensor in after.items()
            if not torch.equal(tensor, before[name])}


def accuracies(record: RunRecord, phase: str) -> list[tuple[float | None, int | None]]:
    rows = [record.metric(phase, "gyroscope", subset) for subset in ("target", "known")]
    return [(row.value, row.count) for row in rows]


def test_a_sweep_over_interpolations_fine_tunes_once(kt_exp, home):
    ended = kt_exp(*WITHOUT_REHEARSAL, "finetune.interpolation=0,0.5,1", "hydra.sweep.dir=sweep",
                   "-m")
    assert ended.code == 0
    records = {job.value("finetune.interpolation"): job.record
               for job in find_jobs([home / "sweep"])}
    assert [records[share].reused["finetune"] for share in (0, 0.5, 1)] == [0, 1, 1]
    assert len({str(record.signatures) for record in records.values()}) == 1
    assert accuracies(records[0], "transferred") == accuracies(records[0], "baseline")
    whole, half = (change(home / "sweep" / job)["visual.proj"] for job in ("2", "1"))
    torch.testing.assert_close(half, whole / 2, atol=1e-6, rtol=1e-4)
    assert change(home / "sweep" / "0") == {}


def test_lora_leaves_ordinary_weights(kt_exp, home):
    pytest.importorskip("peft")
    assert kt_exp(*WITHOUT_REHEARSAL, "finetune.lora.rank=2").code == 0
    changed = change(home / "run")
    assert list(changed) == ["visual.proj"]
    assert torch.linalg.matrix_rank(changed["visual.proj"], rtol=1e-4) == 2


def test_all_options_together(kt_exp, home):
    pytest.importorskip("peft")
    ended = kt_exp(*TINY, "finetune.lora.rank=2", "finetune.null_space=0.9",
                   "finetune.interpolation=0.5", "finetune.distillation=1")
    assert ended.code == 0
    assert torch.linalg.matrix_rank(change(home / "run")["visual.proj"], rtol=1e-4) == 2


def test_a_closed_form_edit_is_interpolated_too(kt_exp, home):
    edits = ["inversion=none", "finetune=closed_form", "concepts.only=[gyroscope]",
             "benchmark.images_per_known_class=1", "benchmark.images_per_target=1"]
    assert kt_exp(*edits).code == 0
    whole = change(home / "run")["visual.proj"]
    record = kt_exp(*edits, "finetune.interpolation=0.25").record
    assert record.reused["finetune"] == 1
    torch.testing.assert_close(change(home / "run")["visual.proj"], whole / 4, atol=1e-6, rtol=1e-4)


def test_training_on_top_of_an_edit_is_interpolated_from_the_edit(kt_exp, home):
    edit = [*WITHOUT_REHEARSAL, "finetune.edit.strength=1.3"]
    assert kt_exp(*edit, "finetune.strategy=projection_edit").code == 0
    edited = change(home / "run")["visual.proj"]
    assert kt_exp(*edit, "finetune.start=closed_form", "finetune.interpolation=0").code == 0
    torch.testing.assert_close(change(home / "run")["visual.proj"], edited, atol=0, rtol=0)
