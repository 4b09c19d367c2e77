"""examples/browser: scans are read as in Python, or refused where that might be otherwise."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from p2ch_luna.io import read_ct, write_ct
from support.browser_site import refusal, run_steps
from support.dicom_files import small_ct, write_dicom

pytestmark = pytest.mark.slow

TILT = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]
PIXDIM, UNITS, QFORM, SFORM, ROWS = 80, 123, 252, 254, (280, 296, 312)  # where a NIfTI header has them

Change = Callable[[bytearray], None]


def check_same(site: Path, scan: Path) -> None:
    """JavaScript reads the same HU at the same places."""
    out = scan.parent / "out"
    facts, ct = run_steps(site, scan, out), read_ct(scan)
    np.testing.assert_array_equal(np.fromfile(out / "hu.raw", np.float32), ct.hu.ravel())
    np.testing.assert_allclose(facts["geometry"]["origin"], ct.geometry.origin_xyz, atol=1e-3)
    np.testing.assert_allclose(facts["geometry"]["spacing"], ct.geometry.spacing_xyz, atol=1e-5)
    np.testing.assert_allclose(facts["geometry"]["direction"], ct.geometry.direction, atol=1e-5)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.mha", "scan.nrrd"])
def test_formats_give_the_same_scan(site: Path, tmp_path: Path, name: str) -> None:
    write_ct(tmp_path / name, small_ct(direction=TILT))
    check_same(site, tmp_path / name)


def put(form: str, at: int, *values: float) -> Change:
    return lambda header: struct.pack_into(f"<{form}", header, at, *values)


def scaled(factor: float, *places: int) -> Change:
    """Change the floats at these places."""

    def change(header: bytearray) -> None:
        for at in places:
            struct.pack_into("<f", header, at, factor * struct.unpack_from("<f", header, at)[0])

    return change


def patched(folder: Path, *changes: Change) -> Path:
    """A NIfTI of a tilted CT whose qform and sform are the same, then changed."""
    path = folder / "scan.nii"
    write_ct(path, small_ct(direction=TILT))
    file = bytearray(path.read_bytes())
    for change in changes:
        change(file)
    path.write_bytes(file)
    return path


PLACES = [PIXDIM, PIXDIM + 4, PIXDIM + 8, 268, 272, 276, *(at + 4 * k for at in ROWS for k in range(4))]


@pytest.mark.parametrize(
    "changes",
    [
        [put("h", QFORM, 0)],
        [put("h", SFORM, 0)],
        [put("h", SFORM, 2)],
        [put("B", UNITS, 0)],
        [put("B", UNITS, 1), scaled(1e-3, *PLACES)],
        [put("B", UNITS, 3), scaled(1e3, *PLACES)],
    ],
    ids=["sform", "qform", "another sform code", "no unit", "metres", "microns"],
)
def test_a_nifti_header_means_what_it_does_in_python(
    site: Path, tmp_path: Path, changes: list[Change]
) -> None:
    check_same(site, patched(tmp_path, *changes))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ([put("h", QFORM, 0), put("h", SFORM, 0)], "does not tell how it lies in the patient"),
        ([scaled(1.1, ROWS[0] + 12)], "qform and sform lay it into the patient in two ways"),
        ([scaled(-1, ROWS[2], ROWS[2] + 4, ROWS[2] + 8)], "qform and sform lay it into the patient in two"),
        ([put("h", QFORM, 0), scaled(1.5, PIXDIM)], "pixdim and sform tell of two spacings"),
    ],
    ids=["neither", "shifted", "mirrored", "scaled"],
)
def test_a_nifti_that_lies_in_two_places_or_in_none_is_refused(
    site: Path, tmp_path: Path, changes: list[Change], complaint: str
) -> None:
    assert complaint in refusal(site, patched(tmp_path, *changes))


def resaved(folder: Path, syntax: str) -> Path:
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        if syntax == RLELossless:
            dataset.compress(syntax)
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.save_as(path)
    return folder


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_dicom_series_is_read_as_python_reads_it(site: Path, tmp_path: Path, syntax: str) -> None:
    check_same(site, resaved(write_dicom(tmp_path / "series", small_ct(direction=TILT)), syntax))


def test_a_compressed_series_is_refused(site: Path, tmp_path: Path) -> None:
    series = resaved(write_dicom(tmp_path / "series"), RLELossless)
    assert f"its voxels are compressed ({RLELossless})" in refusal(site, series)


@pytest.mark.parametrize(
    ("tags", "complaint"),
    [
        (
            {"ImagePositionPatient": lambda k: [-90, -80 + 0.3 * k, -200 + 2.5 * k]},
            "slices shift sideways by 3.3 mm (tilted gantry); wanted a straight stack",
        ),
        (
            {"PixelSpacing": lambda k: [1.0, 0.9] if k == 5 else [1.0, 1.0]},
            "slices differ in size, direction or pixel spacing",
        ),
        ({"SamplesPerPixel": 3}, "0001.dcm: 3 values a pixel; wanted one, of HU"),
    ],
    ids=["gantry", "spacing", "colours"],
)
def test_a_dicom_series_that_is_no_straight_stack_is_refused(
    site: Path, tmp_path: Path, tags: dict[str, Any], complaint: str
) -> None:
    assert complaint in refusal(site, write_dicom(tmp_path / "series", **tags))


HEADER_BYTES = {"scan.nii": 352, "scan.mha": -2880, "scan.nrrd": -2880, "scan.nii.gz": 10, "scan.raw": 0}
NO_HEADER = {
    "scan.nii": "{} bytes; wanted a NIfTI file, whose header has 352",
    "scan.nii.gz": "{} bytes; wanted a NIfTI file, whose header has 352",
    "scan.mha": "no MetaImage header; wanted lines 'Key = value' up to ElementDataFile",
    "scan.mhd": "no MetaImage header; wanted lines 'Key = value' up to ElementDataFile",
    "scan.nrrd": "no NRRD header; wanted 'NRRD', then lines 'key: value' up to an empty one",
}
NO_VOXELS = {
    "scan.nii": "0 bytes of voxels; wanted 2880 by its header: the file is cut short",
    "scan.nii.gz": "its voxels cannot be unpacked; wanted a file that is not damaged or cut short",
    "scan.mha": "0 bytes of voxels; wanted 2880 by its header: the file is cut short",
    "scan.mhd": "0 bytes of voxels; wanted 2880 by its header: the file is cut short",
    "scan.nrrd": "0 bytes of voxels; wanted 2880 by its header: the file is cut short",
}


def cut(path: Path, n_bytes: int) -> None:
    """Leave so many bytes of a file; below 0: all but so many."""
    path.write_bytes(path.read_bytes()[:n_bytes])


@pytest.mark.parametrize("n_bytes", [0, 1])
@pytest.mark.parametrize("name", NO_HEADER)
def test_a_file_without_its_header_is_told(site: Path, tmp_path: Path, name: str, n_bytes: int) -> None:
    write_ct(tmp_path / name, small_ct())
    cut(tmp_path / name, n_bytes)
    assert f"Error: {NO_HEADER[name].format(n_bytes)}\n" in refusal(site, tmp_path)


@pytest.mark.parametrize("name", NO_VOXELS)
def test_a_header_without_voxels_is_told(site: Path, tmp_path: Path, name: str) -> None:
    write_ct(tmp_path / name, small_ct())
    data = name.replace(".mhd", ".raw")
    cut(tmp_path / data, HEADER_BYTES[data])
    assert f"Error: {NO_VOXELS[name]}\n" in refusal(site, tmp_path)


def test_an_empty_file_beside_a_dicom_series_is_passed_over(site: Path, tmp_path: Path) -> None:
    series = write_dicom(tmp_path / "series")
    cut(series / "0012.dcm", 0)
    check_same(site, series)


@pytest.mark.parametrize(
    ("n_bytes", "complaint"),
    [
        (400, "0006.dcm: a CT image without voxels; wanted a whole one: the file is cut short"),
        (-200, "0006.dcm: 40 bytes of voxels; wanted 240: the file is cut short"),
    ],
    ids=["header", "voxels"],
)
def test_a_slice_that_is_cut_short_is_told(site: Path, tmp_path: Path, n_bytes: int, complaint: str) -> None:
    series = write_dicom(tmp_path / "series")
    cut(series / "0006.dcm", n_bytes)
    assert f"Error: {complaint}\n" in refusal(site, series)


@pytest.mark.parametrize(
    ("n_bytes", "complaint"),
    [
        (None, "1 slice of a DICOM series; wanted the folder with all of them"),
        (1, "no CT found; wanted NIfTI, MetaImage, NRRD, or the folder of a DICOM series"),
        (0, "no CT found; wanted NIfTI, MetaImage, NRRD, or the folder of a DICOM series"),
    ],
)
def test_a_single_dicom_file_is_told(site: Path, tmp_path: Path, n_bytes: int | None, complaint: str) -> None:
    slice_file = write_dicom(tmp_path / "series") / "0001.dcm"
    if n_bytes is not None:
        cut(slice_file, n_bytes)
    assert f"Error: {complaint}\n" in refusal(site, slice_file)
