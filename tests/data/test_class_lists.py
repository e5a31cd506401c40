"""Lists of class names: shipped by name, or a text file."""

import pytest

from kt_exp.data.class_lists import class_list
from kt_exp.errors import UserError


def test_imagenet_is_shipped_each_name_once():
    names = class_list("imagenet", "names")
    assert names[0] == "tench"
    assert len(names) == len(set(names)) == 998  # two of the thousand names stand for two classes


def test_a_file_has_a_name_on_each_line(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("tench\n\n great white shark \ntench\n", encoding="utf-8")
    assert class_list(str(path), "names") == ["tench", "great white shark"]


@pytest.mark.parametrize("content", [None, b"\n\n", b"\xff\xfe\x00"])
def test_what_holds_no_names_is_told(tmp_path, content):
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="class name on each line"):
        class_list(str(path), "names")
