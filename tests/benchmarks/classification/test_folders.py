"""The three benchmarks as the config builds them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.configs import preset

from kt_exp.benchmarks.classification.prompts import known_prompts
from kt_exp.concepts import Concept
from kt_exp.config.plugins import build
from kt_exp.errors import UserError
from kt_exp.pictograms.drawings import HELD_OUT, KNOWN, TEMPLATES

MOONGATE = Concept("moongate", "a circle in a wall", plural=False)


def load(name, **keys):
    return build(preset("benchmark", name, **keys), "benchmark")


@pytest.fixture
def roots(tmp_path, paint):
    paint(tmp_path / "known" / "apple" / "a.png", "red")
    paint(tmp_path / "known" / "ice_cream" / "a.png", "blue")
    paint(tmp_path / "rare" / "Moon_Gate" / "a.png", "green")
    paint(tmp_path / "rare" / "tonometer" / "a.png", "green")
    return {"known_root": str(tmp_path / "known"), "target_root": str(tmp_path / "rare")}


@pytest.fixture
def rare(tmp_path, roots, paint):
    paint(tmp_path / "images" / "a.jpg", "red")
    (tmp_path / "labels.csv").write_text("file,class_index\nimages/a.jpg,309\nimages/a.jpg,309\n")
    return {"target_root": roots["target_root"], "labels_csv": str(tmp_path / "labels.csv")}


def test_folders(roots):
    benchmark = load("folders", **roots)
    benchmark.check_concepts([MOONGATE])
    assert benchmark.known_names() == ["apple", "ice cream"]
    assert benchmark.known_images().labels == [0, 1]
    assert benchmark.target_images(MOONGATE).labels == [0]
    assert benchmark.target_images(MOONGATE).open(0).getpixel((0, 0)) == (0, 255, 0)


def test_a_target_folder_can_be_renamed(roots):
    root = Path(roots["target_root"])
    (root / "classnames.json").write_text('{"tonometer": "eye pressure meter"}')
    concept = Concept("eye pressure meter", "a pen", plural=False)
    assert len(load("folders", **roots).target_images(concept)) == 1


def test_a_made_up_word_has_the_folder_of_what_it_stands_for(roots):
    benchmark, dax = load("folders", **roots), Concept("dax", "a circle", images_of="moon gate")
    assert benchmark.target_images(dax).files == benchmark.target_images(MOONGATE).files
    with pytest.raises(UserError, match=r"no images of 'zorb'.* has no folder 'zorb'"):
        benchmark.target_images(Concept("dax", "a circle", images_of="zorb"))
    with pytest.raises(UserError, match="'dax' has the images of 'ice cream', which is a known"):
        benchmark.check_concepts([Concept("dax", "a cone", images_of="Ice_cream")])


def test_folders_refuses_what_cannot_be_evaluated(roots, tmp_path):
    def refusal(concept=MOONGATE, **keys):
        with pytest.raises(UserError) as caught:
            load("folders", **{**roots, **keys}).check_concepts([concept])
        return str(caught.value)

    assert refusal(Concept("madras", "a cloth", plural=False)) == (
        f"benchmark.target_root: no images of 'madras': {roots['target_root']} has no folder "
        "'madras'; there are: Moon_Gate, tonometer"
    )
    assert "is also a known class ('ice cream')" in refusal(
        Concept("Ice_Cream", "a cone", plural=False))
    assert refusal(target_root="/nowhere").startswith(
        "benchmark.target_root: no such folder: /nowhere")
    assert refusal(known_root="/nowhere").startswith(
        "benchmark.known_root: no such folder: /nowhere")
    image = tmp_path / "rare" / "tonometer" / "a.png"
    image.rename(image.with_suffix(".svg"))
    said = refusal(Concept("tonometer", "a pen", plural=False))
    assert f"no images of 'tonometer' in {image.parent} (found: a.svg); put .jpg or" in said
    image = tmp_path / "known" / "apple" / "a.png"
    image.rename(image.with_suffix(".dcm"))
    assert f"no images of 'apple' in {image.parent} (found: a.dcm); put .jpg or" in refusal()


def test_one_known_class_is_refused(tmp_path, roots):
    (tmp_path / "known" / "apple").rename(tmp_path / "apple")
    with pytest.raises(UserError, match=r"'ice cream' is the only class in .*; give at least two"):
        load("folders", **roots).check_concepts([MOONGATE])


def test_wrong_keys_are_refused(roots):
    for keys, message in (
        ({"known_root": "???"}, "benchmark.known_root"),
        ({"templates": []}, "benchmark.templates: no prompt templates"),
        ({"templates": ["a photo"]}, "'a photo' has no single place for the name"),
        ({"batch_size": 0}, "benchmark.batch_size: 0 is out of range"),
        ({"workers": -1}, "benchmark.workers: -1 is out of range"),
        ({"on_bad_image": "ignore"}, "benchmark.on_bad_image: 'ignore' is not an option"),
    ):
        with pytest.raises(UserError, match=message):
            load("folders", **{**roots, **keys})


def test_articles_fit_the_name_where_wanted(roots):
    said = {
        wanted: known_prompts(load("folders", **roots, fix_articles=wanted))
        for wanted in (True, False)
    }
    assert said[True] == [["a photo of an apple."], ["a photo of an ice cream."]]
    assert said[False] == [["a photo of a apple."], ["a photo of a ice cream."]]


def test_rare_imagenet(rare):
    benchmark = load("rare_imagenet", **rare)
    benchmark.check_concepts([MOONGATE])
    assert len(benchmark.known_names()) == 1000
    assert benchmark.known_images().labels == [309, 309]
    assert benchmark.known_names()[309] == "bee"
    assert len(benchmark.target_images(MOONGATE)) == 1
    assert known_prompts(benchmark)[309][0] == "a bad photo of a bee."
    assert len(known_prompts(benchmark)[309]) == 80


def test_names_and_templates_of_imagenet_are_chosen(rare, tmp_path):
    """The paper states neither, and its figures print WordNet's names."""
    def prompts(**keys):
        return known_prompts(load("rare_imagenet", **rare, **keys))[550]

    assert prompts(templates="name") == ["espresso machine"]
    assert prompts(templates="name", names="wordnet") == ["espresso maker"]
    assert prompts(templates=["one {}", "some {}"]) == ["one espresso machine",
                                                        "some espresso machine"]
    file = tmp_path / "names.txt"
    file.write_text("\n".join(f"class {i}" for i in range(1000)))
    assert prompts(templates="photo", names="file", names_file=str(file)) == [
        "a photo of a class 550."]
    for keys, message in (
        ({"templates": "opanai"}, "'opanai' is not an option; did you mean 'openai'"),
        ({"templates": ["a photo"]}, "has no single place for the name"),
        ({"names": "file"}, r"benchmark\.names_file: missing"),
    ):
        with pytest.raises(UserError, match=message):
            load("rare_imagenet", **rare, **keys)


