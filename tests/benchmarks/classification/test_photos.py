"""Photos with ImageNet labels beside classes that were left out."""

import csv

import pytest

from kt_exp.benchmarks.classification.photos import SHIPPED, PhotoBenchmark
from kt_exp.concepts import Concept
from kt_exp.config.checks import check
from kt_exp.data.imagenet import class_names
from kt_exp.errors import UserError

PIZZA = Concept("pizza", "A flat round baked dough.")
DAX = Concept("dax", PIZZA.description, images_of="pizza")


def benchmark(**changes):
    keys = {"labels_csv": None, "calibration_csv": None, "target_root": None,
            "exclude_names": ["pizza", "daisy"], "images_per_known_class": 0,
            "templates": ["a photo of a {}."], "fix_articles": False, "batch_size": 8,
            "workers": 0, "on_bad_image": "error"}
    return PhotoBenchmark(**{**keys, **changes})


@pytest.fixture
def labels(tmp_path, paint):
    """A CSV of five photos: two of pizza (963), one of daisy (985), two of known classes."""
    rows = [(963, "a.png"), (7, "b.png"), (985, "c.png"), (963, "d.png"), (999, "e.png")]
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "class_index"), *((f, i) for i, f in rows)])
    for _, name in rows:
        paint(tmp_path / name)
    return str(path)


def test_excluded_classes_are_no_known_ones_and_neither_are_their_photos(labels):
    chosen = benchmark(labels_csv=labels)
    names, images = chosen.known_names(), chosen.known_images()
    assert len(names) == 998
    assert not {"pizza", "daisy"} & set(names)
    assert [path.name for path in images.files] == ["b.png", "e.png"]
    assert [names[label] for label in images.labels] == [class_names()[7], class_names()[999]]


def test_photos_of_an_excluded_class_are_its_targets(labels):
    images = benchmark(labels_csv=labels).target_images(PIZZA)
    assert [path.name for path in images.files] == ["a.png", "d.png"]
    assert images.labels == [0, 0]


def test_a_made_up_word_has_the_photos_of_the_class_it_stands_for(labels):
    images = benchmark(labels_csv=labels).target_images(DAX)
    assert [path.name for path in images.files] == ["a.png", "d.png"]
    with pytest.raises(UserError, match="'dax' has the images of 'pizza', which is a known class"):
        benchmark(labels_csv=labels, exclude_names=["daisy"]).check_concepts([DAX])
    with pytest.raises(UserError, match="no photo of 'zorb'"):
        benchmark(labels_csv=labels).check_concepts([Concept("dax", "A ball.", images_of="zorb")])


def test_a_folder_of_ones_own_photos_comes_before_the_labels(labels, tmp_path, paint):
    paint(tmp_path / "own" / "pizza" / "mine.png")
    chosen = benchmark(labels_csv=labels, target_root=str(tmp_path / "own"))
    assert [path.name for path in chosen.target_images(PIZZA).files] == ["mine.png"]


def test_a_concept_that_is_known_or_has_no_photos_is_refused_before_anything_costly(labels):
    with pytest.raises(UserError, match="'pizza' is also a known class"):
        benchmark(labels_csv=labels, exclude_names=["daisy"]).check_concepts([PIZZA])
    with pytest.raises(UserError, match=r"labels_csv: no photo of 'zorb'.*target_root"):
        benchmark(labels_csv=labels).check_concepts([Concept("zorb", "A red ball.")])


def test_a_name_to_exclude_has_to_be_a_class():
    with pytest.raises(UserError, match=r"exclude_names: .*'dasy'; did you mean 'daisy'"):
        check(benchmark(exclude_names=["dasy"]), "benchmark")


def test_the_photos_shipped_hold_the_held_out_classes():
    chosen = benchmark(exclude_names=["pizza", "daisy", "tent"])
    chosen.check_concepts([PIZZA])
    assert len(chosen.target_images(PIZZA)) == 5
    assert len(chosen.known_images()) > 100


def test_the_photos_of_the_package_calibrate_where_others_are_reported(labels):
    chosen = benchmark(labels_csv=labels)
    images, names = chosen.calibration_images(), chosen.known_names()
    assert len(images) > 60
    assert images.files[0].parent == SHIPPED.parent / "images"
    assert names[images.labels[0]] == "jay"


def test_no_photo_that_is_reported_calibrates(tmp_path, paint):
    assert benchmark().calibration_images() is None
    # The package's photos are part of the set of 1000, there in another format.
    with SHIPPED.open() as file:
        first, *others = list(csv.DictReader(file))[:40]
    for row in others:
        paint(tmp_path / row["file"])
    (tmp_path / "labels.csv").write_text("file,class_index\n" + "".join(
        f"{row['file']},{row['class_index']}\n" for row in others))
    images = benchmark(labels_csv=str(tmp_path / "labels.csv")).calibration_images()
    shown = {path.stem for path in images.files}
    assert first["file"].split("/")[1].split(".")[0] in shown
    assert not shown & {row["file"].split("/")[1].split(".")[0] for row in others}


def test_ones_own_photos_calibrate_if_they_are_not_reported(labels, tmp_path, paint):
    paint(tmp_path / "f.png")
    (tmp_path / "more.csv").write_text("file,class_index\nf.png,7\nb.png,7\na.png,963\n")
    chosen = benchmark(labels_csv=labels, calibration_csv=str(tmp_path / "more.csv"))
    assert [path.name for path in chosen.calibration_images().files] == ["f.png"]
    same = benchmark(labels_csv=labels, calibration_csv=labels)
    with pytest.raises(UserError, match=r"^benchmark.calibration_csv: .* lists no photo of a known "
                                        "class that is not reported on; give a CSV of other"):
        same.calibration_images()
    with pytest.raises(UserError, match=r"^benchmark.calibration_csv: no such file: gone.csv"):
        benchmark(labels_csv=labels, calibration_csv="gone.csv").calibration_images()
