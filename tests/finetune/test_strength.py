"""The strength of an edit is as large as the budget of forgetting allows, and no larger."""

import pytest
import torch
import torch.nn.functional as F

from kt_exp.finetune.closed_form import known_metric, projection_edit
from kt_exp.finetune.strength import KnownItems, strengths_within_budget

D, MOST = 24, 4.0


def unit_rows(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, D, generator=generator, dtype=torch.float64), dim=-1)


CLASSES, NAMES = unit_rows(10, 1), unit_rows(3, 2)
# Each description resembles a known class, which a strong edit then takes images from.
DESCRIPTIONS = F.normalize(unit_rows(3, 3) + CLASSES[:3], dim=-1)
METRIC = known_metric(CLASSES, 0.01)
LABELS = torch.arange(200) % 10
# Noisy images of the classes: most are classified right, some only just.
ITEMS = KnownItems(5 * (CLASSES[LABELS] + 0.8 * unit_rows(200, 4)), LABELS, CLASSES)


def allowed(budget, items=ITEMS, metric=METRIC):
    """The strength of the first name."""
    return float(strengths_within_budget(items, NAMES[:1], DESCRIPTIONS[:1], metric, budget, MOST))


def kept(names, targets, strength, items=ITEMS):
    """How many items are classified right after the edit."""
    edit = projection_edit(names, targets, METRIC, strength)
    scores = edit.apply(items.embeddings) @ torch.cat([items.classes, names]).T
    return int((scores.argmax(dim=1) == items.labels).sum())


def right_before(names):
    scores = ITEMS.embeddings @ torch.cat([CLASSES, names]).T
    return int((scores.argmax(dim=1) == LABELS).sum())


@pytest.mark.parametrize("budget", [0.01, 0.05, 0.08])
def test_a_little_more_strength_would_break_the_budget(budget):
    strength = allowed(budget)
    needed = right_before(NAMES[:1]) - budget * 200
    assert 0 < strength < MOST
    assert kept(NAMES[:1], DESCRIPTIONS[:1], strength) >= needed
    assert kept(NAMES[:1], DESCRIPTIONS[:1], strength + 1e-6) < needed


def test_a_search_over_a_grid_finds_the_same_strength():
    grid = torch.arange(0, MOST, 0.01).tolist()
    fit = [strength for strength in grid if kept(NAMES[:1], DESCRIPTIONS[:1], strength)
           >= right_before(NAMES[:1]) - 10]
    assert 0 <= allowed(0.05) - max(fit) < 0.01


def test_a_larger_budget_allows_more():
    strengths = [allowed(budget) for budget in (0.0, 0.02, 0.1, 1.0)]
    assert strengths == sorted(strengths)
    assert strengths[-1] == MOST


def test_where_no_strength_keeps_the_budget_the_least_harmful_is_returned():
    # Without a thought for the known classes, and with a name that resembles one of them.
    name, identity = F.normalize(NAMES[:1] + 2 * CLASSES[:1], dim=-1), torch.eye(D).double()
    strength = strengths_within_budget(ITEMS, name, DESCRIPTIONS[1:2], identity, 0.0, MOST)
    edits = [projection_edit(name, DESCRIPTIONS[1:2], identity, w)
             for w in (float(strength), *torch.arange(0.1, MOST, 0.1).tolist())]
    right = [int(((edit.apply(ITEMS.embeddings) @ torch.cat([CLASSES, name]).T).argmax(dim=1)
                  == LABELS).sum()) for edit in edits]
    assert right_before(name) > right[0] == max(right)


def test_texts_stand_in_for_images_where_there_are_none():
    texts = KnownItems.from_texts(CLASSES)
    strength = allowed(0.0, texts)
    assert kept(NAMES[:1], DESCRIPTIONS[:1], strength, texts) == 10
    assert kept(NAMES[:1], DESCRIPTIONS[:1], strength + 1e-6, texts) == 9
    assert strength > allowed(0.0)


def test_each_name_has_a_strength_of_its_own_and_all_together_keep_the_budget():
    strengths = strengths_within_budget(ITEMS, NAMES, DESCRIPTIONS, METRIC, 0.1, MOST)
    assert len(set(strengths.tolist())) == 3
    assert strengths.min() >= 1
    assert kept(NAMES, DESCRIPTIONS, strengths) >= right_before(NAMES) - 20


def test_names_that_cost_too_much_together_are_taught_less_strongly():
    strengths = strengths_within_budget(ITEMS, NAMES, DESCRIPTIONS, METRIC, 0.005, MOST)
    assert kept(NAMES, DESCRIPTIONS, 1.0) < right_before(NAMES) - 1
    assert len(set(strengths.tolist())) == 1
    assert strengths.max() < 1
    assert kept(NAMES, DESCRIPTIONS, strengths) > kept(NAMES, DESCRIPTIONS, 1.0)


def test_the_order_of_the_names_does_not_matter():
    order = torch.tensor([2, 0, 1])
    strengths = strengths_within_budget(ITEMS, NAMES, DESCRIPTIONS, METRIC, 0.1, MOST)
    other = strengths_within_budget(ITEMS, NAMES[order], DESCRIPTIONS[order], METRIC, 0.1, MOST)
    torch.testing.assert_close(strengths[order], other)
