"""The file of one prepared scan, opened where it lies."""

from __future__ import annotations

import gc
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io import scan_file
from p2ch_luna.io.scan_file import (
    PREFIX,
    DamagedEntry,
    Storage,
    StoredScan,
    open_scan,
    verify_scan,
)
from p2ch_luna.io.scan_packing import pack_scan
from p2ch_luna.lungs import PLACES, PreparedCt, sample_places

WHOLE = (slice(None), slice(None), slice(None))
LONG_AGO = 1_000_000_000


@pytest.fixture(params=["blosc2", "raw"])
def storage(request: pytest.FixtureRequest) -> Storage:
    kind: Storage = request.param
    return kind


@pytest.fixture
def path(tmp_path: Path, prepared: PreparedCt, storage: Storage) -> Path:
    """The file of `prepared`, of a time long ago."""
    return written(tmp_path / "a.scan", prepared, storage)


def written(path: Path, prepared: PreparedCt, storage: Storage) -> Path:
    with path.open("wb") as file:
        pack_scan(prepared, storage).write(file)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


@pytest.mark.parametrize(
    "part",
    [
        lambda p: p.ct.hu,
        lambda p: p.lung,
        lambda p: p.ct.geometry.origin_xyz,
        lambda p: p.ct.geometry.spacing_xyz,
        lambda p: p.ct.geometry.direction,
        lambda p: p.native.origin_xyz,
        lambda p: p.native.spacing_xyz,
        lambda p: p.native.direction,
    ],
)
def test_an_array_comes_back_exactly(
    path: Path, prepared: PreparedCt, part: Callable[[PreparedCt], Any]
) -> None:
    found, wanted = part(open_scan(path).load()), part(prepared)
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype


@pytest.mark.parametrize("part", [lambda p: p.ct.series_uid, lambda p: p.warning])
def test_a_text_comes_back_exactly(
    path: Path, prepared: PreparedCt, part: Callable[[PreparedCt], str]
) -> None:
    assert part(open_scan(path).load()) == part(prepared)


@pytest.mark.parametrize("field", ["warning", "native"])
def test_none_stays_none(tmp_path: Path, prepared: PreparedCt, storage: Storage, field: str) -> None:
    path = written(tmp_path / "b", replace(prepared, **{field: None}), storage)
    assert getattr(open_scan(path), field) is None


def test_a_slice_is_that_of_the_array(path: Path, prepared: PreparedCt) -> None:
    box = (slice(2, 5), slice(0, 9), slice(np.int64(3), np.int64(11)))
    np.testing.assert_array_equal(open_scan(path).hu[box], prepared.ct.hu[box])


def test_a_slice_across_chunks_is_that_of_the_array(
    tmp_path: Path, prepared: PreparedCt, storage: Storage
) -> None:
    hu = np.random.default_rng(1).integers(-1024, 3071, (70, 80, 90), np.int16)
    path = written(tmp_path / "b", replace(prepared, ct=replace(prepared.ct, hu=hu), lung=hu > 0), storage)
    box = (slice(50, 70), slice(60, 66), slice(10, 90))
    np.testing.assert_array_equal(open_scan(path).hu[box], hu[box])


@pytest.mark.parametrize(
    ("field", "dtype"), [("hu", np.int16), ("lung", np.bool_), ("places_irc", np.uint16)]
)
def test_voxels_have_their_type(path: Path, field: str, dtype: type) -> None:
    assert getattr(open_scan(path), field).dtype == dtype


def test_the_shape_is_that_of_the_scan(path: Path) -> None:
    scan = open_scan(path)
    assert (tuple(scan.hu.shape), tuple(scan.lung.shape)) == ((7, 9, 11), (7, 9, 11))


def test_a_lung_mask_can_be_inverted(path: Path, prepared: PreparedCt) -> None:
    np.testing.assert_array_equal(~open_scan(path).lung[WHOLE], ~prepared.lung)


def test_loaded_voxels_can_be_written_to(path: Path) -> None:
    scan = open_scan(path).load()
    assert (scan.ct.hu.flags.writeable, scan.lung.flags.writeable) == (True, True)


def test_a_view_is_stored_in_its_own_order(tmp_path: Path, prepared: PreparedCt, storage: Storage) -> None:
    flipped = replace(prepared, ct=replace(prepared.ct, hu=prepared.ct.hu[::-1]), lung=prepared.lung[::-1])
    scan = open_scan(written(tmp_path / "b", flipped, storage))
    np.testing.assert_array_equal(scan.hu[WHOLE], flipped.ct.hu)


def test_raw_voxels_are_not_copied(tmp_path: Path, prepared: PreparedCt) -> None:
    hu = open_scan(written(tmp_path / "b", prepared, "raw")).hu[WHOLE]
    assert not hu.flags.owndata


