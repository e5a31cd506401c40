from __future__ import annotations

import errno
import json
import os
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image

from kt_exp.concepts import name_key
from kt_exp.data.image_files import ImageFiles, class_folders, labelled
from kt_exp.errors import UserError


def read(root):
    folders = class_folders(root, "benchmark.known_root")
    return folders, labelled(root, [folder.images() for folder in folders])


def test_class_folders_are_sorted_and_named_after_their_folder(tmp_path, paint):
    for file in ("bird_house/b.jpg", "bird_house/winter/a.PNG", "apple/c.JPEG"):
        paint(tmp_path / file)
    (tmp_path / "apple" / "notes.txt").write_text("not an image")
    folders, images = read(tmp_path)
    assert [folder.name for folder in folders] == ["apple", "bird house"]
    assert [file.name for file in images.files] == ["c.JPEG", "b.jpg", "a.PNG"]
    assert images.labels == [0, 1, 1]


def test_hidden_files_and_folders_are_passed_over(tmp_path, paint):
    for file in ("cat/a.png", "cat/._a.png", "cat/.thumbnails/a.png", ".cache/b.png"):
        paint(tmp_path / file)
    folders, images = read(tmp_path)
    assert [folder.name for folder in folders] == ["cat"]
    assert images.files == [tmp_path / "cat" / "a.png"]


def test_folders_of_a_mac_are_named_as_elsewhere(tmp_path, paint):
    for name in ("Apfel", "Öl", "Zange"):
        paint(tmp_path / unicodedata.normalize("NFD", name) / "a.png")
    (tmp_path / "classnames.json").write_text(json.dumps({"Öl": "Ölbild"}))
    folders = class_folders(tmp_path, "benchmark.known_root")
    assert [folder.name for folder in folders] == ["Apfel", "Zange", "Ölbild"]
    paint(tmp_path / "Öl" / "a.png")
    with pytest.raises(UserError, match="are both the class 'Ölbild'"):
        class_folders(tmp_path, "benchmark.known_root")


def test_limit_takes_the_first_images_in_file_order(tmp_path, paint):
    for name in "cab":
        paint(tmp_path / "cat" / f"{name}.png")
    (cat,) = class_folders(tmp_path, "benchmark.known_root")
    assert [file.name for file in cat.images(limit=2)] == ["a.png", "b.png"]
    assert len(cat.images(limit=0)) == 3


def test_classnames_json_renames(tmp_path, paint):
    paint(tmp_path / "n02085620" / "a.png")
    (tmp_path / "classnames.json").write_text(json.dumps({"n02085620": "Chihuahua"}))
    assert [f.name for f in class_folders(tmp_path, "benchmark.known_root")] == ["Chihuahua"]


@pytest.mark.parametrize(("content", "message"), [
    ('{"dog": "hound"}', "names folders that are not there: dog; there are: bird_house, cat"),
    ('{"cat": "bird house"}', "'bird_house' and 'cat' are both the class 'bird house'"),
    ('{"cat": ""}', "not a map of folders to names"),
    ('["cat"]', "not a map of folders to names"),
    ("{cat", "invalid JSON"),
])
def test_a_wrong_classnames_json_is_refused(tmp_path, content, message, paint):
    paint(tmp_path / "cat" / "a.png")
    paint(tmp_path / "bird_house" / "a.png")
    (tmp_path / "classnames.json").write_text(content)
    with pytest.raises(UserError, match=message):
        class_folders(tmp_path, "benchmark.known_root")


def test_one_class_in_two_folders_is_refused(tmp_path, paint):
    paint(tmp_path / "Bird House" / "a.png")
    paint(tmp_path / "bird_house" / "a.png")
    with pytest.raises(UserError, match="'Bird House' and 'bird_house' are both the class"):
        class_folders(tmp_path, "benchmark.known_root")


def test_missing_and_empty_roots_name_the_key(tmp_path):
    with pytest.raises(UserError, match=r"^benchmark.known_root: no such folder: .*/nowhere"):
        class_folders(tmp_path / "nowhere", "benchmark.known_root")
    with pytest.raises(UserError, match=r"^benchmark.known_root: no sub-folder in .* \(found: "
                                        r"nothing\); put each class into its own"):
        class_folders(tmp_path, "benchmark.known_root")


def test_what_is_found_in_another_layout_is_told_in_short(tmp_path, paint):
    for name in "abcdef":
        paint(tmp_path / f"{name}.png")
    paint(tmp_path / ".hidden.png")
    with pytest.raises(UserError, match=r"\(found: a.png, b.png, c.png, d.png … \(6 in all\)\);"):
        class_folders(tmp_path, "benchmark.known_root")


def test_every_mode_opens_as_rgb(tmp_path):
    for mode in ("L", "RGBA", "P", "CMYK", "1"):
        path = tmp_path / f"{mode}.tiff"
        Image.new(mode, (5, 3)).save(path)
        image = ImageFiles(tmp_path, [path], [0]).open(0)
        assert (image.mode, image.size) == ("RGB", (5, 3))


def test_the_smallest_image_opens(tmp_path):
    path = tmp_path / "dot.png"
    Image.new("L", (1, 1)).save(path)
    assert ImageFiles(tmp_path, [path], [0]).open(0).size == (1, 1)


