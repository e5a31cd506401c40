"""Packed products against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from kt_exp.models.packed import PackedLinear, can_pack


def draw(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("rows", [1, 7, 500])
def test_outputs_and_gradients_are_those_of_a_linear_map(rows):
    weight, bias, found = draw(48, 32), draw(48), []
    assert can_pack(weight)
    for apply in (PackedLinear(weight, bias), lambda x: F.linear(x, weight, bias)):
        inputs = draw(2, rows, 32).requires_grad_()
        outputs = apply(inputs)
        outputs.square().sum().backward()
        found.append((outputs, inputs.grad))
    for packed, plain in zip(*found, strict=True):
        torch.testing.assert_close(packed, plain)


def test_another_number_of_rows_is_packed_for_anew():
    weight, bias = draw(48, 32), draw(48)
    packed = PackedLinear(weight, bias)
    for rows in (5, 64, 5):
        inputs = draw(rows, 32)
        torch.testing.assert_close(packed(inputs), F.linear(inputs, weight, bias))


def test_a_part_of_a_matrix_and_a_transposed_one_are_taken_as_they_are():
    whole, bias, inputs = draw(64, 32), draw(32), draw(5, 32)
    for weight in (whole[32:], whole[:32].T):
        torch.testing.assert_close(PackedLinear(weight, bias)(inputs),
                                   F.linear(inputs, weight, bias))


def test_what_is_not_fp32_on_a_cpu_is_not_packed(monkeypatch):
    assert not can_pack(draw(4, 4).bfloat16())
    assert not can_pack(torch.empty(4, 4, device="meta"))
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert not can_pack(draw(4, 4))
