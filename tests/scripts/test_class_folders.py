"""Data sets that become class folders, or a labels CSV."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from kt_exp.concepts import Concept
from kt_exp.data import imagenet
from kt_exp.data.image_files import class_folders
from kt_exp.data.targets import read_target

from .conftest import gray, picture, tree

GOLDFISH, SHARK = "n01443537", "n01484850"


def classes(root: Path) -> dict[str, int]:
    return {folder.name: len(folder.images()) for folder in class_folders(root, "root")}


class TestRareConcepts:
    def test_folders_of_any_depth_become_concepts(self, source, out, prepare):
        picture(source / "RareConcepts" / "Moongate" / "1.jpg")
        picture(source / "RareConcepts" / "fabric" / "Bengal strip" / "2.png")
        picture(source / "RareConcepts" / "zorb" / "3.jpg")
        picture(source / "__MACOSX" / "moongate" / "1.jpg")
        said = prepare("rare")
        assert tree(out) == ["bengal_stripe/2.png", "moongate/1.jpg", "zorb/3.jpg"]
        assert "1 photos of moongate; the paper has 10" in said
        assert "0 photos of tonometer; the paper has 10" in said
        assert "taken along from --source: zorb" in said
        assert len(read_target(out, Concept("Bengal stripe", "lines"))) == 1

    def test_the_paper_has_ten_of_each(self, source, prepare):
        for index in range(10):
            picture(source / "gyroscope" / f"{index}.jpg")
        assert "10 photos of gyroscope; as in the paper" in prepare("rare")


class TestImageNet:
    def flat(self, source: Path) -> None:
        for number in (1, 2, 3):
            picture(source / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")

    def solution(self, source: Path) -> None:
        (source / "LOC_val_solution.csv").write_text(
            "ImageId,PredictionString\n"
            f"ILSVRC2012_val_00000002,{SHARK} 1 2 3 4 {SHARK} 5 6 7 8\n"
            f"ILSVRC2012_val_00000001,{GOLDFISH} 1 2 3 4\n"
            f"ILSVRC2012_val_00000003,{GOLDFISH} 1 2 3 4\n")

    def expect(self, out: Path, said: str) -> None:
        images = imagenet.read_val(out, imagenet.wnids(), "root")
        assert [path.name[-7:] for path in images.files] == ["01.JPEG", "03.JPEG", "02.JPEG"]
        assert images.labels == [1, 1, 2]
        assert "2 classes; the paper has 1,000" in said

    def test_flat_images_with_kaggles_solution(self, source, out, prepare):
        self.flat(source)
        self.solution(source)
        self.expect(out, prepare("imagenet1k"))

    def test_the_archive_with_a_list_of_synsets(self, source, out, prepare):
        (source / "imagenet_2012_validation_synset_labels.txt").write_text(
            f"{GOLDFISH}\n{SHARK}\n{GOLDFISH}\n")
        self.flat(source / "loose")
        with tarfile.open(source / "ILSVRC2012_img_val.tar", "w") as tar:
            for path in sorted((source / "loose" / "val").iterdir()):
                tar.add(path, path.name)
                path.unlink()
        self.expect(out, prepare("imagenet1k"))

    def test_the_devkit_numbers_classes_in_an_order_of_its_own(self, source, out, prepare):
        scipy_io = pytest.importorskip("scipy.io")
        self.flat(source)
        synsets = np.array([(1, SHARK), (2, GOLDFISH)],
                           dtype=[("ILSVRC2012_ID", "i4"), ("WNID", "O")])
        meta = io.BytesIO()
        scipy_io.savemat(meta, {"synsets": synsets})
        files = {"ILSVRC2012_devkit_t12/data/meta.mat": meta.getvalue(),
                 "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": b"2\n1\n2\n"}
        with tarfile.open(source / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        self.expect(out, prepare("imagenet1k"))

    def test_sorted_images_need_no_labels(self, source, out, prepare):
        picture(source / "val" / GOLDFISH / "ILSVRC2012_val_00000001.JPEG")
        prepare("imagenet1k")
        assert tree(out) == [f"val/{GOLDFISH}/ILSVRC2012_val_00000001.JPEG"]

    def test_ground_truth_without_its_classes_is_refused(self, source, refused):
        self.flat(source)
        (source / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n2\n")
        assert "no meta.mat beside it" in refused("imagenet1k")

    def test_images_without_any_labels_are_refused(self, source, refused):
        self.flat(source)
        assert "add LOC_val_solution.csv" in refused("imagenet1k")

    def test_missing_images_are_named(self, source, out, refused, prepare):
        self.flat(source)
        self.solution(source)
        (source / "val" / "ILSVRC2012_val_00000002.JPEG").unlink()
        assert "1 of 3 listed files are not there: ILSVRC2012_val_00000002" in refused("imagenet1k")
        assert "left out: 1 of 3" in prepare("imagenet1k", "--partial")
        assert tree(out) == [f"val/{GOLDFISH}/ILSVRC2012_val_0000000{n}.JPEG" for n in (1, 3)]

    def test_a_cut_archive_is_refused(self, source, refused):
        self.solution(source)
        (source / "ILSVRC2012_img_val.tar").write_bytes(b"not a tar" * 100)
        assert "not a whole tar archive" in refused("imagenet1k")

    def test_imagenet_100_names_its_classes(self, source, out, prepare):
        picture(source / "val.X" / GOLDFISH / "ILSVRC2012_val_00000001.JPEG")
        picture(source / "val.X" / SHARK / "ILSVRC2012_val_00000002.JPEG")
        picture(source / "train.X1" / SHARK / "n_1.JPEG")
        said = prepare("imagenet100")
        assert classes(out / "val") == {"goldfish": 1, "great white shark": 1}
        assert "2 classes; the paper has 100" in said


class TestCheXpert:
    HEADER = "Path,Sex,Atelectasis,Cardiomegaly,Consolidation,Edema,Pleural Effusion\n"

    def listed(self, source: Path) -> None:
        (source / "chexpert_5x200.csv").write_text(
            self.HEADER
            + "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg,Male,1.0,0,0,0,0\n"
            + "CheXpert-v1.0/train/patient00002/study3/view1_frontal.jpg,Female,0,0,0,0,1.0\n")

    def test_the_list_and_the_small_images(self, source, out, prepare):
        self.listed(source)
        small = source / "CheXpert-v1.0-small" / "train"
        picture(small / "patient00001" / "study1" / "view1_frontal.jpg")
        picture(small / "patient00002" / "study3" / "view1_frontal.jpg")
        said = prepare("chexpert")
        assert tree(out) == ["atelectasis/patient00001_study1_view1_frontal.jpg",
                             "pleural_effusion/patient00002_study3_view1_frontal.jpg"]
        assert "1 X-rays of atelectasis; the paper has 200" in said

    def test_images_in_batches_and_medclips_list(self, source, out, prepare):
        (source / "chexpert-5x200-val-meta.csv").write_text(
            self.HEADER.replace("Path", "imgpath")
            + "./data/CheXpert/CheXpert-v1.0-small/train/patient00007/study1/view1_frontal.jpg,"
            "Male,0.0,1.0,0.0,0.0,0.0\n")
        picture(source / "CheXpert-v1.0 batch 2 (train 1)" / "patient00007" / "study1"
                / "view1_frontal.jpg")
        prepare("chexpert")
        assert classes(out) == {"cardiomegaly": 1}

    def test_missing_images_are_named(self, source, refused):
        self.listed(source)
        picture(source / "train" / "patient00001" / "study1" / "view1_frontal.jpg")
        assert "1 of 2 listed files are not there: train/patient00002" in refused("chexpert")

    def test_another_list_is_refused(self, source, refused):
        (source / "chexpert_5x200.csv").write_text(
            self.HEADER
            + "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg,Male,1,1,0,0,0\n")
        picture(source / "train" / "patient00001" / "study1" / "view1_frontal.jpg")
        assert "line 2: 2 of the five findings are 1" in refused("chexpert")


class TestJSRT:
    def table(self, source: Path) -> None:
        folder = source / "Clinical_Information"
        folder.mkdir()
        (folder / "CLNDAT_EN.txt").write_bytes(
            b"JPCLN001.IMG\t5\t15\t53\tmale\t1634 692\tmalignant\tl.upper lobe\tlung cancer\r"
            b"JPCLN002.IMG 5 30 78 female 1614\t1090 benign l.upper lobe(S5)\tpulmonary hematoma")

    def raw(self, source: Path, name: str, corner: int) -> Path:
        values = np.zeros((2048, 2048), dtype=">u2")
        values[0, 0] = corner
        path = source / "Nodule154images" / name
        path.parent.mkdir(exist_ok=True)
        values.tofile(path)
        return path

    def test_raw_images_become_png_with_light_bones(self, source, out, prepare):
        self.table(source)
        self.raw(source, "JPCLN001.IMG", 4095)
        picture(source / "Nodule154images" / "JPCLN002.png")
        said = prepare("jsrt")
        assert tree(out) == ["benign_nodule/JPCLN002.png", "details.csv",
                             "lung_cancer/JPCLN001.png"]
        image = gray(out / "lung_cancer" / "JPCLN001.png")
        assert (image.shape, image[0, 0], image[0, 1]) == ((2048, 2048), 0, 255)
        assert "2 radiographs with a nodule; the paper has 154\n1 benign, 1 malignant" in said
        rows = list(csv.DictReader((out / "details.csv").open()))
        assert rows[0]["details"] == "l.upper lobe lung cancer"

    def test_a_cut_image_is_refused(self, source, refused):
        self.table(source)
        self.raw(source, "JPCLN001.IMG", 0).write_bytes(b"\0" * 1000)
        assert "JPCLN001.IMG: 1,000 bytes; expected 8,388,608" in refused("jsrt")

    def test_missing_images_are_named(self, source, refused):
        self.table(source)
        assert "2 of 2 listed files are not there: JPCLN001.IMG, JPCLN002.IMG" in refused("jsrt")


class TestNips2017:
    def listed(self, source: Path, label: str = "2") -> None:
        (source / "images.csv").write_text(
            "ImageId,URL,TrueLabel,Author,License,OriginalLandingURL\n"
            f"abc,u,{label},A. Person,https://creativecommons.org/licenses/by/2.0/,page\n")

    def test_photos_get_their_label_and_author(self, source, out, prepare):
        self.listed(source)
        picture(source / "images" / "abc.png")
        prepare("nips2017")
        images = imagenet.read_labels_csv(out / "labels.csv", imagenet.wnids(), "csv")
        assert (images.labels, images.files) == ([1], [out / "images" / "abc.png"])
        [row] = csv.DictReader((out / "labels.csv").open())
        assert (row["wnid"], row["author"]) == (GOLDFISH, "A. Person")

    def test_a_table_that_excel_wrote_with_semicolons_is_read(self, source, out, prepare):
        (source / "images.csv").write_bytes(
            "ImageId;URL;TrueLabel; Author\r\nabc;u;2; Müller, A.\r\n".encode("utf-8-sig"))
        picture(source / "images" / "abc.png")
        prepare("nips2017")
        [row] = csv.DictReader((out / "labels.csv").open(encoding="utf-8"))
        assert (row["wnid"], row["author"]) == (GOLDFISH, "Müller, A.")

    def test_a_label_beyond_the_classes_is_refused(self, source, refused):
        self.listed(source, label="1001")
        picture(source / "images" / "abc.png")
        assert "line 2: TrueLabel '1001'" in refused("nips2017")

    def test_a_table_without_labels_is_refused(self, source, refused):
        (source / "images.csv").write_text("ImageId,Author\nabc,A\n")
        assert "lacks the columns TrueLabel (it has: ImageId, Author)" in refused("nips2017")


def test_class_names_are_written_as_json(source, out, prepare):
    picture(source / "val" / GOLDFISH / "1.JPEG")
    prepare("imagenet100")
    assert json.loads((out / "val" / "classnames.json").read_text()) == {GOLDFISH: "goldfish"}
