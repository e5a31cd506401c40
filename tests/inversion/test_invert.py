"""The inversion loop: what it raises, what it leaves alone, and how it goes on."""

from dataclasses import replace

import pytest
import torch

from kt_exp.inversion.invert import Task, _Clip, initial_state

TASKS = [Task("a tower with a roof", 0), Task("a tower with a roof", 1), Task("a round dish", 0)]


def clean_scores(model, images, tasks=TASKS, distance="cosine"):
    with torch.no_grad():
        return model.scorer([task.caption for task in tasks], distance)(images)


@pytest.mark.parametrize("distance", ["cosine", "l2", "l2_unnormalized"])
@pytest.mark.parametrize("init", ["uniform", "normal"])
def test_images_come_to_match_their_captions(model, settings, distance, init, run):
    chosen = settings(distance=distance, init=init, steps=40)
    start = initial_state(TASKS, chosen, model, 0).images
    final = run(model, TASKS, chosen)
    before, after = (clean_scores(model, images, distance=distance)
                     for images in (start, final.images))
    assert (after > before).all()
    assert final.step == 40
    assert final.images.shape == (3, 3, 16, 16)
    assert not final.images.requires_grad


def test_the_start_is_noise_of_the_kind_that_is_asked_for(model, settings):
    many = [Task("a tower", index) for index in range(20)]
    uniform, normal = (initial_state(many, settings(init=kind), model, 0).images
                       for kind in ("uniform", "normal"))
    assert 0 <= uniform.min() < uniform.max() <= 1
    assert uniform.std() == pytest.approx(12 ** -0.5, abs=0.01)
    assert (normal.mean(), normal.std()) == (pytest.approx(0, abs=0.03), pytest.approx(1, abs=0.03))


def test_weights_get_no_gradient_and_stay_bit_equal(model, settings, run):
    before = model.fingerprint()
    run(model, TASKS, settings())
    assert model.fingerprint() == before
    assert all(p.grad is None and not p.requires_grad for p in model.module.parameters())


def test_every_score_of_the_curve_is_that_of_its_step(model, settings, run):
    short = run(model, TASKS, settings(steps=8))
    assert short.curve_steps == list(range(8))
    assert [len(scores) for scores in short.curve] == [3] * 8
    start = initial_state(TASKS, settings(), model, 0).images
    still = run(model, TASKS, settings(affine={"probability": 0}))
    torch.testing.assert_close(still.curve[0], clean_scores(model, start))
    long = run(model, TASKS[:1], settings(steps=250))
    assert long.curve_steps[0] == 0
    assert long.curve_steps[-1] == 249
    assert 100 <= len(long.curve_steps) <= 130


@pytest.mark.parametrize("grad_clip", ["none", "image"])
def test_an_image_does_not_depend_on_the_company_it_keeps(model, settings, grad_clip, run):
    chosen = settings(grad_clip=grad_clip, sizes=[8, 16], upsize_at=[4], lr=0.01)
    together = run(model, TASKS, chosen).images
    for i, task in enumerate(TASKS):
        alone = run(model, [task], chosen).images[0]
        torch.testing.assert_close(together[i], alone, rtol=1e-3, atol=1e-3)


