"""What may be shown, and which errors are those of memory."""

import errno

import pytest
import torch

from kt_exp.errors import UserError, did_you_mean, is_out_of_memory, printable


@pytest.mark.parametrize(("text", "shown"), [
    ("Röntgen 写真 👩‍🔬", "Röntgen 写真 👩‍🔬"),
    ("two\nlines", "two\nlines"),
    ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
    ("a\rb", r"a\rb"),
    ("\x9b31m", r"\x9b31m"),
    ("gpj.\u202egood", r"gpj.\u202egood"),
    ("k\udce4tzchen", r"k\udce4tzchen"),
])
def test_control_characters_are_shown_as_escapes(text, shown):
    assert printable(text) == shown


def test_a_long_list_begins_with_the_words_that_are_most_alike():
    known = [f"option_{letter}" for letter in "abcdefghijklmnop"] + ["steps", "stages"]
    assert did_you_mean("sxxxps", known, most=2) == "did you mean 'steps'?"
    assert did_you_mean("xtxxxs", known, most=2).startswith("known: steps, ")


def test_an_error_is_one_line_without_control_characters():
    assert str(UserError("a\x1b", "b\nc", "d")) == r"a\x1b: b c; d"


def test_errors_of_memory_are_known_whoever_raises_them():
    for error in (MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory"),
                  torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")):
        assert is_out_of_memory(error)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    wrapped = ValueError("cannot be loaded")
    wrapped.__cause__ = MemoryError()
    assert is_out_of_memory(wrapped)
