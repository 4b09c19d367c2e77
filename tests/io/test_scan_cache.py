"""Prepared scans on disk."""

from __future__ import annotations

import logging
import pickle
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import scan_cache
from p2ch_luna.io.scan_cache import ScanCache, scan_key
from p2ch_luna.lungs import PreparedCt

TILT = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture
def prepared() -> PreparedCt:
    """Noise of three different sides, its count of voxels no multiple of 8, tilted."""
    rng = np.random.default_rng(0)
    hu = rng.integers(-1024, 3071, (7, 9, 11), np.int16)
    geometry = ImageGeometry(np.array([-0.1, 20 / 3, 1e3]), np.array([0.7, 0.8, 1.25]), TILT)
    return PreparedCt(CtVolume("1.2.3", hu, geometry), rng.random(hu.shape) < 0.3, "no lungs found: ü")


def never() -> PreparedCt:
    raise AssertionError("made again")


def stored(folder: Path, prepared: PreparedCt) -> PreparedCt:
    """What comes back from the disk."""
    ScanCache(folder).get_or_make("key", lambda: prepared)
    return ScanCache(folder).get_or_make("key", never)


def value_file(folder: Path) -> Path:
    (path,) = folder.rglob("*.val")
    return path


@pytest.mark.parametrize(
    "part",
    [
        lambda p: p.ct.hu,
        lambda p: p.lung,
        lambda p: p.ct.geometry.origin_xyz,
        lambda p: p.ct.geometry.spacing_xyz,
        lambda p: p.ct.geometry.direction,
    ],
)
def test_an_array_comes_back_exactly(
    tmp_path: Path, prepared: PreparedCt, part: Callable[[PreparedCt], Any]
) -> None:
    found, wanted = part(stored(tmp_path, prepared)), part(prepared)
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype


@pytest.mark.parametrize("part", [lambda p: p.ct.series_uid, lambda p: p.warning])
def test_a_text_comes_back_exactly(
    tmp_path: Path, prepared: PreparedCt, part: Callable[[PreparedCt], str]
) -> None:
    assert part(stored(tmp_path, prepared)) == part(prepared)


def test_no_warning_stays_none(tmp_path: Path, prepared: PreparedCt) -> None:
    assert stored(tmp_path, replace(prepared, warning=None)).warning is None


def test_voxels_from_the_cache_can_be_written_to(tmp_path: Path, prepared: PreparedCt) -> None:
    assert stored(tmp_path, prepared).ct.hu.flags.writeable


def test_a_view_is_stored_in_its_own_order(tmp_path: Path, prepared: PreparedCt) -> None:
    flipped = replace(prepared, ct=replace(prepared.ct, hu=prepared.ct.hu[::-1]))
    np.testing.assert_array_equal(stored(tmp_path, flipped).ct.hu, flipped.ct.hu)


def test_float_voxels_are_refused_rather_than_rounded(tmp_path: Path, prepared: PreparedCt) -> None:
    floats = replace(prepared, ct=replace(prepared.ct, hu=prepared.ct.hu.astype(np.float32)))
    with pytest.raises(TypeError, match="int16"):
        ScanCache(tmp_path).get_or_make("key", lambda: floats)


def test_another_key_is_another_entry(tmp_path: Path, prepared: PreparedCt) -> None:
    other = replace(prepared, warning="other")
    stored(tmp_path, prepared)
    assert ScanCache(tmp_path).get_or_make("other", lambda: other).warning == "other"


@pytest.mark.parametrize("place", [0, 0.1, 0.5, 0.999])
def test_a_flipped_bit_makes_the_entry_again(tmp_path: Path, prepared: PreparedCt, place: float) -> None:
    stored(tmp_path, prepared)
    path = value_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    made = ScanCache(tmp_path).get_or_make("key", lambda: replace(prepared, warning="made again"))
    assert made.warning == "made again"


