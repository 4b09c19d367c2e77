from __future__ import annotations

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, crop_box
from p2ch_luna.io import read_ct, read_mask, write_ct, write_mask, write_series
from p2ch_luna.io.volumes import WRITABLE

FORMATS = (*WRITABLE, "series")
TILT = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
ROLL = np.array([[1.0, 0.0, 0.0], [0.0, 0.96, -0.28], [0.0, 0.28, 0.96]])
DIRECTIONS = {
    "axial": np.eye(3),
    "oblique": TILT @ ROLL,
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "left-handed": TILT @ ROLL @ np.diag([1.0, 1.0, -1.0]),
    "coronal": ROLL @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}


@pytest.fixture(scope="module")
def chest(lidc_ct: CtVolume) -> CtVolume:
    """A piece of LIDC-IDRI-0001 round its nodule; three different sides."""
    low = np.round(lidc_ct.geometry.to_irc([56.2, 86.3, -115.9])).astype(int) - [10, 20, 30]
    return crop_box(lidc_ct, low, low + np.array([20, 50, 60]))


def write_as(folder: Path, form: str, ct: CtVolume) -> Path:
    """Write a CT to a file of a suffix, or as a DICOM series."""
    path = folder / ("series" if form == "series" else f"{ct.series_uid}{form}")
    (write_series if form == "series" else write_ct)(path, ct)
    return path


def turned(ct: CtVolume, direction: NDArray[np.float64]) -> CtVolume:
    return replace(ct, geometry=replace(ct.geometry, direction=direction))


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("form", FORMATS)
def test_the_same_scan_is_the_same_array_in_every_format(
    tmp_path: Path, chest: CtVolume, form: str, direction: NDArray[np.float64]
) -> None:
    ct = turned(chest, direction)
    is_right_handed = np.linalg.det(direction) > 0
    found = read_ct(write_as(tmp_path, form, ct))
    np.testing.assert_array_equal(found.hu, ct.hu if is_right_handed else ct.hu[::-1])


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("form", FORMATS)
def test_every_voxel_keeps_its_place_in_every_format(
    tmp_path: Path, chest: CtVolume, form: str, direction: NDArray[np.float64]
) -> None:
    ct = turned(chest, direction)
    found = read_ct(write_as(tmp_path, form, ct))
    corners_irc = np.array(list(np.ndindex(2, 2, 2))) * (np.array(ct.hu.shape) - 1)
    wanted_irc = corners_irc.copy()
    if np.linalg.det(direction) < 0:
        wanted_irc[:, 0] = len(ct.hu) - 1 - wanted_irc[:, 0]
    np.testing.assert_allclose(found.geometry.to_xyz(corners_irc), ct.geometry.to_xyz(wanted_irc), atol=1e-4)


@pytest.mark.parametrize("form", FORMATS)
def test_the_series_uid_is_kept_in_every_format(tmp_path: Path, chest: CtVolume, form: str) -> None:
    assert read_ct(write_as(tmp_path, form, chest)).series_uid == chest.series_uid


@pytest.mark.parametrize("form", WRITABLE)
def test_integers_stay_int16(tmp_path: Path, random_ct: CtVolume, form: str) -> None:
    assert read_ct(write_as(tmp_path, form, random_ct)).hu.dtype == np.int16


@pytest.mark.parametrize("form", WRITABLE)
def test_float_hu_stay_what_they_are(tmp_path: Path, ct: CtVolume, form: str) -> None:
    ct.hu[3, 4, 5] = 12.345
    assert read_ct(write_as(tmp_path, form, ct)).hu[3, 4, 5] == np.float32(12.345)


def test_integers_beyond_int16_become_float(tmp_path: Path, random_ct: CtVolume) -> None:
    voxels = random_ct.hu.astype(np.int32)
    voxels[0, 0, 0] = 40_000
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "a.mha"))
    assert read_ct(tmp_path / "a.mha").hu[0, 0, 0] == np.float32(40_000)


def test_padding_becomes_minus_1024(tmp_path: Path, random_ct: CtVolume) -> None:
    random_ct.hu[0] = -3024
    assert read_ct(write_as(tmp_path, ".mha", random_ct)).hu.min() == -1024


def test_compressed_metaimage_is_read(tmp_path: Path, random_ct: CtVolume) -> None:
    image = sitk.GetImageFromArray(random_ct.hu)
    sitk.WriteImage(image, str(tmp_path / "a.mhd"), useCompression=True)
    assert (tmp_path / "a.zraw").exists()
    np.testing.assert_array_equal(read_ct(tmp_path / "a.mhd").hu, random_ct.hu)


def test_nrrd_with_detached_header_is_read(tmp_path: Path, random_ct: CtVolume) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(random_ct.hu), str(tmp_path / "a.nhdr"))
    np.testing.assert_array_equal(read_ct(tmp_path / "a.nhdr").hu, random_ct.hu)


def test_joined_gzip_files_are_one(tmp_path: Path, random_ct: CtVolume) -> None:
    content = write_as(tmp_path, ".nii", random_ct).read_bytes()
    joined = gzip.compress(content[:3000]) + gzip.compress(content[3000:])
    (tmp_path / "a.nii.gz").write_bytes(joined)
    np.testing.assert_array_equal(read_ct(tmp_path / "a.nii.gz").hu, random_ct.hu)


def test_a_suffix_in_capitals_is_known(tmp_path: Path, random_ct: CtVolume) -> None:
    write_as(tmp_path, ".nii.gz", random_ct).rename(tmp_path / "1.2.3.NII.GZ")
    assert read_ct(tmp_path / "1.2.3.NII.GZ").series_uid == "1.2.3"


