"""Prepared scans where room is short: the cap, and a disk that is full."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections import namedtuple
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO
from unittest.mock import Mock

import diskcache
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io import scan_cache
from p2ch_luna.io.scan_cache import RESERVE_BYTES, ScanCache, StoredScan
from p2ch_luna.io.scan_packing import PackedScan
from p2ch_luna.lungs import PreparedCt

N_BYTES = 4 * 4096  # of the small scan in raw: a header and three parts, a page each


def test_what_was_stored_longest_ago_makes_room(
    tmp_path: Path, prepared: PreparedCt, fill: Callable[[ScanCache, PreparedCt, int], None]
) -> None:
    cache = ScanCache(tmp_path, "raw", size_limit=3 * N_BYTES)
    fill(cache, prepared, 5)
    assert [entry.key for entry in cache.entries()] == ["key 2", "key 3", "key 4"]


def test_what_made_room_leaves_no_file(
    tmp_path: Path,
    prepared: PreparedCt,
    files: Callable[[ScanCache], list[str]],
    fill: Callable[[ScanCache, PreparedCt, int], None],
) -> None:
    cache = ScanCache(tmp_path, "raw", size_limit=3 * N_BYTES)
    fill(cache, prepared, 5)
    assert len(files(cache)) == 3


def test_a_scan_makes_no_room_for_itself(
    tmp_path: Path, prepared: PreparedCt, fill: Callable[[ScanCache, PreparedCt, int], None]
) -> None:
    fill(ScanCache(tmp_path, "raw"), prepared, 3)
    cache = ScanCache(tmp_path, "raw", size_limit=N_BYTES)
    cache.put("new", prepared)
    assert [entry.key for entry in cache.entries()] == ["new"]


def test_a_replaced_scan_makes_no_room_for_itself(
    tmp_path: Path, prepared: PreparedCt, fill: Callable[[ScanCache, PreparedCt, int], None]
) -> None:
    """It was stored longest ago, and again now."""
    fill(ScanCache(tmp_path, "raw"), prepared, 2)
    cache = ScanCache(tmp_path, "raw", size_limit=N_BYTES)
    cache.put("key 0", prepared)
    assert [entry.key for entry in cache.entries()] == ["key 0"]


def test_a_scan_makes_no_room_for_itself_where_the_clock_was_set_back(
    tmp_path: Path, prepared: PreparedCt
) -> None:
    cache = ScanCache(tmp_path, "raw", size_limit=N_BYTES)
    cache.put("of tomorrow", prepared)
    with closing(sqlite3.connect(cache.folder / "cache.db")) as database, database:
        database.execute("UPDATE Cache SET store_time = store_time + 86400")
    cache.put("new", prepared)
    assert [entry.key for entry in cache.entries()] == ["new"]


def test_notes_do_not_make_room(
    tmp_path: Path, prepared: PreparedCt, fill: Callable[[ScanCache, PreparedCt, int], None]
) -> None:
    cache = ScanCache(tmp_path, "raw", size_limit=N_BYTES)
    cache.set_note("name", "text")
    fill(cache, prepared, 3)
    assert cache.note("name") == "text"


def test_a_limit_below_one_scan_is_an_error(tmp_path: Path, prepared: PreparedCt) -> None:
    cache = ScanCache(tmp_path, "raw", size_limit=N_BYTES - 1)
    with pytest.raises(LunaError, match=r"scans: may grow to .* MB, one scan takes .* MB; expected a limit"):
        cache.put("key", prepared)


def leave_free(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    usage = namedtuple("usage", "total used free")(2**40, 0, n_bytes)
    monkeypatch.setattr(scan_cache.shutil, "disk_usage", lambda _: usage)


def test_too_little_room_on_the_disk_is_an_error(
    cache: ScanCache, prepared: PreparedCt, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_free(monkeypatch, RESERVE_BYTES + N_BYTES - 1)
    with pytest.raises(
        LunaError, match=r"scans: 268 MB free on its disk, 268 MB wanted; make room, .* --cache"
    ):
        cache.put("key", prepared)


def test_just_enough_room_on_the_disk_will_do(
    cache: ScanCache, prepared: PreparedCt, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_free(monkeypatch, RESERVE_BYTES + N_BYTES)
    cache.put("key", prepared)


def test_a_full_disk_is_told_before_the_work(
    cache: ScanCache, monkeypatch: pytest.MonkeyPatch, never: Callable[[], PreparedCt]
) -> None:
    leave_free(monkeypatch, RESERVE_BYTES - 1)
    with pytest.raises(LunaError, match="free on its disk"):
        cache.get_or_make("key", never)


def fail_half_way(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def write(scan: PackedScan, file: BinaryIO) -> None:
        file.write(scan.pieces[0])
        file.flush()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(PackedScan, "write", write)


def test_a_disk_that_fills_up_is_an_error(
    cache: ScanCache, prepared: PreparedCt, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_half_way(monkeypatch, errno.ENOSPC)
    with pytest.raises(LunaError, match=r"scans: cannot be written: No space left on device; .* --cache"):
        cache.put("key", prepared)


def test_a_disk_that_fills_up_leaves_nothing_new(
    cache: ScanCache,
    prepared: PreparedCt,
    monkeypatch: pytest.MonkeyPatch,
    files: Callable[[ScanCache], list[str]],
    path_of: Callable[[StoredScan | None], Path],
) -> None:
    old = path_of(cache.put("old", prepared)).name
    fail_half_way(monkeypatch, errno.ENOSPC)
    with pytest.raises(LunaError):
        cache.put("key", prepared)
    assert (files(cache), [entry.key for entry in cache.entries()]) == ([old], ["old"])


def test_an_index_that_cannot_be_written_leaves_no_file(
    cache: ScanCache,
    prepared: PreparedCt,
    monkeypatch: pytest.MonkeyPatch,
    files: Callable[[ScanCache], list[str]],
) -> None:
    full = Mock(side_effect=sqlite3.OperationalError("database or disk is full"))
    monkeypatch.setattr(diskcache.Cache, "set", full)
    with pytest.raises(LunaError, match="database or disk is full"):
        cache.put("key", prepared)
    assert files(cache) == []


def test_a_disk_that_writes_other_bytes_is_an_error(
    cache: ScanCache,
    prepared: PreparedCt,
    monkeypatch: pytest.MonkeyPatch,
    files: Callable[[ScanCache], list[str]],
) -> None:
    monkeypatch.setattr(PackedScan, "write", lambda scan, file: file.write(bytes(scan.n_bytes)))
    with pytest.raises(LunaError, match="a new file is damaged"):
        cache.put("key", prepared)
    assert files(cache) == []


def test_that_scans_make_room_is_told_once(
    tmp_path: Path,
    prepared: PreparedCt,
    caplog: pytest.LogCaptureFixture,
    fill: Callable[[ScanCache, PreparedCt, int], None],
) -> None:
    fill(ScanCache(tmp_path, "raw", size_limit=3 * N_BYTES), prepared, 3)
    assert "make room" not in caplog.text
    fill(ScanCache(tmp_path, "raw", size_limit=2 * N_BYTES), prepared, 5)
    assert caplog.text.count("older scans make room; --cache-size lets it grow further") == 1


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / "scans" / "luna16"
    own.mkdir(parents=True, mode=0o755)
    own.parent.chmod(0o755)
    with pytest.raises(LunaError, match=r"scans: holds 'luna16', so it is no cache; .* --cache"):
        ScanCache(tmp_path)
    assert [path.name for path in own.parent.iterdir()] == ["luna16"]
    assert own.parent.stat().st_mode & 0o777 == 0o755


def test_a_folder_of_something_else_is_none_of_ours_by_one_name(tmp_path: Path) -> None:
    for name in ("luna16", "files"):
        (tmp_path / "scans" / name).mkdir(parents=True)
    with pytest.raises(LunaError, match=r"holds 'luna16', so it is no cache"):
        ScanCache(tmp_path)


@pytest.mark.parametrize("names", [(), ("files",), ("claims", "files")])
def test_a_folder_that_another_process_is_making_a_cache_of_is_taken(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    (tmp_path / "scans").mkdir()
    for name in names:
        (tmp_path / "scans" / name).mkdir()
    assert ScanCache(tmp_path).entries() == []


def test_a_cache_may_hold_other_things_too(cache: ScanCache, prepared: PreparedCt, tmp_path: Path) -> None:
    cache.put("key", prepared)
    (cache.folder / "notes.txt").touch()
    assert len(ScanCache(tmp_path).entries()) == 1


def test_an_entry_that_is_cut_is_not_whole(
    tmp_path: Path, prepared: PreparedCt, path_of: Callable[[StoredScan | None], Path]
) -> None:
    cache = ScanCache(tmp_path, "raw")
    path = path_of(cache.put("key", prepared))
    (entry,) = cache.entries()
    assert entry.is_whole
    path.write_bytes(path.read_bytes()[:-1])
    assert not entry.is_whole
