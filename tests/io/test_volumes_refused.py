"""Volume files that are no whole, plausible CT: how to make each, and what its refusal says."""

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
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import read_ct, read_mask, write_ct, write_mask


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