def test_rare_imagenet_limits_each_class(rare):
    assert load("rare_imagenet", **rare, images_per_known_class=1).known_images().labels == [309]


def test_rare_imagenet_refuses_what_cannot_be_evaluated(rare):
    with pytest.raises(UserError, match=r"benchmark.imagenet_root: no images of the known"):
        load("rare_imagenet", **{**rare, "labels_csv": None})
    with pytest.raises(UserError, match=r"benchmark.imagenet_root: both are given"):
        load("rare_imagenet", **rare, imagenet_root="/data")
    with pytest.raises(UserError, match=r"'Dung_Beetle' is also a known class \('dung beetle'\)"):
        load("rare_imagenet", **rare).check_concepts([Concept("Dung_Beetle", "a", plural=False)])
    with pytest.raises(UserError, match=r"benchmark.labels_csv: no such file: /no.csv"):
        load("rare_imagenet", **{**rare, "labels_csv": "/no.csv"}).check_concepts([MOONGATE])


def test_pictograms():
    benchmark = load("pictograms", images_per_known_class=2, images_per_target=3,
                     invented_names=4)
    benchmark.check_concepts([MOONGATE])
    known, targets = benchmark.known_images(), benchmark.target_images(MOONGATE)
    assert benchmark.known_names()[:-4] == list(KNOWN)
    assert benchmark.templates == list(TEMPLATES)
    assert (len(known), known.labels[:3]) == (2 * len(KNOWN), [0, 0, 1])
    assert (len(targets), set(targets.labels)) == (3, {0})
    assert (targets.open(0).mode, targets.open(0).size) == ("RGB", (64, 64))
    assert targets.open(0).tobytes() != targets.open(1).tobytes()
    dax = Concept("dax", "a circle in a wall", images_of="moongate")
    assert benchmark.target_images(dax) == targets


