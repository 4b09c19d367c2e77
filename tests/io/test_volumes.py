from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry, crop_box
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


@pytest.fixture
def random_ct(ct: CtVolume) -> CtVolume:
    """Values that do not compress, so that a file cut short lacks some of them."""
    hu = np.random.default_rng(0).integers(-1000, 1000, ct.hu.shape).astype(np.int16)
    return replace(ct, hu=hu)


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


def zeros_but_for_a_corner(sides: tuple[int, int, int]) -> NDArray[np.int16]:
    """HU that compress a thousandfold."""
    hu = np.full(sides, -1000, np.int16)
    hu[0, 0, 0] = 40
    return hu


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
def test_a_volume_that_blows_up_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """2 MB of which each format keeps less than 20 kB, refused from 1 MB on."""
    image = sitk.GetImageFromArray(zeros_but_for_a_corner((100, 100, 100)))
    sitk.WriteImage(image, str(tmp_path / name), useCompression=True)
    monkeypatch.setattr("p2ch_luna.io.whole.RATIO_FROM_BYTES", 1_000_000)
    with pytest.raises(LunaError, match=rf"{name}: over 0\.001 GB unpacked; expected 100 times its size at"):
        read_ct(tmp_path / name)


def test_a_header_that_states_a_huge_volume_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """NRRD of which only the sizes say 200 GB, as its data are not counted beforehand."""
    text = "NRRD0004\ntype: short\ndimension: 3\nsizes: 10000 10000 1000\nencoding: raw\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(text.encode() + bytes(1000))
    with pytest.raises(LunaError, match=r"a\.nrrd: over 0\.268 GB unpacked"):
        read_ct(tmp_path / "a.nrrd")


def test_a_mask_may_compress_as_it_likes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2ch_luna.io.whole.RATIO_FROM_BYTES", 1)
    write_mask(tmp_path / "a.nii.gz", np.ones((100, 100, 100), bool), ImageGeometry.axial((1.0, 1.0, 1.0)))
    assert read_mask(tmp_path / "a.nii.gz")[0].all()


def test_a_nrrd_header_without_an_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nhdr").write_text("NRRD0004\n" + "# no more\n" * 10_000 + "data file: /etc/hosts\n\n")
    with pytest.raises(LunaError, match=r"a\.nhdr: a NRRD header of over 65536 bytes"):
        read_ct(tmp_path / "a.nhdr")


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


# Bad input: how to make each, in a folder and from a good CT, and what the refusal must say.


def voxels_as(name: str, change: Callable[[NDArray[np.int16]], NDArray[np.generic]]) -> Callable[..., Path]:
    def make(folder: Path, ct: CtVolume) -> Path:
        sitk.WriteImage(sitk.GetImageFromArray(change(ct.hu)), str(folder / name))
        return folder / name

    return make


def cut_by(
    form: str, count: int, *, compressed: bool = False, data: str | None = None
) -> Callable[..., Path]:
    def make(folder: Path, ct: CtVolume) -> Path:
        path = folder / f"a{form}"
        sitk.WriteImage(sitk.GetImageFromArray(ct.hu), str(path), useCompression=compressed)
        cut = path if data is None else folder / data
        cut.write_bytes(cut.read_bytes()[:-count])
        return path

    return make


