"""Files of all kinds that a hospital gives: encodings, sizes, orientations, and what is no image at all."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import read_ct, write_series
from p2ch_luna.io.dicom import choose_series, read_dicom
from p2ch_luna.io.dicom_headers import read_headers
from support.dicom_files import retag, small_ct, write_dicom


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dicom(tmp_path / "ct")


@pytest.mark.parametrize(
    ("compressor", "syntax"),
    [
        ("JPEG", "1.2.840.10008.1.2.4.70"),
        ("JPEG2000", "1.2.840.10008.1.2.4.90"),
    ],
)
def test_compressed_slices_are_read(folder: Path, compressor: str, syntax: str) -> None:
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    for path in folder.iterdir():
        source = sitk.ReadImage(str(path))
        image = sitk.Cast(source, sitk.sitkInt16)
        for tag in source.GetMetaDataKeys():
            image.SetMetaData(tag, source.GetMetaData(tag))
        writer.SetFileName(str(path))
        writer.Execute(image)
    assert pydicom.dcmread(folder / "0001.dcm").file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_ct(folder).hu, small_ct().hu)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_slices_that_pydicom_compressed_are_read(folder: Path, syntax: pydicom.uid.UID) -> None:
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_ct(folder).hu, small_ct().hu)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_other_encodings_are_read(folder: Path, syntax: pydicom.uid.UID) -> None:
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        if not syntax.is_little_endian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        pydicom.dcmwrite(
            path, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian
        )
    np.testing.assert_array_equal(read_ct(folder).hu, small_ct().hu)


def test_files_without_the_preamble_are_read(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    np.testing.assert_array_equal(read_ct(folder).hu, small_ct().hu)


def test_files_of_any_name_are_read(folder: Path) -> None:
    for k, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / ("IM", "IM.v2", "a.jpg", "1.2.840")[k % 4].__add__(str(k)))
    np.testing.assert_array_equal(read_ct(folder).hu, small_ct().hu)


def test_files_that_are_no_images_are_passed_over(folder: Path) -> None:
    (folder / "empty").write_bytes(b"")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(100))
    (folder / "photo.jpg").write_bytes(b"\xff\xd8" + os.urandom(5000))
    (folder / "begins-as-dicom").write_bytes(b"\x08\x00\x05\x00" + os.urandom(5000))
    (folder / "gone").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe")  # to open it would wait for ever
    report = pydicom.dcmread(folder / "0001.dcm")
    report.SOPClassUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.33", "SR"
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID
    del report.PixelData, report.Rows, report.Columns
    report.save_as(folder / "report.dcm")
    np.testing.assert_array_equal(read_ct(folder).hu, small_ct().hu)


def test_thousands_of_other_files_take_no_time(folder: Path) -> None:
    """20 microseconds each; GDCM would need 200."""
    (folder / "other").mkdir()
    for k in range(1000):
        (folder / "other" / f"{k}.xml").write_text("<a>" * 100)
    start = time.process_time()
    read_headers(folder)
    assert time.process_time() - start < 0.5


def test_colour_images_are_no_ct(folder: Path) -> None:
    picture = sitk.GetImageFromArray(np.zeros((10, 12, 3), np.uint8), isVector=True)
    source = sitk.ReadImage(str(folder / "0001.dcm"))
    for tag in ("0008|0060", "0020|000d", "0020|0032", "0020|0037"):
        picture.SetMetaData(tag, source.GetMetaData(tag))
    picture.SetMetaData("0020|000e", "1.2.4")
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(folder / "capture.dcm"))
    writer.Execute(picture)
    found = choose_series(folder).facts()
    assert [facts.images for facts in found] == [12, 1]
    assert found[1].remark.startswith("not chosen: ")


def test_padding_of_minus_2000_becomes_that_of_every_ct(tmp_path: Path) -> None:
    ct = small_ct()
    ct.hu[:, 0] = -2000
    assert (read_ct(write_dicom(tmp_path / "ct", ct)).hu[:, 0] == -1024).all()


def test_slices_without_a_rescale_are_read_with_a_warning(folder: Path) -> None:
    retag(folder, RescaleSlope=None, RescaleIntercept=None, RescaleType=None)
    scan = read_dicom(folder)
    np.testing.assert_array_equal(scan.ct.hu, small_ct().hu)
    assert scan.warnings == ("slices that state no rescale to HU, their values taken as they are: 12",)


def test_values_that_are_said_to_be_no_hu_are_told_of(folder: Path) -> None:
    retag(folder, RescaleType="US")
    assert read_dicom(folder).warnings == ("values are said to be US: they were taken as HU",)


def test_a_rescale_of_its_own_in_each_slice_is_applied(folder: Path) -> None:
    retag(folder, RescaleIntercept=lambda k: str(-k))
    wanted = np.maximum(small_ct().hu - np.arange(12, dtype=np.int16)[:, None, None], -1024)
    np.testing.assert_array_equal(read_ct(folder).hu, wanted)


def test_values_above_16_bits_are_kept(folder: Path) -> None:
    retag(folder, RescaleSlope="100")
    assert read_ct(folder).hu.max() == 100.0 * small_ct().hu.max()


@pytest.mark.parametrize("step", [0.3, 10.0])
def test_very_thin_and_very_thick_slices_are_read(tmp_path: Path, step: float) -> None:
    ct = small_ct(40, step)
    found = read_ct(write_dicom(tmp_path / "ct", ct))
    np.testing.assert_array_equal(found.hu, ct.hu)
    assert found.geometry.spacing_xyz[2] == pytest.approx(step)


def test_a_matrix_of_1024_is_read(tmp_path: Path) -> None:
    hu = np.random.default_rng(0).integers(-1000, 1000, (8, 1024, 1024)).astype(np.int16)
    ct = CtVolume("1.2.3", hu, ImageGeometry.axial((0.35, 0.35, 2)))
    write_series(tmp_path / "ct", ct)
    np.testing.assert_array_equal(read_ct(tmp_path / "ct").hu, hu)


def test_a_thousand_slices_are_read_in_a_few_seconds(tmp_path: Path) -> None:
    ct = small_ct(1000, 0.5)
    write_series(tmp_path / "ct", ct)
    start = time.process_time()
    np.testing.assert_array_equal(read_ct(tmp_path / "ct").hu, ct.hu)
    assert time.process_time() - start < 5  # 0.6 s on a quiet core


ORIENTATIONS = {  # steps of columns and of rows, LPS
    "head first, prone": ([-1, 0, 0], [0, -1, 0]),
    "feet first, supine": ([-1, 0, 0], [0, 1, 0]),
    "feet first, prone": ([1, 0, 0], [0, -1, 0]),
    "lying on the left": ([0, -1, 0], [1, 0, 0]),
    "lying on the right": ([0, 1, 0], [-1, 0, 0]),
}


@pytest.mark.parametrize(("columns", "rows"), ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_a_point_stays_in_its_place_in_every_orientation(
    tmp_path: Path, columns: list[int], rows: list[int]
) -> None:
    """Row 2, column 3 of the fifth file is the only tissue; its place is worked out by hand."""
    ct = small_ct(12)
    hu = np.full_like(ct.hu, -1000)
    hu[4, 2, 3] = 50
    write_series(tmp_path / "ct", CtVolume("1.2.3", hu, ct.geometry))
    retag(
        tmp_path / "ct",
        ImageOrientationPatient=[*columns, *rows],
        ImagePositionPatient=lambda k: [10, 20, -200 + 2.5 * k],
    )
    found = read_ct(tmp_path / "ct")
    place = np.array([10, 20, -190]) + 3 * np.array(columns) + 2 * np.array(rows)
    at = np.unravel_index(found.hu.argmax(), found.hu.shape)
    np.testing.assert_allclose(found.geometry.to_xyz(at), place, atol=1e-6)
    assert np.linalg.det(found.geometry.direction) == pytest.approx(1)


def test_a_file_that_cannot_be_opened_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(folder / "0001.dcm", folder / "locked.dcm")
    opened = Path.open

    def locked(path: Path, mode: str) -> IO[Any]:
        if path.name == "locked.dcm":
            raise PermissionError(13, "Permission denied")
        return opened(path, mode)

    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(LunaError, match=r"locked\.dcm: cannot be read: Permission denied; expected a DICOM"):
        read_ct(folder)
