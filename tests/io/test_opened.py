"""Whatever a scan comes as, it opens as the same CT, with the numbers that a viewer shows."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import read_ct, write_ct
from p2ch_luna.io.opened import open_scan
from support.dicom_files import retag, small_ct, write_dicom


def zip_folder(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for file in folder.rglob("*"):
            zipped.write(file, f"download/{file.relative_to(folder)}")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dicom(tmp_path / "ct")


def test_a_folder_of_dicom(folder: Path) -> None:
    with open_scan(folder) as scan:
        np.testing.assert_array_equal(scan.ct.hu, small_ct().hu)
        assert (scan.name, scan.format, scan.warnings) == ("ct", "dicom", ())
        assert [facts.series_uid for facts in scan.series] == ["1.2.3"]


def test_dicom_files_and_instance_numbers_are_in_the_order_of_the_slices(folder: Path) -> None:
    retag(folder, InstanceNumber=lambda k: str(100 - k))
    for k, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"{(7 * k) % 12:02d}")
    with open_scan(folder) as scan:
        assert scan.slice_numbers == tuple(range(100, 88, -1))
        assert [path.name for path in scan.dicom_files] == [f"{(7 * k) % 12:02d}" for k in range(12)]


@pytest.mark.parametrize("number", [None, "7"])
def test_without_instance_numbers_slices_are_counted_from_1(folder: Path, number: str | None) -> None:
    retag(folder, InstanceNumber=number)
    with open_scan(folder) as scan:
        assert scan.slice_numbers == tuple(range(1, 13))


def test_the_series_that_was_read_is_the_first(folder: Path) -> None:
    write_dicom(folder / "thick", small_ct(40, 2.5, "1.2.4"))
    with open_scan(folder) as scan:
        assert [facts.series_uid for facts in scan.series] == ["1.2.4", "1.2.3"]
    with open_scan(folder, "1.2.3") as scan:
        assert [facts.series_uid for facts in scan.series] == ["1.2.3", "1.2.4"]


def test_a_zip_of_dicom_is_the_same_and_its_files_are_there_in_the_block(
    folder: Path, tmp_path: Path
) -> None:
    path = zip_folder(folder, tmp_path / "scan.zip")
    with open_scan(path) as scan:
        np.testing.assert_array_equal(scan.ct.hu, small_ct().hu)
        assert (scan.name, scan.format) == ("scan.zip", "dicom")
        assert all(file.is_file() for file in scan.dicom_files)
    assert not any(file.exists() for file in scan.dicom_files)
    np.testing.assert_array_equal(read_ct(path).hu, small_ct().hu)


def test_an_error_of_what_a_zip_holds_names_the_zip(folder: Path, tmp_path: Path) -> None:
    (folder / "0005.dcm").unlink()
    path = zip_folder(folder, tmp_path / "scan.zip")
    with pytest.raises(LunaError, match=rf"^{path}: slices missing: 1"), open_scan(path):
        pass


@pytest.mark.parametrize("suffix", [".mhd", ".nii.gz"])
def test_a_zip_and_a_folder_of_one_volume_are_that_volume(tmp_path: Path, suffix: str) -> None:
    write_ct(tmp_path / "scan" / f"1.2.3{suffix}", small_ct())
    for path in (tmp_path / "scan", zip_folder(tmp_path / "scan", tmp_path / "scan.zip")):
        with open_scan(path) as scan:
            np.testing.assert_array_equal(scan.ct.hu, small_ct().hu)
            assert (scan.name, scan.format, scan.ct.series_uid) == (path.name, suffix, "1.2.3")
            assert (scan.series, scan.dicom_files) == ((), ())


def test_labels_beside_a_volume_are_no_second_one(tmp_path: Path) -> None:
    write_ct(tmp_path / "a.mhd", small_ct())
    write_ct(tmp_path / "nodules.nii.gz", small_ct())
    assert read_ct(tmp_path).series_uid == "a"


def put_results(folder: Path) -> None:
    """What a diagnosis leaves, as far as it could be taken for a scan."""
    for name in ("nodules.nii.gz", "lungs.nii.gz"):
        write_ct(folder / name, small_ct())
    for name in ("report.json", "detections.csv"):
        (folder / name).touch()


def test_results_and_masks_beside_a_volume_are_no_second_one(tmp_path: Path) -> None:
    write_ct(tmp_path / "ct.mha", small_ct())
    write_ct(tmp_path / "ct_mask.nii.gz", small_ct())
    put_results(tmp_path / "out")
    put_results(tmp_path)
    assert read_ct(tmp_path).series_uid == "ct"


def test_a_mask_beside_the_volume_in_a_zip_is_not_the_scan(tmp_path: Path) -> None:
    write_ct(tmp_path / "scan" / "ct.mha", small_ct())
    write_ct(tmp_path / "scan" / "ct_mask.nii.gz", small_ct())
    assert read_ct(zip_folder(tmp_path / "scan", tmp_path / "scan.zip")).series_uid == "ct"


def test_a_folder_with_only_a_zip_is_that_zip(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "download").mkdir()
    zip_folder(folder, tmp_path / "download" / "study.zip")
    with open_scan(tmp_path / "download") as scan:
        np.testing.assert_array_equal(scan.ct.hu, small_ct().hu)


def test_dicom_behind_a_link_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "series").symlink_to(folder)
    np.testing.assert_array_equal(read_ct(tmp_path / "p1").hu, small_ct().hu)


def test_an_error_of_a_volume_in_a_zip_names_the_zip(tmp_path: Path) -> None:
    write_ct(tmp_path / "scan" / "a.mha", small_ct())
    content = (tmp_path / "scan" / "a.mha").read_bytes()
    (tmp_path / "scan" / "a.mha").write_bytes(content[:-100])
    path = zip_folder(tmp_path / "scan", tmp_path / "scan.zip")
    with pytest.raises(LunaError, match=rf"^{path}/download/a\.mha: 2780 bytes; expected 2880"):
        read_ct(path)


@pytest.mark.parametrize("name", ["{outside}", "../../{outside}", "LIST", "C:s.raw", "a\\s.raw"])
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_volume_in_a_zip_does_not_lead_out_of_it(tmp_path: Path, suffix: str, name: str) -> None:
    outside = tmp_path / "s.raw"
    outside.write_bytes(small_ct().hu.tobytes())
    name = name.format(outside=outside)
    headers = {
        ".mhd": "NDims = 3\nDimSize = 12 10 12\nElementSpacing = 1 1 2.5\nElementType = MET_SHORT\n"
        f"ElementDataFile = {name}\n",
        ".nhdr": "NRRD0004\ntype: short\ndimension: 3\nsizes: 12 10 12\nencoding: raw\nendian: little\n"
        f"data file: {name}\n\n",
    }
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as zipped:
        zipped.writestr(f"a{suffix}", headers[suffix])
        zipped.writestr("LIST", "nothing")
    with pytest.raises(LunaError, match=r"its data file is '.*'; expected the name of a file beside"):
        read_ct(tmp_path / "scan.zip")


@pytest.mark.parametrize("folder", ["", "download/"])
def test_a_header_that_is_zipped_without_its_data_is_told_once(tmp_path: Path, folder: str) -> None:
    write_ct(tmp_path / "a.mhd", small_ct())
    with zipfile.ZipFile(tmp_path / "a.mhd.zip", "w") as zipped:
        zipped.write(tmp_path / "a.mhd", f"{folder}a.mhd")
    with pytest.raises(LunaError, match=r"^a\.mhd: its data file 'a\.raw' is not in the zip; .*both files"):
        read_ct(tmp_path / "a.mhd.zip")


def test_a_mask_beside_dicom_is_not_the_scan(folder: Path) -> None:
    write_ct(folder / "mask.nii.gz", small_ct())
    with open_scan(folder) as scan:
        assert scan.format == "dicom"


def test_a_folder_of_two_volumes_is_refused(tmp_path: Path) -> None:
    for name in ("a.mhd", "b.nii"):
        write_ct(tmp_path / name, small_ct())
    with pytest.raises(LunaError, match=r": 2 scans: a\.mhd, b\.nii; expected one: give its own path"):
        read_ct(tmp_path)


def test_one_file_of_dicom_is_refused_with_a_hint(folder: Path) -> None:
    path = (folder / "0001.dcm").rename(folder / "IM1")
    with pytest.raises(LunaError, match=r"IM1: no suffix; .*; for DICOM give the folder"):
        read_ct(path)


def test_slices_of_a_volume_are_counted_from_1(tmp_path: Path) -> None:
    write_ct(tmp_path / "a.mhd", small_ct())
    with open_scan(tmp_path / "a.mhd") as scan:
        assert (scan.slice_numbers, scan.is_reversed) == (tuple(range(1, 13)), False)


def test_slices_of_a_volume_that_runs_down_are_counted_in_the_order_of_the_file(tmp_path: Path) -> None:
    geometry = ImageGeometry(np.zeros(3), np.array([1.0, 1.0, 2.5]), np.diag([1.0, 1.0, -1.0]))
    write_ct(tmp_path / "a.mhd", replace(small_ct(), geometry=geometry))
    with open_scan(tmp_path / "a.mhd") as scan:
        np.testing.assert_array_equal(scan.ct.hu, small_ct().hu[::-1])
        assert (scan.slice_numbers, scan.is_reversed) == (tuple(range(12, 0, -1)), True)


def volume(step: float) -> CtVolume:
    return small_ct(12, step)


@pytest.mark.parametrize(
    ("step", "thickness", "says"),
    [
        (2.5, "2.5", ()),
        (2.5, "5", ()),
        (2.5, None, ()),
        (2.5, "2", ("slices are 2 mm thick and 2.5 mm apart: a nodule may lie in a gap",)),
        (1.0, "2.5", ("slices are 2.5 mm thick and 1 mm apart: they overlap by more than half",)),
        (5.0, "5", ("slices lie 5 mm apart: small nodules may be missed",)),
        (3.0, "6", ("slices are 6 mm thick: small nodules may be missed",)),
    ],
)
def test_slices_that_may_hide_nodules_are_told_of(
    tmp_path: Path, step: float, thickness: str | None, says: tuple[str, ...]
) -> None:
    with open_scan(write_dicom(tmp_path / "ct", volume(step), SliceThickness=thickness)) as scan:
        assert scan.warnings == says


def test_a_volume_of_wide_slices_is_told_of(tmp_path: Path) -> None:
    write_ct(tmp_path / "a.mhd", volume(10))
    with open_scan(tmp_path / "a.mhd") as scan:
        assert scan.warnings == ("slices lie 10 mm apart: small nodules may be missed",)


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="nowhere: not there"), open_scan(tmp_path / "nowhere"):
        pass
