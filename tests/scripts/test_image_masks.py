"""Data sets that become image–mask pairs."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kt_exp.benchmarks.segmentation.masks import read_pairs

from .conftest import gray, tree

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")


def write_dicom(path: Path, pixels: np.ndarray, photometric: str = "MONOCHROME2",
                **tags: float) -> None:
    """Write a grey image as DICOM."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    data.SOPInstanceUID = pydicom.uid.generate_uid()
    data.set_pixel_data(pixels, photometric, bits_stored=pixels.dtype.itemsize * 8)
    for name, value in tags.items():
        setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def some_mask(height: int = 4, width: int = 6) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[1, 2:4] = True
    return mask


class TestUniToChest:
    def slice(self, source: Path, split: str, name: str, mask: np.ndarray | None) -> str:
        image, masked = f"patient_1/exam_2/{name}.dcm", f"patient_1/exam_2/{name}.png"
        units = np.full((4, 6), -600 + 1024, dtype=np.uint16)
        units[0, :2] = 0, 3000
        write_dicom(source / split / "images" / image, units, RescaleSlope=1,
                    RescaleIntercept=-1024)
        if mask is not None:
            write_mask(source / split / "masks" / masked, mask)
        return f"1,2,{image},{masked if mask is not None else ''}\n"

    def split(self, source: Path, split: str, rows: list[str]) -> None:
        table = source / split / f"{split}_dataset.csv"
        table.write_text("patientID,exam,image,mask\n" + "".join(rows))

    def test_slices_with_a_nodule_in_the_lung_window(self, source, out, prepare):
        self.split(source, "test", [self.slice(source, "test", "1_2_010", some_mask()),
                                    self.slice(source, "test", "1_2_011", None),
                                    self.slice(source, "test", "1_2_012", some_mask() & False)])
        said = prepare("unitochest")
        stem = "test_patient_1_exam_2_1_2_010.png"
        assert tree(out) == [f"images/{stem}", f"masks/{stem}"]
        assert gray(out / "images" / stem)[0].tolist() == [55, 255, 128, 128, 128, 128]
        assert np.array_equal(gray(out / "masks" / stem), some_mask() * 255)
        assert "1 slices with a nodule (test); the paper has 4,179" in said

    def test_all_splits_and_another_window(self, source, out, prepare):
        for split in ("train", "val", "test"):
            self.split(source, split, [self.slice(source, split, "1_2_010", some_mask())])
        prepare("unitochest", "--split", "all", "--window", "-1024", "-600")
        assert len(tree(out / "images")) == 3
        assert gray(out / "images" / "val_patient_1_exam_2_1_2_010.png")[0, 3] == 255

    def test_an_unreadable_slice_is_named(self, source, refused):
        self.split(source, "test", [self.slice(source, "test", "1_2_010", some_mask())])
        damaged = source / "test" / "images" / "patient_1" / "exam_2" / "1_2_010.dcm"
        damaged.write_bytes(b"no DICOM")
        assert "1_2_010.dcm: unreadable DICOM" in refused("unitochest")

    def test_a_mask_of_another_size_is_refused(self, source, refused):
        self.split(source, "test", [self.slice(source, "test", "1_2_010", some_mask(6, 4))])
        assert "a mask of 4 × 6 pixels for an image of 6 × 4" in refused("unitochest")

    def test_missing_slices_are_named(self, source, refused):
        self.split(source, "test", [self.slice(source, "test", "1_2_010", some_mask())])
        (source / "test" / "masks" / "patient_1" / "exam_2" / "1_2_010.png").unlink()
        assert "not there: test/masks/patient_1/exam_2/1_2_010.png" in refused("unitochest")


class TestUDIAT:
    def test_pairs_by_name(self, source, out, prepare):
        folder = source / "BUS"
        write_mask(folder / "original" / "000001.png", np.ones((4, 6)))
        write_mask(folder / "GT" / "000001.png", some_mask())
        said = prepare("udiat")
        assert tree(out) == ["images/000001.png", "masks/000001.png"]
        assert np.array_equal(gray(out / "masks" / "000001.png"), some_mask() * 255)
        assert "1 ultrasounds; the paper has 163 or 164" in said

    def test_an_image_without_a_mask_is_named(self, source, refused):
        write_mask(source / "original" / "000001.png", np.ones((4, 6)))
        write_mask(source / "original" / "000002.png", np.ones((4, 6)))
        write_mask(source / "GT" / "000002.png", some_mask())
        assert "1 of 2 listed files are not there: GT/000001" in refused("udiat")

    def test_a_mask_without_an_image_is_named(self, source, refused):
        write_mask(source / "original" / "000001.png", np.ones((4, 6)))
        write_mask(source / "GT" / "000002.png", some_mask())
        assert "000002.png: a mask without an image" in refused("udiat")

    def test_an_empty_mask_is_named(self, source, refused):
        write_mask(source / "original" / "000001.png", np.ones((4, 6)))
        write_mask(source / "GT" / "000001.png", np.zeros((4, 6)))
        assert "000001.png: an empty mask" in refused("udiat")