def test_voxels_outlive_the_scan_and_its_file(path: Path, prepared: PreparedCt) -> None:
    hu = open_scan(path).hu
    path.unlink()
    gc.collect()
    np.testing.assert_array_equal(hu[WHOLE], prepared.ct.hu)


def test_a_scan_in_memory_shows_the_same(prepared: PreparedCt, path: Path) -> None:
    scan = StoredScan.in_memory(prepared)
    np.testing.assert_array_equal(scan.places_irc, open_scan(path).places_irc)
    np.testing.assert_array_equal(scan.hu[WHOLE], prepared.ct.hu)
    assert (scan.path, scan.series_uid, scan.native) == (None, "1.2.3", prepared.native)


def test_loading_a_scan_in_memory_copies_it(prepared: PreparedCt) -> None:
    StoredScan.in_memory(prepared).load().ct.hu[:] = 0
    assert prepared.ct.hu.any()


def test_any_flipped_byte_is_seen(path: Path) -> None:
    content = path.read_bytes()
    missed = []
    for place in [*range(16), *range(16, len(content), 29), len(content) - 1]:
        flipped = bytearray(content)
        flipped[place] ^= 0x10
        path.write_bytes(flipped)
        try:
            verify_scan(path)
            missed.append(place)
        except DamagedEntry:
            continue
    assert missed == []


@pytest.mark.parametrize("length", [0, 5, 100, 4096, -1])
def test_a_cut_file_is_damaged(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedEntry, match=r"it starts with|checksum|it has"):
        open_scan(path)


def test_a_file_that_goes_on_is_damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"?")
    with pytest.raises(DamagedEntry, match="expected"):
        open_scan(path)


def test_a_header_of_another_make_is_damaged(path: Path) -> None:
    body = json.dumps({"parts": {}}).encode()
    path.write_bytes(PREFIX.pack(scan_file.MAGIC, PREFIX.size + len(body), zlib.crc32(body)) + body)
    with pytest.raises(DamagedEntry, match="not understood"):
        open_scan(path)


def test_a_file_that_is_not_there_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_scan(tmp_path / "absent")


def test_a_folder_in_its_place_is_an_error_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="cannot be read: Is a directory"):
        open_scan(tmp_path)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One item a time that checksums were verified."""
    calls: list[Any] = []
    verify = scan_file._verify_parts
    monkeypatch.setattr(scan_file, "_verify_parts", lambda *args: (calls.append(args), verify(*args)))
    return calls


def test_checksums_are_verified_once_a_file(path: Path, verified: list[Any]) -> None:
    for _ in range(3):
        open_scan(path)
    assert len(verified) == 1


def test_a_file_that_was_written_to_is_verified_again(path: Path, verified: list[Any]) -> None:
    open_scan(path)
    os.utime(path)
    open_scan(path)
    assert len(verified) == 2


def test_a_change_within_a_tick_of_the_clock_is_seen(path: Path) -> None:
    os.utime(path)
    now = path.stat().st_mtime_ns
    open_scan(path)
    content = bytearray(path.read_bytes())
    content[-5000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(now, now))
    with pytest.raises(DamagedEntry):
        open_scan(path)


def test_verifying_reads_what_was_read_before(path: Path, verified: list[Any]) -> None:
    open_scan(path)
    verify_scan(path)
    assert len(verified) == 2


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_opening_often_keeps_no_file_and_no_memory(path: Path) -> None:
    def read(count: int) -> None:
        for _ in range(count):
            scan = open_scan(path)
            scan.hu[WHOLE]
            scan.lung[WHOLE]

    read(200)
    descriptors, memory = open_descriptors(), resident_bytes()
    read(2000)
    assert open_descriptors() <= descriptors
    assert path.name not in Path("/proc/self/maps").read_text()
    assert resident_bytes() - memory < 4e6


def test_places_lie_in_the_lung(prepared: PreparedCt) -> None:
    assert prepared.lung[tuple(sample_places(prepared.lung).T)].all()


def test_all_places_of_a_small_lung_are_there_once(prepared: PreparedCt) -> None:
    places = sample_places(prepared.lung)
    assert len(np.unique(places, axis=0)) == len(places) == np.count_nonzero(prepared.lung)


def test_places_of_a_large_lung_are_so_many() -> None:
    places = sample_places(np.ones((40, 40, 40), bool))
    assert len(np.unique(places, axis=0)) == len(places) == PLACES


def test_places_are_drawn_evenly() -> None:
    """Each half of each axis gets half, within five standard deviations."""
    places = sample_places(np.ones((40, 40, 40), bool))
    halves = (places < 20).mean(0)
    np.testing.assert_allclose(halves, 0.5, atol=5 * 0.5 / np.sqrt(PLACES))


def test_without_a_lung_there_are_no_places() -> None:
    assert sample_places(np.zeros((3, 4, 5), bool)).shape == (0, 3)
