from __future__ import annotations

from pathlib import Path

import numpy as np

from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import read_ct, write_series
from p2ch_luna.io.dicom_folders import find_series


def series(folder: Path, uid: str = "1.2.3") -> str:
    """Write a small series; its uid as it is read again."""
    hu = np.full((8, 8, 8), -800, np.int16)
    hu[4] = 40
    write_series(folder, CtVolume(uid, hu, ImageGeometry.axial((1.0, 1.0, 2.0))))
    return read_ct(folder).series_uid


def test_series_in_folders_below_are_found_by_their_uids(tmp_path: Path) -> None:
    first, second = series(tmp_path / "patient1" / "ct"), series(tmp_path / "patient2", "1.2.4")
    assert find_series(tmp_path) == {first: tmp_path / "patient1" / "ct", second: tmp_path / "patient2"}


def test_other_files_before_the_slices_are_passed_over(tmp_path: Path) -> None:
    uid = series(tmp_path / "ct")
    (tmp_path / "ct" / "0-readme.txt").write_text("no DICOM")
    assert find_series(tmp_path / "ct") == {uid: tmp_path / "ct"}


def test_a_folder_without_dicom_has_no_series(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("seriesuid\n")
    assert find_series(tmp_path) == {}
