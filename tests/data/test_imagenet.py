from __future__ import annotations

import pytest

from kt_exp.data import imagenet
from kt_exp.data.image_files import first_per_class
from kt_exp.errors import UserError

IDS = ["n01440764", "n01443537", "n01484850"]
HEADER = "file,class_index,wnid,name,license"


@pytest.fixture
def labels_csv(tmp_path, paint):
    """Writes a labels CSV and the images that it names."""

    def write(*rows, header=HEADER):
        for name in "abc":
            paint(tmp_path / "images" / f"{name}.jpg")
        path = tmp_path / "labels.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


def test_wnids_and_names_are_in_the_usual_order():
    ids, names = imagenet.wnids(), imagenet.class_names()
    assert len(ids) == len(set(ids)) == len(names) == 1000
    for wnid, name in (("n01440764", "tench"), ("n02172182", "dung beetle"),
                       ("n04522168", "vase"), ("n15075141", "toilet paper")):
        assert names[ids.index(wnid)] == name


def test_the_names_of_wordnet_are_those_in_the_paper_s_figures():
    ids, names = imagenet.wnids(), imagenet.wordnet_names()
    assert len(names) == 1000
    assert names[ids.index("n03297495")] == "espresso maker"
    assert names[ids.index("n04311004")] == "steel arch bridge"
    assert names[ids.index("n01484850")] == "great white shark"
    assert imagenet.class_names()[ids.index("n03297495")] == "espresso machine"


def test_names_from_a_file_are_a_line_each(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\n".join(f"class {i}" for i in range(1000)) + "\n")
    assert imagenet.names_from(path, "benchmark.names_file")[999] == "class 999"
    path.write_text("tench\n\ngoldfish\n")
    with pytest.raises(UserError, match="has 2 names in 3 lines; give 1000 lines"):
        imagenet.names_from(path, "benchmark.names_file")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not text"):
        imagenet.names_from(path, "benchmark.names_file")
    with pytest.raises(UserError, match=r"benchmark\.names_file: no such file"):
        imagenet.names_from(tmp_path / "none.txt", "benchmark.names_file")


def test_templates_leave_a_place_for_the_name():
    assert imagenet.templates("name") == ["{}"]
    assert imagenet.templates("photo") == ["a photo of a {}."]
    assert len(imagenet.templates("openai")) == 80
    assert len(imagenet.templates("simple")) == 7
    assert imagenet.templates("openai")[0] == "a bad photo of a {}."


def test_a_labels_csv_is_read_in_its_order(labels_csv, tmp_path):
    path = labels_csv(
        'images/b.jpg,2,n01484850,"great white shark, white shark",CC BY',
        "images/a.jpg,0,n01440764,tench,CC BY",
    )
    images = imagenet.read_labels_csv(path, IDS, "benchmark.labels_csv")
    assert images.files == [tmp_path / "images" / "b.jpg", tmp_path / "images" / "a.jpg"]
    assert images.labels == [2, 0]
    assert images.open(0).size == (8, 8)


@pytest.mark.parametrize(("header", "row"), [
    ("file,class_index", "images/a.jpg,1"),
    ("wnid,file", "n01443537,images/a.jpg"),
    ("file,class_index,wnid", "images/a.jpg,,n01443537"),
])
def test_index_or_wnid_is_enough(labels_csv, header, row):
    path = labels_csv(row, header=header)
    assert imagenet.read_labels_csv(path, IDS, "benchmark.labels_csv").labels == [1]


@pytest.mark.parametrize(("row", "message"), [
    ("images/z.jpg,0,n01440764,,", r"labels.csv line 3: no such file: .*images/z.jpg"),
    ("images/b.jpg,3,,,", "class_index '3' is not a class; give 0 to 2"),
    ("images/b.jpg,-1,,,", "class_index '-1' is not a class"),
    ("images/b.jpg,1.0,,,", "class_index '1.0' is not a class"),
    ("images/b.jpg,,n99999999,,", "unknown wnid 'n99999999'"),
    ("images/b.jpg,2,n01440764,,", r"class_index 2 is not n01440764 \(0\)"),
    ("images/b.jpg,,,,", "neither wnid nor class_index"),
    (",0,,,", "no such file"),
])
def test_a_bad_row_is_refused_with_its_line(labels_csv, row, message):
    path = labels_csv("images/a.jpg,0,n01440764,tench,CC BY", row)
    with pytest.raises(UserError, match=message) as caught:
        imagenet.read_labels_csv(path, IDS, "benchmark.labels_csv")
    assert caught.value.where == f"{path} line 3"


def test_a_csv_without_what_it_needs_is_refused(labels_csv, tmp_path):
    with pytest.raises(UserError, match=r"labels.csv: its columns are: path, class_index"):
        imagenet.read_labels_csv(labels_csv("a,0", header="path,class_index"), IDS, "key")
    with pytest.raises(UserError, match="its columns are: file, label"):
        imagenet.read_labels_csv(labels_csv("a,0", header="file,label"), IDS, "key")
    with pytest.raises(UserError, match="lists no images"):
        imagenet.read_labels_csv(labels_csv(), IDS, "key")
    with pytest.raises(UserError, match=r"^key: no such file"):
        imagenet.read_labels_csv(tmp_path / "absent.csv", IDS, "key")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="not a CSV file"):
        imagenet.read_labels_csv(binary, IDS, "key")


def test_val_folders_become_labels(tmp_path, paint):
    paint(tmp_path / "val" / "n01484850" / "x.JPEG")
    paint(tmp_path / "val" / "n01440764" / "y.JPEG")
    images = imagenet.read_val(tmp_path, IDS, "benchmark.imagenet_root")
    assert [file.name for file in images.files] == ["y.JPEG", "x.JPEG"]
    assert images.labels == [0, 2]


def test_a_wrong_val_folder_is_refused(tmp_path, paint):
    with pytest.raises(UserError, match=r"^key: no such folder: .*nowhere"):
        imagenet.read_val(tmp_path / "nowhere", IDS, "key")
    (tmp_path / "n01440764").mkdir()
    with pytest.raises(UserError, match=r"^key: no folder val in .* \(found: n01440764\); give"):
        imagenet.read_val(tmp_path, IDS, "key")
    paint(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(UserError, match=r"no images in the sub-folders of .* \(found: "
                                        r"ILSVRC2012_val_00000001.JPEG\);"):
        imagenet.read_val(tmp_path, IDS, "key")
    paint(tmp_path / "val" / "tench" / "a.JPEG")
    with pytest.raises(UserError, match=r"not ImageNet-1k's wnids in .*: tench"):
        imagenet.read_val(tmp_path, IDS, "key")


def test_first_per_class_keeps_the_first_of_each(labels_csv):
    path = labels_csv("images/b.jpg,2,,,", "images/c.jpg,0,,,", "images/a.jpg,2,,,")
    images = imagenet.read_labels_csv(path, IDS, "key")
    assert first_per_class(images, 1).labels == [2, 0]
    assert first_per_class(images, 1).files[0].name == "b.jpg"
    assert first_per_class(images, 0).labels == [2, 0, 2]