def test_more_pictograms_keep_the_first_ones():
    few = load("pictograms", images_per_target=2).target_images(MOONGATE)
    more = load("pictograms", images_per_target=3).target_images(MOONGATE)
    assert few.open(1).tobytes() == more.open(1).tobytes()
    assert few.fingerprint() != more.fingerprint()


def test_another_seed_draws_other_pictograms():
    sets = [load("pictograms", images_per_target=2, seed=seed).target_images(MOONGATE)
            for seed in (0, 0, 1)]
    assert sets[0].fingerprint() == sets[1].fingerprint() != sets[2].fingerprint()


def test_pictograms_refuses_what_it_cannot_draw():
    benchmark = load("pictograms")
    with pytest.raises(UserError, match=r"no images of 'moongat'.*did you mean 'moongate'"):
        benchmark.check_concepts([Concept("moongat", "a circle", plural=False)])
    with pytest.raises(UserError, match=f"'{KNOWN[0].upper()}' is also a known class"):
        benchmark.check_concepts([Concept(KNOWN[0].upper(), "a thing", plural=False)])
    for name in HELD_OUT:
        benchmark.check_concepts([Concept(name.replace(" ", "_"), "a thing", plural=False)])


def test_other_images_of_known_classes_are_for_calibration(roots, tmp_path, paint):
    assert load("folders", **roots).calibration_images() is None
    paint(tmp_path / "more" / "Ice Cream" / "b.png", "blue")
    images = load("folders", **roots, calibration_root=str(tmp_path / "more")).calibration_images()
    assert ([path.name for path in images.files], images.labels) == (["b.png"], [1])


def test_imagenet_images_for_calibration_are_sorted_by_wnid(rare, tmp_path, paint):
    paint(tmp_path / "more" / "val" / "n02206856" / "bee.png", "red")
    images = load("rare_imagenet", **rare,
                  calibration_root=str(tmp_path / "more")).calibration_images()
    assert images.labels == [309]


def test_images_for_calibration_must_be_of_known_classes(roots, rare, tmp_path):
    def refusal(name, root, **keys):
        with pytest.raises(UserError) as caught:
            load(name, **keys, calibration_root=str(root)).calibration_images()
        return str(caught.value)

    (tmp_path / "empty" / "apple").mkdir(parents=True)
    assert "calibration_root: no such folder: /nowhere" in refusal("folders", "/nowhere", **roots)
    assert "calibration_root: no images in" in refusal("folders", tmp_path / "empty", **roots)
    assert refusal("folders", tmp_path / "rare", **roots).endswith(
        "no known classes in " + str(tmp_path / "rare") + ": Moon Gate, tonometer; "
        "there are: apple, ice cream")
    assert "calibration_root: no such folder: /nowhere" in refusal(
        "rare_imagenet", "/nowhere", **rare)


def test_drawings_for_calibration_are_none_that_are_reported():
    reported = [load("pictograms", images_per_known_class=20, seed=seed).known_images()
                for seed in (0, 1)]
    chosen = load("pictograms", calibration_per_known_class=20, seed=0).calibration_images()
    assert (chosen.names, len(chosen)) == (KNOWN, 20 * len(KNOWN))
    seen = {images.open(index).tobytes() for images in reported for index in range(20)}
    assert not seen & {chosen.open(index).tobytes() for index in range(20)}
    assert load("pictograms", calibration_per_known_class=0).calibration_images() is None