@pytest.mark.parametrize("order", "<>")
def test_nifti_ras_is_read_as_lps(tmp_path: Path, random_ct: CtVolume, order: str) -> None:
    """Bytes by hand, after the standard: voxel (i, j, k) at RAS (-60 + 0.7 i, -50 + 0.8 j, 30 + 2 k)."""
    hu = random_ct.hu
    header = bytearray(352)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, 3, *hu.shape[::-1], 1, 1, 1, 1)
    struct.pack_into(f"{order}2h", header, 70, 4, 16)
    struct.pack_into(f"{order}8f", header, 76, 1, 0.7, 0.8, 2, 0, 0, 0, 0)
    struct.pack_into(f"{order}2f", header, 108, 352, 1)
    header[123] = 2  # mm
    struct.pack_into(f"{order}2h", header, 252, 0, 1)  # the sform holds
    struct.pack_into(f"{order}12f", header, 280, 0.7, 0, 0, -60, 0, 0.8, 0, -50, 0, 0, 2, 30)
    header[344:348] = b"n+1\0"
    (tmp_path / "a.nii").write_bytes(bytes(header) + hu.astype(f"{order}i2").tobytes())
    found = read_ct(tmp_path / "a.nii")
    np.testing.assert_allclose(found.geometry.to_xyz([3, 4, 5]), [60 - 3.5, 50 - 3.2, 36], atol=1e-5)


def test_luna16_header_is_read(tmp_path: Path, random_ct: CtVolume) -> None:
    """A header as LUNA16 has it, with its own order of keys."""
    depth, height, width = random_ct.hu.shape
    (tmp_path / "1.2.3.raw").write_bytes(random_ct.hu.astype("<i2").tobytes())
    (tmp_path / "1.2.3.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        "CompressedData = False\nTransformMatrix = -1 0 0 0 -1 0 0 0 1\nOffset = 90 80 -200.5\n"
        "CenterOfRotation = 0 0 0\nAnatomicalOrientation = RAI\nElementSpacing = 0.7 0.8 1.25\n"
        f"DimSize = {width} {height} {depth}\nElementType = MET_SHORT\nElementDataFile = 1.2.3.raw\n"
    )
    found = read_ct(tmp_path / "1.2.3.mhd")
    np.testing.assert_allclose(found.geometry.to_xyz([2, 3, 4]), [90 - 2.8, 80 - 2.4, -198])


def test_simpleitk_reads_the_pair_that_is_written(tmp_path: Path, chest: CtVolume) -> None:
    ct = turned(chest, DIRECTIONS["oblique"])
    image = sitk.ReadImage(str(write_as(tmp_path, ".mhd", ct)))
    index_crs = (40, 30, 7)
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint(index_crs), ct.geometry.to_xyz(index_crs[::-1]), atol=1e-9
    )


@pytest.mark.parametrize("form", WRITABLE)
def test_only_the_scan_is_left_in_the_folder(tmp_path: Path, random_ct: CtVolume, form: str) -> None:
    write_as(tmp_path, form, random_ct)
    wanted = {f"1.2.3{form}", "1.2.3.raw"} if form == ".mhd" else {f"1.2.3{form}"}
    assert {p.name for p in tmp_path.iterdir()} == wanted


@pytest.mark.parametrize("form", WRITABLE)
def test_a_scan_is_written_over(tmp_path: Path, random_ct: CtVolume, form: str) -> None:
    write_as(tmp_path, form, random_ct)
    smaller = replace(random_ct, hu=random_ct.hu[:9])
    np.testing.assert_array_equal(read_ct(write_as(tmp_path, form, smaller)).hu, smaller.hu)


@pytest.mark.parametrize("form", FORMATS)
def test_unwritable_output_is_refused(tmp_path: Path, random_ct: CtVolume, form: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LunaError, match="cannot be written"):
        write_as(tmp_path / "file", form, random_ct)


def test_an_unknown_suffix_is_not_written(tmp_path: Path, random_ct: CtVolume) -> None:
    with pytest.raises(LunaError, match=r"unknown suffix '\.png'; expected one of \.mhd"):
        write_ct(tmp_path / "a.png", random_ct)


@pytest.mark.parametrize("form", WRITABLE)
def test_a_mask_comes_back(tmp_path: Path, ct: CtVolume, form: str) -> None:
    write_mask(tmp_path / f"mask{form}", ct.hu > 0, ct.geometry)
    mask, _ = read_mask(tmp_path / f"mask{form}")
    np.testing.assert_array_equal(mask, ct.hu > 0)


def test_a_mask_keeps_its_place(tmp_path: Path, ct: CtVolume) -> None:
    write_mask(tmp_path / "mask.nii.gz", ct.hu > 0, ct.geometry)
    _, geometry = read_mask(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(geometry.to_xyz([5, 7, 9]), ct.geometry.to_xyz([5, 7, 9]), atol=1e-4)


def test_a_mask_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"mask\.mha: not there"):
        read_mask(tmp_path / "mask.mha")


def test_lung1s_mask_lies_on_lung1(shared_data: Path) -> None:
    ct = read_ct(shared_data / "ct" / "lung1.mha")
    mask, geometry = read_mask(shared_data / "ct" / "lung1_nodule.nii.gz")
    center_xyz = geometry.to_xyz(np.argwhere(mask).mean(0))
    assert ct.hu[tuple(np.round(ct.geometry.to_irc(center_xyz)).astype(int))] > -200