class TestSIIM:
    def listed(self, source: Path, *rows: str) -> None:
        (source / "train-rle.csv").write_text("ImageId, EncodedPixels\n" + "\n".join(rows) + "\n")

    def xray(self, source: Path, name: str, photometric: str = "MONOCHROME2") -> None:
        pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
        write_dicom(source / "dicom-images-train" / name / "series" / f"{name}.dcm", pixels,
                    photometric)

    def test_relative_runs_down_the_columns(self, source, out, prepare):
        # Six columns of four pixels: 1 + 2 starts in column 0, then 3 on from pixel 3.
        self.listed(source, "1.2.3, 1 2 3 1", "1.2.3, 23 1", "1.2.4, -1")
        self.xray(source, "1.2.3")
        said = prepare("siim_pneumothorax")
        expected = np.zeros((4, 6), dtype=bool)
        expected[1:3, 0] = expected[2, 1] = expected[3, 5] = True
        pairs = read_pairs(out, threshold=200)
        assert np.array_equal(pairs.mask(0), expected)
        assert gray(out / "images" / "1.2.3.png")[0].tolist() == [0, 1, 2, 3, 4, 5]
        assert "1 X-rays with a pneumothorax; the paper has 500" in said

    def test_inverted_x_rays_are_turned(self, source, out, prepare):
        self.listed(source, "1.2.3, 1 2")
        self.xray(source, "1.2.3", "MONOCHROME1")
        prepare("siim_pneumothorax")
        assert gray(out / "images" / "1.2.3.png")[0, 0] == 255

    def test_the_jpeg_in_the_challenges_files_is_decoded(self, source, out, prepare):
        self.listed(source, "a, 0 1")
        self.xray(source, "a")
        file = source / "dicom-images-train" / "a" / "series" / "a.dcm"
        data, jpeg = pydicom.dcmread(file), io.BytesIO()
        Image.fromarray(np.full((4, 6), 200, dtype=np.uint8)).save(jpeg, "JPEG")
        data.PixelData = pydicom.encaps.encapsulate([jpeg.getvalue()])
        data["PixelData"].VR = "OB"
        data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
        data.save_as(file)
        prepare("siim_pneumothorax")
        assert gray(out / "images" / "a.png") == pytest.approx(np.full((4, 6), 200), abs=2)

    def test_as_many_as_wanted_of_those_that_are_there(self, source, out, prepare):
        self.listed(source, "a, 0 1", "b, 0 1", "c, 0 1")
        self.xray(source, "c")
        self.xray(source, "b")
        prepare("siim_pneumothorax", "--images", "1")
        assert tree(out / "images") == ["b.png"]

    def test_missing_images_are_named(self, source, refused):
        self.listed(source, "a, 0 1", "b, 0 1")
        self.xray(source, "b")
        said = refused("siim_pneumothorax", "--images", "0")
        assert "1 of 2 listed files are not there: a" in said

    @pytest.mark.parametrize("runs", ["1 2 3", "0 99", "one two", "5 -1"])
    def test_damaged_runs_are_named(self, source, refused, runs):
        self.listed(source, f"a, {runs}")
        self.xray(source, "a")
        assert "train-rle.csv line 2" in refused("siim_pneumothorax")

    def test_the_missing_extra_is_named(self, source, refused, monkeypatch):
        monkeypatch.setitem(sys.modules, "pydicom", None)
        said = refused("siim_pneumothorax")
        assert "pydicom: not installed; pip install 'kt_exp[medical]'" in said


class TestBraTS:
    def case(self, source: Path, name: str, affine: np.ndarray | None = None) -> None:
        volume = np.zeros((5, 4, 3), dtype=np.int16)
        volume[1:4, 1:3] = 100
        volume[4, 3, 1] = 200  # the patient's right, front
        mask = np.zeros((5, 4, 3), dtype=np.uint8)
        mask[4, 3, 1], mask[3, 2, 1] = 3, 2
        affine = np.eye(4) if affine is None else affine
        for part, data in (("t2f", volume), ("seg", mask)):
            path = source / name / f"{name}-{part}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(data, affine).to_filename(path)

    def test_axial_slices_with_tumour(self, source, out, prepare):
        self.case(source, "BraTS-GLI-00000-000")
        said = prepare("brats")
        stem = "BraTS-GLI-00000-000_001.png"
        assert tree(out) == [f"images/{stem}", f"masks/{stem}"]
        mask = gray(out / "masks" / stem)
        assert mask.shape == (4, 5)
        assert np.argwhere(mask).tolist() == [[0, 0], [1, 1]]
        assert gray(out / "images" / stem)[0, 0] == 255
        assert "1 cases, t2f\n1 slices with tumour; the paper has 14,746" in said

    def test_a_volume_stored_the_other_way_round_looks_the_same(self, source, out, prepare):
        self.case(source, "a", np.diag([-1.0, -1.0, 1.0, 1.0]))
        prepare("brats")
        assert np.argwhere(gray(out / "masks" / "a_001.png")).tolist() == [[2, 3], [3, 4]]

    def test_the_cases_of_a_list(self, source, out, prepare, refused, tmp_path):
        self.case(source, "a")
        self.case(source, "b")
        wanted = source / "cases.txt"
        wanted.write_text("b\n")
        prepare("brats", "--cases", str(wanted))
        assert tree(out / "images") == ["b_001.png"]

    def test_a_case_that_is_not_there_is_named(self, source, refused):
        self.case(source, "a")
        (source / "cases.txt").write_text("a\nb\n")
        assert "not there: b" in refused("brats", "--cases", str(source / "cases.txt"))

    def test_another_modality_has_to_be_there(self, source, refused):
        self.case(source, "a")
        assert "a-t1c.nii.gz: no such file" in refused("brats", "--modality", "t1c")

    def test_an_unreadable_volume_is_named(self, source, refused):
        self.case(source, "a")
        (source / "a" / "a-t2f.nii.gz").write_bytes(b"no NIfTI")
        assert "a-t2f.nii.gz: unreadable NIfTI" in refused("brats")
