"""The fine-tuning loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from kt_exp.errors import UserError
from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.finetune.objectives import objective
from kt_exp.finetune.plan import TrainingPlan
from kt_exp.finetune.settings import FinetuneSettings
from kt_exp.finetune.updates import protected, updates
from kt_exp.models.protocol import Model


def train(
    model: Model, images: Tensor, rehearsal: Tensor, plan: TrainingPlan,
    settings: FinetuneSettings, advance: Callable[[Callable[[], float]], None],
    features: FeatureCache,
) -> tuple[dict[str, Tensor], list[float]]:
    """Fine-tune `model` in place on `images` `(N, 3, H, W)`, which lie on its device.

    `rehearsal` `(M, 3, H, W)` are images of known classes; their embeddings are kept close to those
    of the frozen model. `features` is the cache of the model before training. Returns the changed
    state `{name: tensor}` and the loss of each step.

    Only the strategy's parameters are trained, or the linear maps among them (`updates.updates`);
    all others stay bit-equal. Dropout and adapters are drawn from the plan's seed, independent of
    the process's random state. The caller restores the model with `models.weights.restored`.

    Raises:
        UserError: the loss or the weights became NaN or infinite.
    """
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    loss_of = objective(model, images, rehearsal, plan, settings, features)
    off = protected(model, rehearsal, plan.rehearsed, settings, features)
    history = []
    with _seeded(model.device, plan.seed), updates(model, settings, off) as trained:
        optimizer = _optimizer(trained.parameters, settings)
        _set_mode(model.module, settings.mode)
        for batch in plan.batches:
            loss = loss_of(batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            _step(optimizer)
            trained.after_step()
            history.append(loss.detach())
            advance(history[-1].item)
    model.module.eval().requires_grad_(False)
    values = torch.stack(history).tolist()
    _refuse_nan(values)
    changed = {n: t.clone() for n, t in model.module.state_dict().items()
               if not torch.equal(t, before[n])}
    if not all(torch.isfinite(tensor).all() for tensor in changed.values()):
        raise UserError("finetune", "the weights became infinite or NaN", "lower finetune.lr")
    return changed, values


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _optimizer(parameters: list[torch.nn.Parameter],
               settings: FinetuneSettings) -> torch.optim.Optimizer:
    # Adam adds the decay to the gradient, as in the paper's code; AdamW decouples it.
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    beta1, beta2 = settings.betas
    return kind(parameters, lr=settings.lr, betas=(beta1, beta2), eps=settings.eps,
                weight_decay=settings.weight_decay)


def _step(optimizer: torch.optim.Optimizer) -> None:
    try:
        optimizer.step()
    except RuntimeError as error:
        if "overflow" not in str(error):  # of torch's scalars, which are float32
            raise
        raise UserError("finetune.lr", "a step with it is beyond what float32 holds",
                        "lower it") from error


def _set_mode(module: torch.nn.Module, mode: str) -> None:
    module.train(mode == "train")
    for part in module.modules():
        frozen = not any(p.requires_grad for p in part.parameters())
        if frozen and isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.eval()  # In train mode its running statistics would change.


def _refuse_nan(values: list[float]) -> None:
    for step, value in enumerate(values, start=1):
        if not math.isfinite(value):
            raise UserError("finetune", f"the loss became {value} at step {step} of {len(values)}",
                            "lower finetune.lr")
