"""Slices of a series become one even stack: copies count once, mixed stacks are told apart."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io import read_ct, write_series
from p2ch_luna.io.dicom import choose_series, read_dicom
from support.dicom_files import TAGS, retag, small_ct, write_dicom


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dicom(tmp_path / "ct")


def add_phase(folder: Path, n: int = 12, **tags: Any) -> None:
    """More slices of the same series at the same places, of other HU and with uids of their own."""
    ct = small_ct(n)
    write_series(folder / "more", replace(ct, hu=-1 - ct.hu))
    retag(folder / "more", SOPInstanceUID=lambda k: f"1.7.{k + 1}", **{**TAGS, **tags})
    for path in (folder / "more").iterdir():
        path.rename(folder / f"more-{path.name}")
    (folder / "more").rmdir()


def test_a_copy_of_a_slice_counts_once(folder: Path) -> None:
    shutil.copy(folder / "0005.dcm", folder / "copy.dcm")
    scan = read_dicom(folder)
    np.testing.assert_array_equal(scan.ct.hu, small_ct().hu)
    assert scan.warnings == ("slices that are there twice, each read once: 1",)


def test_the_same_pixels_at_the_same_place_count_once_under_two_uids(folder: Path) -> None:
    shutil.copytree(folder, folder / "again")
    retag(folder / "again", SOPInstanceUID=lambda k: f"1.7.{k + 1}")
    scan = read_dicom(folder)
    np.testing.assert_array_equal(scan.ct.hu, small_ct().hu)
    assert scan.warnings == ("slices with the same place and pixels as another, each read once: 12",)


def test_slices_that_all_have_one_uid_are_all_read(folder: Path) -> None:
    retag(folder, SOPInstanceUID="1.7")
    np.testing.assert_array_equal(read_ct(folder).hu, small_ct().hu)


@pytest.mark.parametrize(
    ("tag", "name", "first", "second"),
    [
        ("ImageType", "image type", ["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "PRIMARY", "AXIAL"]),
        ("AcquisitionNumber", "acquisition number", "1", "2"),
        ("TemporalPositionIdentifier", "temporal position", "1", "2"),
        ("TriggerTime", "trigger time", "100", "300.5"),
        ("AcquisitionTime", "acquisition time", "101500", "101730"),
    ],
)
def test_two_phases_are_told_apart_and_the_first_is_read(
    folder: Path, tag: str, name: str, first: Any, second: Any
) -> None:
    retag(folder, **{tag: first})
    add_phase(folder, **{tag: second})
    scan = read_dicom(folder)
    np.testing.assert_array_equal(scan.ct.hu, small_ct().hu)
    assert scan.warnings == (
        f"the series mixes 2 sets of slices of different {name}: one of 12 slices was read, 24 are there",
    )


def test_the_phase_of_most_slices_is_read(folder: Path) -> None:
    retag(folder, AcquisitionNumber="1")
    add_phase(folder, 13, AcquisitionNumber="2")
    np.testing.assert_array_equal(read_ct(folder).hu, -1 - small_ct(13).hu)


def test_a_phase_with_a_slice_missing_is_not_read(folder: Path) -> None:
    retag(folder, AcquisitionNumber="1")
    add_phase(folder, 13, AcquisitionNumber="2")
    (folder / "more-0004.dcm").unlink()
    np.testing.assert_array_equal(read_ct(folder).hu, small_ct().hu)


def test_phases_that_no_tag_tells_apart_are_refused(folder: Path) -> None:
    add_phase(folder)
    with pytest.raises(LunaError, match=r"0001\.dcm and more-0001\.dcm lie at the same place .* and differ"):
        read_ct(folder)


def test_acquisitions_one_above_the_other_are_one_stack(folder: Path) -> None:
    retag(folder, AcquisitionNumber=lambda k: 1 + k // 6)
    assert read_ct(folder).hu.shape[0] == 12


def test_a_gap_between_two_acquisitions_is_refused_not_halved(tmp_path: Path) -> None:
    folder = write_dicom(tmp_path / "ct", small_ct(30), AcquisitionNumber=lambda k: 1 + k // 15)
    (folder / "0016.dcm").unlink()
    with pytest.raises(LunaError, match="slices missing: 1,"):
        read_ct(folder)


def test_a_localizer_among_the_slices_is_left_out(folder: Path) -> None:
    upright = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    write_dicom(
        folder / "scout", small_ct(1, direction=upright), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    scan = read_dicom(folder)
    assert (scan.ct.hu.shape[0], scan.warnings) == (12, ())


def test_reformats_in_the_series_of_the_slices_are_left_out_with_a_warning(folder: Path) -> None:
    upright = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    write_dicom(folder / "coronal", small_ct(9, direction=upright), SOPInstanceUID=lambda k: f"1.7.{k + 1}")
    scan = read_dicom(folder)
    np.testing.assert_array_equal(scan.ct.hu, small_ct().hu)
    assert scan.warnings[0].startswith(
        "the series mixes 2 sets of slices of different grid: one of 12 slices"
    )


def test_slices_missing_at_random_are_named(tmp_path: Path) -> None:
    """Of 40 slices 16 are left, in steps of 1 to 5: their median, 2, is not the spacing."""
    folder = write_dicom(tmp_path / "ct", small_ct(40))
    left = {1, 2, 4, 6, 9, 11, 13, 18, 20, 22, 25, 27, 31, 33, 35, 40}
    for k in set(range(1, 41)) - left:
        (folder / f"{k:04d}.dcm").unlink()
    with pytest.raises(
        LunaError, match=r"slices missing: 24, at \(-90\.00, -80\.00, -195\.00\), .*every 2\.5 mm"
    ):
        read_ct(folder)


def test_the_first_two_fifths_of_a_series_are_read(tmp_path: Path) -> None:
    folder = write_dicom(tmp_path / "ct", small_ct(40))
    for k in range(17, 41):
        (folder / f"{k:04d}.dcm").unlink()
    np.testing.assert_array_equal(read_ct(folder).hu, small_ct(40).hu[:16])


def test_slices_a_hair_apart_are_no_even_stack(folder: Path) -> None:
    places = [*range(11), 10.04]
    retag(folder, ImagePositionPatient=lambda k: [-90, -80, places[k]])
    with pytest.raises(LunaError, match=r"0\.04 to 1\.00 mm apart; expected one spacing"):
        read_ct(folder)


def test_only_headers_are_read_to_choose(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(path: Path) -> None:
        raise AssertionError(f"{path} was decoded")

    monkeypatch.setattr("p2ch_luna.io.dicom_stack.read_pixels", never)
    monkeypatch.setattr("p2ch_luna.io.dicom.read_pixels", never)
    assert choose_series(folder).stack.shape == (12, 10, 12)
