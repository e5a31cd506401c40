"""The levers of `inversion.speed`: which change nothing but the time, and what the others do."""

from functools import partial

import pytest
import torch

from kt_exp.config.checks import check
from kt_exp.errors import UserError
from kt_exp.inversion.image_scorer import check_image_scorer, make_image_scorer
from kt_exp.inversion.invert import Task

TASKS = [Task("a tower with a roof", 0), Task("a tower with a roof", 1), Task("a round dish", 0)]
CAPTIONS = [task.caption for task in TASKS]
LADDER = {"sizes": [8, 12, 16], "upsize_at": [2, 5]}
LEVERS = [{"tower": "lean"}, {"tower": "lean", "bf16": True},
          {"tower": "lean", "native_size": True}, {"tower": "lean", "patch_dropout": 0.5},
          {"tower": "lean", "native_size": True, "patch_dropout": 0.5}]


def streams(count=3):
    return [torch.Generator().manual_seed(i) for i in range(count)]


@pytest.fixture
def seen_patches(model, monkeypatch):
    """The numbers of tokens that the tower's layers get, class token included."""
    tower, seen = model.patch_tower(), []
    embed = tower._embed

    def noting(images, kept):
        tokens = embed(images, kept)
        seen.append(len(tokens))
        return tokens

    monkeypatch.setattr(tower, "_embed", noting)
    monkeypatch.setattr(model, "patch_tower", lambda **_: tower)
    return seen


@pytest.mark.parametrize("distance", ["cosine", "l2", "l2_unnormalized"])
def test_the_lean_tower_scores_as_the_model_does(model, settings, distance):
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    whole, lean = (
        make_image_scorer(model, CAPTIONS, settings(distance=distance, speed=speed),
                          streams())(images, 0)
        for speed in ({"tower": "model"}, {"tower": "lean"}))
    torch.testing.assert_close(whole, lean, rtol=1e-4, atol=1e-5)