@pytest.mark.parametrize("length", [0, 5, 100])
def test_a_cut_entry_is_made_again(tmp_path: Path, prepared: PreparedCt, length: int) -> None:
    stored(tmp_path, prepared)
    path = value_file(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    made = ScanCache(tmp_path).get_or_make("key", lambda: replace(prepared, warning="made again"))
    assert made.warning == "made again"


def test_a_damaged_entry_is_told_in_the_log(
    tmp_path: Path, prepared: PreparedCt, caplog: pytest.LogCaptureFixture
) -> None:
    stored(tmp_path, prepared)
    value_file(tmp_path).write_bytes(b"?")
    with caplog.at_level(logging.WARNING):
        ScanCache(tmp_path).get_or_make("key", lambda: prepared)
    assert "entry key is damaged" in caplog.text


def test_what_was_made_again_is_stored(tmp_path: Path, prepared: PreparedCt) -> None:
    stored(tmp_path, prepared)
    value_file(tmp_path).write_bytes(b"?")
    np.testing.assert_array_equal(stored(tmp_path, prepared).ct.hu, prepared.ct.hu)


class Trap:
    """Its pickle, once loaded, leaves a file."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.sprung,)


@pytest.mark.parametrize("in_file", [True, False])
def test_a_pickle_put_into_the_cache_is_not_loaded(
    tmp_path: Path, prepared: PreparedCt, in_file: bool
) -> None:
    stored(tmp_path, prepared)
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    value_file(tmp_path).write_bytes(trap)
    with sqlite3.connect(tmp_path / "scans" / "cache.db") as database:
        if in_file:
            database.execute("UPDATE Cache SET mode = 4")
        else:
            database.execute("UPDATE Cache SET mode = 4, filename = NULL, value = ?", (trap,))
    database.close()
    ScanCache(tmp_path).get_or_make("key", lambda: prepared)
    assert not (tmp_path / "sprung").exists()


def test_the_folder_is_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir(mode=0o755)
    assert stat.S_IMODE(ScanCache(tmp_path).folder.stat().st_mode) == 0o700


def test_the_folder_given_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    ScanCache(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_by_default_scans_are_kept_in_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_cache.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    assert ScanCache().folder == tmp_path / "p2ch-luna" / "scans"


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "scans").touch()
    with pytest.raises(LunaError, match="scans: File exists; expected a folder"):
        ScanCache(tmp_path)


def test_a_database_that_is_none_is_an_error(tmp_path: Path) -> None:
    cache = ScanCache(tmp_path)
    (cache.folder / "cache.db").write_bytes(b"not SQLite" * 1000)
    with pytest.raises(LunaError, match=r"scans: .*; expected a cache"):
        cache.get_or_make("key", never)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A .mhd whose data file has another name."""
    (tmp_path / "voxels.bin").write_bytes(bytes(64))
    path = tmp_path / "scan.mhd"
    path.write_text("ObjectType = Image\nElementDataFile = voxels.bin\n")
    return path


def test_the_key_of_the_same_scan_is_the_same_elsewhere(scan: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "scan.mhd"
    copy.parent.mkdir()
    copy.write_bytes(scan.read_bytes())
    copy.with_name("voxels.bin").write_bytes(bytes(64))
    assert scan_key(copy, 1, 10) == scan_key(scan, 1.0, 10.0)


@pytest.mark.parametrize("parameters", [(1.5, 10), (1, 12), (10, 1)])
def test_parameters_change_the_key(scan: Path, parameters: tuple[float, float]) -> None:
    assert scan_key(scan, *parameters) != scan_key(scan, 1, 10)


def test_the_version_changes_the_key(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = scan_key(scan, 1, 10)
    monkeypatch.setattr(scan_cache, "PREPARE_VERSION", -1)
    assert scan_key(scan, 1, 10) != before


def test_the_data_file_changes_the_key(scan: Path) -> None:
    before = scan_key(scan, 1, 10)
    scan.with_name("voxels.bin").write_bytes(bytes(63) + b"\1")
    assert scan_key(scan, 1, 10) != before


def test_the_name_changes_the_key_for_it_is_the_series_uid(scan: Path) -> None:
    before = scan_key(scan, 1, 10)
    assert scan_key(scan.rename(scan.with_name("other.mhd")), 1, 10) != before


def test_a_slice_below_a_folder_changes_its_key(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a", "deep/b"):
        (tmp_path / name).write_bytes(b"same")
    before = scan_key(tmp_path, 1, 10)
    (tmp_path / "deep" / "b").write_bytes(b"Same")
    assert scan_key(tmp_path, 1, 10) != before


def test_a_scan_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"absent\.mha: cannot be read: No such file"):
        scan_key(tmp_path / "absent.mha", 1, 10)
