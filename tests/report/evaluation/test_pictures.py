"""Pictures of missed nodules and false positives."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import read_ct, write_ct, write_series
from p2ch_luna.report.axial import SIDE_MM
from p2ch_luna.report.evaluation.pictures import (
    PIXELS_PER_MM,
    Place,
    find_cts,
    places_of,
    ringed_png,
    take_pictures,
)
from p2ch_luna.report.evaluation.run import Answer

MIDDLE = (20.0, 20.0, 20.0)


@pytest.fixture
def ct() -> CtVolume:
    """Lung with a bright ball of 8 mm in its middle."""
    irc = np.indices((41, 41, 41)) - 20
    hu = np.where((irc**2).sum(axis=0) <= 16, 100, -850).astype(np.int16)
    return CtVolume("1.2.1", hu, ImageGeometry.axial())


def test_places_are_those_that_the_page_shows(both: Answer) -> None:
    places = {(p.series_uid, p.center_xyz): p.diameter_mm for p in places_of(both.evaluation.all_scores)}
    assert places == {
        ("1.2.1", (0.0, 0.0, 0.0)): 5.0,
        ("1.2.2", (0.0, 90.0, 0.0)): 2.0,
        ("1.2.2", (0.0, 0.0, 0.0)): 25.0,
        ("1.2.1", (-70.0, 0.0, 0.0)): None,
        ("1.2.1", (-80.0, 0.0, 0.0)): None,
        ("1.2.2", (90.0, 0.0, 0.0)): None,
    }


def test_a_picture_shows_the_place_in_its_middle_and_a_ring(ct: CtVolume) -> None:
    pictures, problems = take_pictures([Place("1.2.1", MIDDLE, 8.0)], {"1.2.1": lambda: ct})
    assert problems == []
    image = Image.open(BytesIO(pictures["1.2.1", MIDDLE]))
    pixels = np.array(image).astype(int)
    side = SIDE_MM * PIXELS_PER_MM
    assert pixels.shape == (side, side, 3)
    assert pixels[91, 91].min() > 230  # the ball, near the window's white
    ring = np.argwhere((pixels[..., 0] > 200) & (pixels[..., 2] < 100))
    radius_mm = np.linalg.norm(ring - 91.5, axis=1) / PIXELS_PER_MM
    np.testing.assert_allclose(radius_mm, 7.0, atol=0.5)  # 3 mm beyond the nodule


def test_the_ring_of_a_mark_has_a_size_of_its_own() -> None:
    picture = np.full((SIDE_MM, SIDE_MM), -850, np.float32)
    assert ringed_png(picture, None) == ringed_png(picture, 6.0)
    assert ringed_png(picture, None) != ringed_png(picture, 8.0)


def test_a_scan_is_read_once(ct: CtVolume) -> None:
    reads = []

    def read() -> CtVolume:
        reads.append("1.2.1")
        return ct

    places = [Place("1.2.1", MIDDLE), Place("1.2.1", (18.0, 20.0, 20.0))]
    done: list[int] = []
    pictures, _ = take_pictures(places, {"1.2.1": read}, lambda: done.append(1))
    assert (len(pictures), len(reads), len(done)) == (2, 1, 1)


def test_a_scan_that_is_not_there_is_told() -> None:
    pictures, problems = take_pictures([Place("1.2.9", MIDDLE)], {})
    assert pictures == {}
    assert problems == ["no CT of 1 of 1 scan(s), such as 1.2.9: their places have no picture"]


def test_a_scan_that_cannot_be_read_is_told() -> None:
    def read() -> CtVolume:
        raise LunaError("a.mhd: cut short")

    pictures, problems = take_pictures([Place("1.2.1", MIDDLE)], {"1.2.1": read})
    assert (pictures, problems) == ({}, ["a.mhd: cut short; its 1 place(s) have no picture"])


def test_a_place_outside_its_ct_is_told(ct: CtVolume) -> None:
    far = Place("1.2.1", (5000.0, 0.0, 0.0))
    pictures, problems = take_pictures([far, Place("1.2.1", MIDDLE)], {"1.2.1": lambda: ct})
    assert list(pictures) == [("1.2.1", MIDDLE)]
    assert problems == ["1.2.1: (5000, 0, 0) lies outside its CT; it has no picture"]


def test_volumes_and_dicom_are_found_by_their_uids(ct: CtVolume, tmp_path: Path) -> None:
    write_ct(tmp_path / "volumes" / "1.2.1.mha", ct)
    write_series(tmp_path / "dicom" / "patient", CtVolume("1.2.77", ct.hu, ct.geometry))
    uid = read_ct(tmp_path / "dicom").series_uid
    found = find_cts([tmp_path / "volumes", tmp_path / "dicom"], ["1.2.1", uid])
    assert {name: read().series_uid for name, read in found.items()} == {"1.2.1": "1.2.1", uid: uid}


def test_a_single_file_will_do_and_others_are_passed_over(ct: CtVolume, tmp_path: Path) -> None:
    write_ct(tmp_path / "1.2.1.mha", ct)
    assert list(find_cts([tmp_path / "1.2.1.mha"], ["1.2.1"])) == ["1.2.1"]
    assert find_cts([tmp_path / "1.2.1.mha"], ["1.2.2"]) == {}


def test_luna16s_zips_are_read_in_place(tmp_path: Path, ct: CtVolume) -> None:
    write_ct(tmp_path / "unpacked" / "1.2.1.mhd", ct)
    with zipfile.ZipFile(tmp_path / "subset0.zip", "w") as zipped:
        for file in sorted((tmp_path / "unpacked").iterdir()):
            zipped.write(file, f"subset0/{file.name}")
    (read,) = find_cts([tmp_path / "subset0.zip"], ["1.2.1"]).values()
    assert read().hu[20, 20, 20] == 100


@pytest.mark.parametrize("name", ["none", "empty", "table.csv"])
def test_a_path_without_a_ct_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text(json.dumps({}))
    with pytest.raises(LunaError, match=name):
        find_cts([tmp_path / name], ["1.2.1"])