@pytest.mark.parametrize("kind", ["dot.png", "dot.tiff", "dot.pgm"])
def test_grey_of_16_bits_is_scaled(tmp_path, kind):
    grey = np.array([[0, 128 * 257, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / kind)
    image = ImageFiles(tmp_path, [tmp_path / kind], [0]).open(0)
    assert np.asarray(image).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]


@pytest.mark.parametrize("grey", [np.array([[0.0, 0.5]], np.float32),
                                  np.array([[0, 70000]], np.int32)])
def test_grey_without_a_known_white_is_refused(tmp_path, grey):
    Image.fromarray(grey).save(tmp_path / "grey.tiff")
    with pytest.raises(UserError, match="32-bit grey"):
        ImageFiles(tmp_path, [tmp_path / "grey.tiff"], [0]).open(0)


def test_jpeg_2000_opens(tmp_path, paint):
    Image.new("RGB", (8, 8), "red").save(paint(tmp_path / "cat" / "a.jp2"), "JPEG2000")
    _, images = read(tmp_path)
    assert images.open(0).getpixel((0, 0)) == (255, 0, 0)


def test_heic_opens(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "cat" / "a.HEIC"
    path.parent.mkdir()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), "red")).save(path)
    _, images = read(tmp_path)
    assert images.open(0).size == (64, 64)


def test_heic_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.heic").touch()
    _, images = read(tmp_path)
    with pytest.raises(UserError, match=r"a\.heic: the package pillow-heif is not installed; "
                                        r"pip install 'kt_exp\[heic\]'"):
        images.open(0)


@pytest.mark.parametrize("name", ["a.svg", "a.NEF", "a.dcm"])
def test_an_image_of_a_format_that_is_not_read_is_not_passed_over(tmp_path, paint, name):
    paint(tmp_path / "cat" / "b.png")
    (tmp_path / "cat" / name).touch()
    _, images = read(tmp_path)
    with pytest.raises(UserError, match=f"{name}: images of the format .* are not read"):
        images.open(0)


@pytest.fixture
def bad_files(tmp_path, paint, truncated):
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    broken = paint(tmp_path / "broken.png")
    broken.write_bytes(broken.read_bytes()[:40])
    return [text, empty, broken, truncated(tmp_path / "cut.jpg"), tmp_path / "absent.png"]


def test_unreadable_images_are_refused_with_their_path(tmp_path, bad_files):
    images = ImageFiles(tmp_path, bad_files, [0] * len(bad_files))
    for index, file in enumerate(bad_files):
        with pytest.raises(UserError, match="not a readable image") as caught:
            images.open(index)
        assert caught.value.where == str(file)
        assert "\n" not in str(caught.value)


def test_a_jpeg_is_read_to_its_end(tmp_path, truncated):
    path = truncated(tmp_path / "cut.jpg")
    with Image.open(path) as header:
        assert header.size == (64, 64)
    with pytest.raises(UserError, match="truncated"):
        ImageFiles(tmp_path, [path], [0]).open(0)


def test_fingerprint_follows_names_labels_and_content(tmp_path, paint):
    first, second = paint(tmp_path / "a.png"), paint(tmp_path / "b.png")
    original = ImageFiles(tmp_path, [first, second], [0, 1]).fingerprint()
    assert ImageFiles(tmp_path, [first, second], [0, 1]).fingerprint() == original
    assert ImageFiles(tmp_path, [second, first], [0, 1]).fingerprint() != original
    assert ImageFiles(tmp_path, [first, second], [1, 0]).fingerprint() != original
    os.utime(second, ns=(1, 1))
    assert ImageFiles(tmp_path, [first, second], [0, 1]).fingerprint() != original


def test_fingerprint_survives_moving_the_folder(tmp_path, paint):
    paint(tmp_path / "old" / "a.png")
    before = ImageFiles(tmp_path / "old", [tmp_path / "old" / "a.png"], [0]).fingerprint()
    (tmp_path / "old").rename(tmp_path / "new")
    after = ImageFiles(tmp_path / "new", [tmp_path / "new" / "a.png"], [0]).fingerprint()
    assert after == before


def test_name_key_ignores_case_and_separators():
    spellings = ("moon gate", "Moon_Gate", "moongate", "moon-gate")
    assert {name_key(name) for name in spellings} == {"moongate"}
    assert name_key("moongates") != "moongate"


def test_a_sub_folder_that_cannot_be_read_is_named(tmp_path, paint, monkeypatch):
    for file in ("cat/a.png", "cat/more/b.png"):
        paint(tmp_path / file)
    (cat,) = class_folders(tmp_path, "benchmark.known_root")
    scandir = os.scandir

    def refused(path):
        if os.fspath(path).endswith("more"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=rf"^{tmp_path}/cat/more: cannot be read \(Permission den"):
        cat.images()


@pytest.mark.parametrize("function", ["iterdir", "is_dir"])
def test_a_root_that_cannot_be_read_is_named(tmp_path, monkeypatch, function):
    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), function, refused)
    with pytest.raises(UserError, match=rf"^{tmp_path}: cannot be read \(Permission denied\)"):
        class_folders(tmp_path, "benchmark.known_root")


def named_in_latin_1(folder, name):
    """The path of a file or folder whose name is not UTF-8."""
    return type(folder)(os.fsdecode(os.fsencode(folder) + b"/" + name.encode("latin-1")))


def test_a_file_whose_name_is_not_utf_8_is_an_image_as_any_other(tmp_path, paint):
    paint(named_in_latin_1(tmp_path / "cat", "kätzchen.png"))
    _, images = read(tmp_path)
    assert images.open(0).size
    assert len(images.fingerprint()) == 64


def test_a_class_whose_name_is_not_utf_8_is_refused(tmp_path, paint):
    paint(named_in_latin_1(tmp_path, "kätzchen") / "a.png")
    with pytest.raises(UserError, match=r"^benchmark.known_root: the name of the folder "
                                        r"'k\\xe4tzchen' in .* is not UTF-8; rename it"):
        class_folders(tmp_path, "benchmark.known_root")
