"""Prepared scans on disk: found again, made again, never half there."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io import scan_cache
from p2ch_luna.io.scan_cache import ScanCache, Storage, StoredScan
from p2ch_luna.lungs import PreparedCt

WHOLE = (slice(None), slice(None), slice(None))


@pytest.mark.parametrize("storage", ["blosc2", "raw"])
def test_a_stored_scan_comes_back(tmp_path: Path, prepared: PreparedCt, storage: Storage) -> None:
    ScanCache(tmp_path, storage).put("key", prepared)
    found = ScanCache(tmp_path).get("key")
    assert found is not None
    np.testing.assert_array_equal(found.hu[WHOLE], prepared.ct.hu)


def test_what_is_stored_is_open_at_once(cache: ScanCache, prepared: PreparedCt) -> None:
    np.testing.assert_array_equal(cache.put("key", prepared).lung[WHOLE], prepared.lung)


def test_an_unknown_key_has_no_scan(cache: ScanCache) -> None:
    assert cache.get("key") is None


def test_what_is_stored_is_not_made(
    cache: ScanCache, prepared: PreparedCt, never: Callable[[], PreparedCt]
) -> None:
    cache.get_or_make("key", lambda: prepared)
    assert cache.get_or_make("key", never).series_uid == "1.2.3"


def test_another_key_is_another_entry(cache: ScanCache, prepared: PreparedCt) -> None:
    cache.put("key", prepared)
    assert cache.get_or_make("other", lambda: replace(prepared, warning="other")).warning == "other"


def test_a_second_scan_under_a_key_replaces_the_first(
    cache: ScanCache, prepared: PreparedCt, files: Callable[[ScanCache], list[str]]
) -> None:
    for warning in ("first", "second"):
        cache.put("key", replace(prepared, warning=warning))
    found = cache.get("key")
    assert found is not None
    assert (found.warning, len(files(cache))) == ("second", 1)


def test_a_scan_that_was_replaced_while_it_was_looked_up_is_found(
    cache: ScanCache, prepared: PreparedCt, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("key", prepared)
    (old,) = cache._index.rows()
    cache.put("key", replace(prepared, warning="new"))
    (new,) = cache._index.rows()
    monkeypatch.setattr(scan_cache.ScanIndex, "find", Mock(side_effect=[old, new]))
    found = cache.get("key")
    assert found is not None
    assert found.warning == "new"


def test_an_unknown_storage_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"storage 'zip'; expected one of blosc2, raw"):
        ScanCache(tmp_path, "zip")  # type: ignore[arg-type]


@pytest.mark.parametrize("storage", ["blosc2", "raw"])
def test_a_damaged_scan_is_made_again(
    tmp_path: Path,
    prepared: PreparedCt,
    storage: Storage,
    path_of: Callable[[StoredScan | None], Path],
    flip: Callable[[Path], None],
) -> None:
    cache = ScanCache(tmp_path, storage)
    flip(path_of(cache.put("key", prepared)))
    made = cache.get_or_make("key", lambda: replace(prepared, warning="made again"))
    assert made.warning == "made again"


def test_what_was_made_again_is_stored(
    cache: ScanCache,
    prepared: PreparedCt,
    never: Callable[[], PreparedCt],
    path_of: Callable[[StoredScan | None], Path],
    flip: Callable[[Path], None],
) -> None:
    flip(path_of(cache.put("key", prepared)))
    cache.get_or_make("key", lambda: prepared)
    assert cache.get_or_make("key", never).series_uid == "1.2.3"


def test_a_damaged_scan_is_told_in_the_log(
    cache: ScanCache,
    prepared: PreparedCt,
    caplog: pytest.LogCaptureFixture,
    path_of: Callable[[StoredScan | None], Path],
    flip: Callable[[Path], None],
) -> None:
    flip(path_of(cache.put("key", prepared)))
    with caplog.at_level(logging.WARNING):
        assert cache.get("key") is None
    assert "entry key is damaged: its part" in caplog.text


def test_a_damaged_scan_is_removed(
    cache: ScanCache,
    prepared: PreparedCt,
    files: Callable[[ScanCache], list[str]],
    path_of: Callable[[StoredScan | None], Path],
    flip: Callable[[Path], None],
) -> None:
    flip(path_of(cache.put("key", prepared)))
    cache.get("key")
    assert (cache.entries(), files(cache)) == ([], [])


def test_a_file_that_has_gone_counts_as_damage(
    cache: ScanCache, prepared: PreparedCt, path_of: Callable[[StoredScan | None], Path]
) -> None:
    path_of(cache.put("key", prepared)).unlink()
    assert (cache.get("key"), cache.entries()) == (None, [])


def test_an_open_scan_outlives_its_entry(cache: ScanCache, prepared: PreparedCt) -> None:
    scan = cache.put("key", prepared)
    cache.clear()
    np.testing.assert_array_equal(scan.hu[WHOLE], prepared.ct.hu)


def test_an_entry_tells_of_its_scan(
    cache: ScanCache, prepared: PreparedCt, path_of: Callable[[StoredScan | None], Path]
) -> None:
    path = path_of(cache.put("key", prepared))
    (entry,) = cache.entries()
    assert (entry.key, entry.series_uid, entry.path, entry.storage, entry.n_bytes) == (
        ("key", "1.2.3", path, "raw", path.stat().st_size)
    )


def test_an_entry_tells_when_it_was_stored(cache: ScanCache, prepared: PreparedCt) -> None:
    cache.put("key", prepared)
    (entry,) = cache.entries()
    assert timedelta(0) <= datetime.now(UTC) - entry.stored_at < timedelta(minutes=1)


def test_verify_names_and_removes_what_is_damaged(
    cache: ScanCache,
    prepared: PreparedCt,
    flip: Callable[[Path], None],
    fill: Callable[[ScanCache, PreparedCt, int], None],
) -> None:
    fill(cache, prepared, 3)
    for place, damage in ((0, flip), (2, Path.unlink)):
        damage(cache.entries()[place].path)
    assert cache.verify() == ["key 0", "key 2"]
    assert [entry.key for entry in cache.entries()] == ["key 1"]


def test_verify_reads_what_this_process_has_verified(
    cache: ScanCache,
    prepared: PreparedCt,
    path_of: Callable[[StoredScan | None], Path],
    flip: Callable[[Path], None],
) -> None:
    path = path_of(cache.put("key", prepared))
    os.utime(path, ns=(1, 1))
    cache.get("key")
    flip(path)
    os.utime(path, ns=(1, 1))
    assert cache.verify() == ["key"]


def test_verify_removes_a_row_that_is_not_ours(
    cache: ScanCache, prepared: PreparedCt, files: Callable[[ScanCache], list[str]]
) -> None:
    cache.put("key", prepared)
    with closing(sqlite3.connect(cache.folder / "cache.db")) as database, database:
        database.execute("UPDATE Cache SET filename = 'elsewhere'")
    assert (cache.verify(), cache.verify(), files(cache)) == (["key"], [], [])


def test_clear_removes_all(
    cache: ScanCache,
    prepared: PreparedCt,
    files: Callable[[ScanCache], list[str]],
    fill: Callable[[ScanCache, PreparedCt, int], None],
) -> None:
    fill(cache, prepared, 3)
    cache.set_note("name", "text")
    assert (cache.clear(), cache.entries(), files(cache), cache.note("name")) == (3, [], [], None)


def test_clear_mends_a_database_that_is_none(
    cache: ScanCache, prepared: PreparedCt, files: Callable[[ScanCache], list[str]]
) -> None:
    cache.put("key", prepared)
    (cache.folder / "cache.db").write_bytes(b"not SQLite" * 1000)
    assert (cache.clear(), cache.entries(), files(cache)) == (1, [], [])


def test_a_note_comes_back(cache: ScanCache) -> None:
    cache.set_note("name", "text")
    assert (cache.note("name"), cache.note("other")) == ("text", None)


def test_the_folder_is_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir(mode=0o755)
    assert stat.S_IMODE(ScanCache(tmp_path).folder.stat().st_mode) == 0o700


def test_a_folder_that_its_user_made_unwritable_stays_so(tmp_path: Path) -> None:
    folder = ScanCache(tmp_path).folder
    folder.chmod(0o500)
    assert stat.S_IMODE(ScanCache(tmp_path).folder.stat().st_mode) == 0o500


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


def test_a_database_that_is_none_is_an_error(cache: ScanCache, never: Callable[[], PreparedCt]) -> None:
    (cache.folder / "cache.db").write_bytes(b"not SQLite" * 1000)
    with pytest.raises(LunaError, match=r"scans: .*; expected a cache"):
        cache.get_or_make("key", never)