def damaged(form: str, data: str | None = None) -> Callable[..., Path]:
    def make(folder: Path, ct: CtVolume) -> Path:
        path = folder / f"a{form}"
        sitk.WriteImage(sitk.GetImageFromArray(ct.hu), str(path), useCompression=True)
        hit = path if data is None else folder / data
        content = bytearray(hit.read_bytes())
        content[len(content) // 2 :][:50] = content[len(content) // 2 : len(content) // 2 + 50] = bytes(50)
        hit.write_bytes(bytes(content))
        return path

    return make


def text_as(name: str, text: str = "hello, this is a text\n") -> Callable[..., Path]:
    def make(folder: Path, ct: CtVolume) -> Path:  # noqa: ARG001
        (folder / name).write_text(text)
        return folder / name

    return make


def header_with(old: str, new: str) -> Callable[..., Path]:
    def make(folder: Path, ct: CtVolume) -> Path:
        path = folder / "a.mhd"
        write_ct(path, replace(ct, geometry=ImageGeometry.axial((0.7, 0.8, 1.25))))
        changed = path.read_text().replace(old, new)
        assert changed != path.read_text()
        path.write_text(changed)
        return path

    return make


def without_raw(folder: Path, ct: CtVolume) -> Path:
    write_ct(folder / "a.mhd", ct)
    (folder / "a.raw").unlink()
    return folder / "a.mhd"


def colours(folder: Path, ct: CtVolume) -> Path:
    channel = sitk.GetImageFromArray(ct.hu)
    sitk.WriteImage(sitk.Compose(channel, channel, channel), str(folder / "rgb.mha"))
    return folder / "rgb.mha"


def two_times(folder: Path, ct: CtVolume) -> Path:
    image = sitk.GetImageFromArray(ct.hu)
    sitk.WriteImage(sitk.JoinSeries(image, image), str(folder / "4d.nii.gz"))
    return folder / "4d.nii.gz"


def origin_nan(folder: Path, ct: CtVolume) -> Path:
    path = folder / "a.nii"
    write_ct(path, ct)
    content = bytearray(path.read_bytes())
    for at in (268, 292):  # in the qform and in the sform
        struct.pack_into("<f", content, at, np.nan)
    path.write_bytes(bytes(content))
    return path


def not_gzip(folder: Path, ct: CtVolume) -> Path:
    write_ct(folder / "a.nii.gz", ct)
    (folder / "a.nii.gz").write_bytes(gzip.compress(b"no NIfTI" * 100))
    return folder / "a.nii.gz"


def with_value(value: float) -> Callable[[NDArray[np.int16]], NDArray[np.float32]]:
    def change(hu: NDArray[np.int16]) -> NDArray[np.float32]:
        changed = hu.astype(np.float32)
        changed[1, 2, 3] = value
        return changed

    return change


BAD = {
    "raw missing": (without_raw, r"a\.mhd: its data file 'a\.raw' is not there"),
    "raw cut short": (cut_by(".mhd", 100, data="a.raw"), r"a\.raw: 7580 bytes; expected 7680"),
    "zraw cut short": (cut_by(".mhd", 999, compressed=True, data="a.zraw"), r"a\.zraw: .*end too early"),
    "zraw damaged": (damaged(".mhd", "a.zraw"), r"a\.zraw: damaged"),
    "mha cut short": (cut_by(".mha", 100), r"a\.mha: 7580 bytes; expected 7680"),
    "mha damaged": (damaged(".mha"), r"a\.mha: damaged"),
    "mha cut in its header": (cut_by(".mha", 7800), r"a\.mha: not a MetaImage header"),
    "nii cut short": (cut_by(".nii", 3), r"a\.nii: 8029 bytes; expected 8032"),
    "nii.gz cut short": (cut_by(".nii.gz", 100), r"a\.nii\.gz: .*end too early"),
    "nii.gz damaged": (damaged(".nii.gz"), r"a\.nii\.gz: damaged"),
    "nii.gz of something else": (not_gzip, r"a\.nii\.gz: not a NIfTI header"),
    "nrrd cut short": (cut_by(".nrrd", 100), r"a\.nrrd: cannot be read as \.nrrd: .* got only"),
    "nrrd damaged": (damaged(".nrrd"), r"a\.nrrd: damaged"),
    "nhdr without data": (text_as("a.nhdr", "NRRD0004\ndata file: b.raw\n\n"), r"'b\.raw' is not there"),
    "text called mhd": (text_as("a.mhd"), r"a\.mhd: not a MetaImage header; expected lines"),
    "text called nii": (text_as("a.nii"), r"a\.nii: not a NIfTI header"),
    "text called nii.gz": (text_as("a.nii.gz"), r"a\.nii\.gz: damaged"),
    "text called nrrd": (text_as("a.nrrd"), r"a\.nrrd: not a NRRD header"),
    "empty mhd": (text_as("a.mhd", ""), r"a\.mhd: not a MetaImage header"),
    "empty nii.gz": (text_as("a.nii.gz", ""), r"a\.nii\.gz: .*end too early"),
    "no size": (header_with("DimSize", "DimSighs"), r"a\.mhd: not a MetaImage header: 'DimSize'"),
    "no spacing": (header_with("ElementSpacing = 0.7 0.8 1.25\n", ""), r"a\.mhd: .*no ElementSpacing"),
    "spacing 0": (
        header_with("= 0.7 0.8 1.25", "= 0.7 0.8 0"),
        r"ElementSpacing is 0\.7 0\.8 0; expected pos",
    ),
    "spacing text": (header_with("= 0.7 0.8 1.25", "= a b c"), r"ElementSpacing is a b c; expected num"),
    "skewed axes": (header_with("= 1.0 0.0", "= 1.0 0.5"), r"a\.mhd: direction must be orthonormal"),
    "origin NaN": (
        header_with("Offset = 0.0", "Offset = nan"),
        r"a\.mhd: Offset is nan 0\.0 0\.0; expected num",
    ),
    "origin NaN in nii": (origin_nan, r"a\.nii: NaN in the header's place"),
    "not there": (lambda folder, _: folder / "no.mhd", r"no\.mhd: not there; expected"),
    "unknown suffix": (text_as("a.png"), r"unknown suffix '\.png'; expected one of \.mhd, \.mha, \.nii\.gz"),
    "no suffix": (text_as("scan"), r"scan: no suffix; expected one of \.mhd"),
    "one DICOM file": (text_as("a.dcm"), r"for DICOM give the folder"),
    "2-D": (voxels_as("a.mha", lambda hu: hu[3]), r"a\.mha: a 2-D image of 20 x 16; expected a 3-D"),
    "4-D": (two_times, r"4d\.nii\.gz: a 4-D image of 20 x 16 x 12 x 2; expected a 3-D"),
    "colour": (colours, r"rgb\.mha: 3 values a voxel"),
    "3 slices": (voxels_as("a.mha", lambda hu: hu[:3]), r"a\.mha: 3 slices of 16 x 20 .* at least 8"),
    "1 slice": (voxels_as("a.mha", lambda hu: hu[:1]), r"a\.mha: 1 slice of 16 x 20 voxels; expected at"),
    "NaN": (voxels_as("a.mha", with_value(np.nan)), r"a\.mha: voxels that are NaN or infinite: 1"),
    "NaN in nii": (voxels_as("a.nii", with_value(np.nan)), r"a\.nii: voxels that are NaN or infinite: 1"),
    "NaN in nii.gz": (
        voxels_as("a.nii.gz", with_value(np.nan)),
        r"a\.nii\.gz: voxels that are NaN or infinite: 1",
    ),
    "infinite": (voxels_as("a.mha", with_value(-np.inf)), r"a\.mha: voxels that are NaN or infinite: 1"),
    "all air": (voxels_as("a.mha", lambda hu: np.full_like(hu, -1000)), r"all air, values from -1000"),
    "not HU": (voxels_as("a.mha", lambda hu: hu + 1024), r"values from 2[45] to .*; expected HU"),
    "tiny": (header_with("= 0.7 0.8 1.25", "= 0.1 0.8 1.25"), r"the volume is 15 x 12\.8 x 2 mm; expected"),
}


@pytest.mark.parametrize(("make", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(
    tmp_path: Path,
    random_ct: CtVolume,
    capfd: pytest.CaptureFixture[str],
    make: Callable[[Path, CtVolume], Path],
    says: str,
) -> None:
    path = make(tmp_path, random_ct)
    with pytest.raises(LunaError, match=says) as caught:
        read_ct(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # nothing leaks from the libraries beneath


def test_a_volume_wider_than_any_scanner_is_refused(tmp_path: Path) -> None:
    """As where a spacing is given in other units: it would be searched for hours."""
    hu = np.full((10, 130, 130), -1000, np.int16)
    hu[:, 40:90, 40:90] = 40
    write_ct(tmp_path / "wide.mha", CtVolume("wide", hu, ImageGeometry.axial((20.0, 20.0, 5.0))))
    with pytest.raises(
        LunaError, match=r"wide\.mha: the volume is 50 x 2600 x 2600 mm; expected at most 1200"
    ):
        read_ct(tmp_path / "wide.mha")


def test_a_long_volume_is_read(tmp_path: Path) -> None:
    hu = np.full((130, 10, 12), -1000, np.int16)
    hu[:, 4:9, 4:9] = 40
    write_ct(tmp_path / "long.mha", CtVolume("long", hu, ImageGeometry.axial((30.0, 30.0, 10.0))))
    assert read_ct(tmp_path / "long.mha").hu.shape == (130, 10, 12)
