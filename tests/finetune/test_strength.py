"""The strength of an edit is as large as the budget of forgetting allows, and no larger."""

import pytest
import torch
import torch.nn.functional as F

from kt_exp.finetune.closed_form import edit_directions, known_metric, projection_edit
from kt_exp.finetune.strength import KnownItems, largest_strength, strengths_within_budget

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
    name, target = NAMES[:1], DESCRIPTIONS[:1]
    strength = largest_strength(ITEMS, name, target, edit_directions(name, METRIC), budget, MOST)
    needed = right_before(name) - budget * 200
    assert 0 < strength < MOST
    assert kept(name, target, strength) >= needed
    assert kept(name, target, strength + 1e-6) < needed


def test_a_search_over_a_grid_finds_the_same_strength():
    name, target = NAMES[:1], DESCRIPTIONS[:1]
    strength = largest_strength(ITEMS, name, target, edit_directions(name, METRIC), 0.05, MOST)
    grid = torch.arange(0, MOST, 0.01)
    fit = [w for w in grid.tolist() if kept(name, target, w) >= right_before(name) - 10]
    assert 0 <= strength - max(fit) < 0.01


def test_a_larger_budget_allows_more():
    name, target = NAMES[:1], DESCRIPTIONS[:1]
    directions = edit_directions(name, METRIC)
    allowed = [largest_strength(ITEMS, name, target, directions, budget, MOST)
               for budget in (0.0, 0.02, 0.1, 1.0)]
    assert allowed == sorted(allowed)
    assert allowed[-1] == MOST


def test_where_no_strength_keeps_the_budget_the_least_harmful_is_returned():
    # The target is a known class's own embedding, and its direction hurts whatever the strength.
    name, target = CLASSES[:1] + 0.01 * NAMES[:1], CLASSES[1:2]
    directions = edit_directions(name, torch.eye(D, dtype=torch.float64))
    strength = largest_strength(ITEMS, name, target, directions, 0.0, MOST)
    assert 0 < strength <= MOST


def test_texts_stand_in_for_images_where_there_are_none():
    texts = KnownItems.from_texts(CLASSES)
    name, target = NAMES[:1], DESCRIPTIONS[:1]
    strength = largest_strength(texts, name, target, edit_directions(name, METRIC), 0.0, MOST)
    assert kept(name, target, strength, texts) == 10
    assert kept(name, target, strength + 1e-6, texts) == 9


def test_each_name_has_a_strength_of_its_own_and_all_together_keep_the_budget():
    directions = edit_directions(NAMES, METRIC)
    strengths = strengths_within_budget(ITEMS, NAMES, DESCRIPTIONS, directions, 0.1, MOST)
    assert len(set(strengths.tolist())) == 3
    assert kept(NAMES, DESCRIPTIONS, strengths) >= right_before(NAMES) - 20


def test_the_order_of_the_names_does_not_matter():
    order = torch.tensor([2, 0, 1])
    strengths = strengths_within_budget(ITEMS, NAMES, DESCRIPTIONS,
                                        edit_directions(NAMES, METRIC), 0.1, MOST)
    other = strengths_within_budget(ITEMS, NAMES[order], DESCRIPTIONS[order],
                                    edit_directions(NAMES[order], METRIC), 0.1, MOST)
    torch.testing.assert_close(strengths[order], other)
