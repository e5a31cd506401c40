"""The edit gives names their descriptions' scores and changes known classes least."""

import pytest
import torch
import torch.nn.functional as F

from kt_exp.errors import UserError
from kt_exp.finetune.closed_form import (
    ProjectionEdit,
    edit_directions,
    extended,
    known_metric,
    mean_direction,
    projection_edit,
)

D, RIDGE = 24, 0.01


def unit_rows(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, D, generator=generator, dtype=torch.float64), dim=-1)


KNOWN, NAMES, DESCRIPTIONS = unit_rows(60, 1), unit_rows(3, 2), unit_rows(3, 3)
# Un-normalised; the first ten show the first concept.
IMAGES = 10 * (unit_rows(40, 4) + (torch.arange(40) < 10)[:, None] * DESCRIPTIONS[0])
METRIC = known_metric(KNOWN, RIDGE)


@pytest.mark.parametrize("strength", [1.0, 1.3])
def test_a_name_gets_its_description_s_score_times_the_strength(strength):
    edit = projection_edit(NAMES[:1], DESCRIPTIONS[:1], METRIC, strength)
    torch.testing.assert_close(edit.apply(IMAGES) @ NAMES[0],
                               strength * IMAGES @ DESCRIPTIONS[0])


def test_at_strength_1_the_name_wins_where_the_description_would_against_the_same_rivals():
    edited = projection_edit(NAMES[:1], DESCRIPTIONS[:1], METRIC).apply(IMAGES)
    rivals = F.normalize(edited, dim=-1) @ KNOWN.T
    by_name = F.normalize(edited, dim=-1) @ NAMES[0] > rivals.amax(dim=1)
    by_description = IMAGES @ DESCRIPTIONS[0] > (edited @ KNOWN.T).amax(dim=1)
    assert by_name[:10].any()
    assert not by_name[10:].all()
    assert torch.equal(by_name, by_description)


def test_taught_together_each_name_answers_to_its_own_description_alone():
    edit = projection_edit(NAMES, DESCRIPTIONS, METRIC, torch.tensor([1.0, 1.2, 0.8]))
    expected = IMAGES @ DESCRIPTIONS.T * torch.tensor([1.0, 1.2, 0.8], dtype=torch.float64)
    torch.testing.assert_close(edit.apply(IMAGES) @ NAMES.T, expected)
    torch.testing.assert_close(NAMES @ edit.directions, torch.eye(3, dtype=torch.float64))


def test_the_order_of_the_names_does_not_matter():
    order = torch.tensor([2, 0, 1])
    one = projection_edit(NAMES, DESCRIPTIONS, METRIC, 1.3)
    other = projection_edit(NAMES[order], DESCRIPTIONS[order], METRIC, 1.3)
    torch.testing.assert_close(one.apply(IMAGES), other.apply(IMAGES))


def test_no_other_direction_changes_the_known_scores_less():
    chosen = edit_directions(NAMES[:1], METRIC)[:, 0]
    others = chosen + unit_rows(1000, 5)
    others /= (others @ NAMES[0])[:, None]  # ⟨v, t_n⟩ = 1, as for the chosen one
    change = torch.einsum("nd,de,ne->n", others, METRIC, others)
    assert chosen @ METRIC @ chosen < change.min()


def test_known_scores_change_less_than_along_the_name_itself():
    directions = edit_directions(NAMES, METRIC)
    plain = edit_directions(NAMES, torch.eye(D, dtype=torch.float64))
    assert (KNOWN @ directions).square().mean() < 0.8 * (KNOWN @ plain).square().mean()


def test_with_fewer_known_classes_than_dimensions_their_scores_stay():
    known = KNOWN[:10]
    edit = projection_edit(NAMES, DESCRIPTIONS, known_metric(known, 1e-9))
    torch.testing.assert_close(edit.apply(IMAGES) @ known.T, IMAGES @ known.T,
                               atol=1e-4, rtol=0)


def test_without_known_classes_a_name_moves_along_its_own_embedding():
    metric = known_metric(torch.empty(0, D), RIDGE)
    torch.testing.assert_close(edit_directions(NAMES[:1], metric)[:, 0], NAMES[0])


def test_names_taught_later_score_as_if_all_had_been_taught_together():
    first = projection_edit(NAMES[:2], DESCRIPTIONS[:2], METRIC, 1.2)
    both = extended(first, NAMES[:2], NAMES[2:], DESCRIPTIONS[2:], METRIC, 1.2)
    torch.testing.assert_close(both.apply(IMAGES) @ NAMES.T, 1.2 * IMAGES @ DESCRIPTIONS.T)


def test_protected_texts_keep_their_scores():
    edit = projection_edit(NAMES[2:], DESCRIPTIONS[2:], METRIC, protected=NAMES[:2])
    torch.testing.assert_close(edit.apply(IMAGES) @ NAMES[:2].T, IMAGES @ NAMES[:2].T)


def test_the_scores_of_texts_like_the_name_change_less_where_such_texts_count():
    alike = F.normalize(0.3 * unit_rows(100, 7) + NAMES[0] + unit_rows(1, 8), dim=-1)
    plain = edit_directions(NAMES[:1], known_metric(KNOWN[:10], RIDGE))
    aware = edit_directions(NAMES[:1], known_metric(KNOWN[:10], RIDGE, alike[:50], 0.1))
    assert (alike[50:] @ aware).square().mean() < 0.2 * (alike[50:] @ plain).square().mean()


def test_scaled_images_stay_scaled():
    edit = projection_edit(NAMES, DESCRIPTIONS, METRIC)
    torch.testing.assert_close(edit.apply(3 * IMAGES), 3 * edit.apply(IMAGES))


def test_an_edit_of_no_strength_takes_the_name_s_own_score_away():
    edit = projection_edit(NAMES[:1], DESCRIPTIONS[:1], METRIC, 0.0)
    assert isinstance(edit, ProjectionEdit)
    torch.testing.assert_close(edit.apply(IMAGES) @ NAMES[0],
                               torch.zeros(40, dtype=torch.float64))


def test_prompts_are_joined_as_in_an_ensemble():
    joined = mean_direction(KNOWN[:3].float())
    torch.testing.assert_close(joined, F.normalize(KNOWN[:3].float().double().mean(dim=0), dim=-1))


def test_names_that_read_alike_are_refused():
    alike = torch.cat([NAMES, NAMES[:1]])
    with pytest.raises(UserError, match="cannot tell the names apart"):
        edit_directions(alike, METRIC)


def test_more_names_than_dimensions_are_refused():
    with pytest.raises(UserError, match="25 names are more than the 24 dimensions"):
        edit_directions(unit_rows(25, 6), METRIC)