def test_clipping_a_batch_couples_the_images_of_a_caption_only(model, settings, run):
    chosen = settings(grad_clip="batch", lr=0.01)
    together = run(model, TASKS, chosen).images
    torch.testing.assert_close(together[:2], run(model, TASKS[:2], chosen).images,
                               rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(together[2:], run(model, TASKS[2:], chosen).images,
                               rtol=1e-3, atol=1e-3)


def test_streams_differ_by_image_caption_and_seed(model, settings):
    def noise(task, seed=0):
        return initial_state([task], settings(), model, seed).images

    first = noise(TASKS[0])
    assert torch.equal(first, noise(TASKS[0]))
    assert not any(torch.equal(first, other) for other in
                   (noise(TASKS[1]), noise(TASKS[2]), noise(TASKS[0], seed=1)))


def test_the_ladder_starts_small_and_ends_at_its_last_size(model, settings, run):
    chosen = settings(sizes=[8, 12], upsize_at=[4])
    assert initial_state(TASKS, chosen, model, 0).images.shape[-1] == 8
    assert run(model, TASKS, chosen).images.shape[-1] == 12


@pytest.mark.parametrize("clamp", ["none", "before_step", "after_step"])
def test_clamping(model, settings, clamp, run):
    images = run(model, TASKS, settings(clamp=clamp, lr=0.5, steps=3)).images
    inside = bool((images >= 0).all() and (images <= 1).all())
    assert inside == (clamp == "after_step")
    # A step of Adam at 0.5 leads away from [0, 1] by 0.5 at most.
    bounded = bool((images >= -0.8).all() and (images <= 1.8).all())
    assert bounded == (clamp != "none")


@pytest.mark.parametrize("kind", ["none", "image", "batch"])
def test_gradient_clipping_is_that_of_torch(settings, kind):
    grad = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    grad *= torch.tensor([0.01, 1.0, 10.0])[:, None, None, None]
    clipped = grad.clone()
    _Clip(settings(grad_clip=kind), ["same"] * 3, torch.device("cpu"))(clipped)
    expected = grad.clone().requires_grad_()
    if kind == "image":
        rows = [torch.nn.Parameter(row) for row in grad.clone()]
        for row, its in zip(rows, grad, strict=True):
            row.grad = its.clone()
            torch.nn.utils.clip_grad_norm_([row], 1.0)
        wanted = torch.stack([row.grad for row in rows])
    elif kind == "batch":
        expected.grad = grad / 3
        torch.nn.utils.clip_grad_norm_([expected], 1.0)
        wanted = expected.grad
    else:
        wanted = grad
    torch.testing.assert_close(clipped, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["image", "batch"])
def test_a_broken_gradient_stays_with_its_caption(settings, kind):
    grad = torch.ones(2, 3, 4, 4)
    grad[0, 0, 0, 0] = float("nan")
    _Clip(settings(grad_clip=kind), ["broken", "sound"], torch.device("cpu"))(grad)
    assert grad[1].isfinite().all()


def test_smoothness_counts(model, settings, run):
    still = {"probability": 0}
    rough, smooth = (run(model, TASKS, settings(tv_weight=weight, steps=30, affine=still))
                     for weight in (0.0, 10.0))
    spread = [state.images.diff(dim=-1).abs().mean() for state in (rough, smooth)]
    assert spread[1] < 0.5 * spread[0]


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("schedule", [("constant", "run"), ("cosine", "stage"), ("cosine", 3)])
def test_stopped_at_any_step_it_goes_on_to_the_same_bits(
        model, settings, restart, schedule, run, hooks_class):
    chosen = settings(sizes=[8, 12, 16], upsize_at=[2, 5], restart_optimizer=restart,
                      lr_schedule=schedule[0], lr_period=schedule[1])
    whole = run(model, TASKS, chosen)
    for step in range(1, chosen.steps + 1):
        hooks = hooks_class(stop_at=step)
        with pytest.raises(KeyboardInterrupt):
            run(model, TASKS, chosen, hooks=hooks)
        assert hooks.saved.step == step
        resumed = run(model, TASKS, chosen, state=hooks.saved)
        assert torch.equal(resumed.images, whole.images)
        assert resumed.curve_steps == whole.curve_steps
        assert torch.equal(torch.stack(resumed.curve), torch.stack(whole.curve))


def test_restarting_the_optimiser_matters(model, settings, run):
    ladder = settings(sizes=[8, 16], upsize_at=[4])
    kept = replace(ladder, restart_optimizer=False)
    assert not torch.equal(run(model, TASKS, ladder).images, run(model, TASKS, kept).images)


def test_it_saves_now_and_then_and_goes_on(model, settings, run, hooks_class):
    hooks = hooks_class()
    chosen = settings(checkpoint_seconds=1e-9)
    final = run(model, TASKS, chosen, hooks=hooks)
    assert hooks.steps == chosen.steps
    assert hooks.saved.step == chosen.steps
    assert torch.equal(final.images, run(model, TASKS, settings()).images)