def bf16_products(monkeypatch, there):
    """Make the CPU one that has products in bf16, or none; torch imitates those it lacks."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": there},
                        raising=False)


def test_in_bf16_it_scores_nearly_the_same(model, settings, monkeypatch):
    bf16_products(monkeypatch, True)
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    full, half = (make_image_scorer(model, CAPTIONS, settings(speed={"tower": "lean", "bf16": on}),
                            streams())(images, 0) for on in (False, True))
    torch.testing.assert_close(full, half, rtol=0, atol=0.02)
    assert not torch.equal(full, half)


def test_bf16_is_off_where_the_cpu_has_none_and_the_log_says_so(
        model, settings, monkeypatch, caplog):
    bf16_products(monkeypatch, False)
    images = torch.rand(3, 3, 16, 16)
    with caplog.at_level("INFO"):
        check_image_scorer(model, settings(speed={"tower": "lean", "bf16": True}))
        full, half = (
            make_image_scorer(model, CAPTIONS, settings(speed={"tower": "lean", "bf16": on}),
                              streams())(images, 0) for on in (False, True))
    assert torch.equal(full, half)
    assert caplog.text.count("no products in bf16") == 1


def test_the_lean_tower_leads_to_the_same_images(model, settings, run):
    whole, lean = (run(model, TASKS, settings(lr=0.01, speed={"tower": tower}, **LADDER)).images
                   for tower in ("model", "lean"))
    torch.testing.assert_close(whole, lean, rtol=1e-3, atol=1e-3)


def test_a_small_image_is_seen_as_small(model, settings, seen_patches, run):
    run(model, TASKS, settings(speed={"tower": "lean", "native_size": True}, **LADDER))
    assert seen_patches == [1 + 2**2] * 2 + [1 + 3**2] * 3 + [1 + 4**2] * 3


def test_a_share_of_the_patches_is_not_looked_at(model, settings, seen_patches, run):
    run(model, TASKS, settings(speed={"tower": "lean", "patch_dropout": 0.75}))
    assert seen_patches == [1 + 4] * 8


def test_pixels_of_patches_not_looked_at_get_no_gradient_and_the_patches_change(model, settings):
    scorer = make_image_scorer(
        model, CAPTIONS, settings(speed={"tower": "lean", "patch_dropout": 0.75}), streams())
    touched = []
    for step in range(2):
        images = torch.rand(3, 3, 16, 16, requires_grad=True)
        scorer(images, step).sum().backward()
        patches = images.grad.abs().sum(dim=1).unfold(1, 4, 4).unfold(2, 4, 4).sum(dim=(-1, -2))
        touched.append(patches.flatten(1) > 0)
    assert [seen.sum(dim=1).tolist() for seen in touched] == [[4, 4, 4]] * 2
    assert not torch.equal(*touched)


@pytest.mark.parametrize("tower", ["model", "lean"])
def test_compiled_it_scores_the_same(model, settings, tower, monkeypatch):
    # The compiler proper takes minutes; that the lean tower can be captured whole is seen without.
    whole = tower == "lean"
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=whole))
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    plain, compiled = (
        make_image_scorer(model, CAPTIONS, settings(speed={"tower": tower, "compile": on}),
                          streams())(images, 0) for on in (False, True))
    torch.testing.assert_close(plain, compiled)


@pytest.mark.parametrize("speed", LEVERS)
def test_an_image_does_not_depend_on_the_company_it_keeps(model, settings, speed, run):
    chosen = settings(lr=0.01, speed=speed, **LADDER)
    together = run(model, TASKS, chosen).images
    for i, task in enumerate(TASKS):
        alone = run(model, [task], chosen).images[0]
        torch.testing.assert_close(together[i], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("speed", LEVERS)
def test_stopped_at_any_step_it_goes_on_to_the_same_bits(model, settings, speed, run, hooks_class):
    chosen = settings(speed=speed, **LADDER)
    whole = run(model, TASKS, chosen).images
    for step in range(1, chosen.steps + 1):
        hooks = hooks_class(stop_at=step)
        with pytest.raises(KeyboardInterrupt):
            run(model, TASKS, chosen, hooks=hooks)
        assert torch.equal(run(model, TASKS, chosen, state=hooks.saved).images, whole)


@pytest.mark.parametrize("key", ["bf16", "native_size", "patch_dropout"])
def test_what_the_models_own_tower_cannot_do_is_refused(settings, key):
    with pytest.raises(UserError, match=f"{key}.*tower=lean"):
        check(settings(speed={key: 0.5 if key == "patch_dropout" else True}), "inversion")


def test_a_model_that_is_no_plain_vit_keeps_its_tower_but_refuses_what_would_change_images(
        model, settings):
    class Other:
        image_size, device = model.image_size, model.device
        scorer = model.scorer

    images = torch.rand(3, 3, 16, 16)
    lean = settings(speed={"tower": "lean"})
    scores = make_image_scorer(Other(), CAPTIONS, lean, streams())(images, 0)
    assert torch.equal(scores, model.scorer(CAPTIONS)(images))
    check_image_scorer(Other(), lean)
    with pytest.raises(UserError, match="native_size"):
        check_image_scorer(Other(), settings(speed={"tower": "lean", "native_size": True}))


def test_it_saves_no_more_often_than_saving_is_worth(
        model, settings, monkeypatch, run, hooks_class):
    clock = [0.0]
    monkeypatch.setattr("kt_exp.inversion.invert.time.monotonic", lambda: clock[0])

    class Slow(hooks_class):
        saves = 0

        def advance(self, score):
            super().advance(score)
            clock[0] += 1

        def save(self, state):
            clock[0] += 0.5
            Slow.saves += 1

    run(model, TASKS, settings(steps=100, checkpoint_seconds=2), hooks=Slow())
    assert Slow.saves == 1 + (100 - 3) // 11
