"""The index of a cache, also one that a stranger has written to."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import diskcache
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io import scan_index
from p2ch_luna.io.scan_index import FilesDisk, NewFile, ScanIndex

NAME, OTHER_NAME = (f"files/{digit * 32}.scan" for digit in "ab")


@pytest.fixture
def index(tmp_path: Path) -> ScanIndex:
    """One file of four bytes under `key`."""
    (tmp_path / "files").mkdir()
    index = ScanIndex(tmp_path)
    add(index, "key", NAME)
    return index


def add(index: ScanIndex, key: str, name: str) -> None:
    (index.folder / name).write_bytes(b"scan")
    index.add(key, NewFile(name, 4), "raw 1.2.3")


def change(index: ScanIndex, statement: str, *values: Any) -> None:
    """What anyone can do to the database."""
    with closing(sqlite3.connect(index.folder / "cache.db")) as database, database:
        database.execute(statement, values)


def test_what_was_added_is_found(index: ScanIndex) -> None:
    row = index.find("key")
    assert row is not None
    assert row[:4] == ("key", "raw 1.2.3", 4, NAME)


def test_an_unknown_key_is_not_found(index: ScanIndex) -> None:
    assert index.find("other") is None


def test_an_index_without_a_database_is_empty(tmp_path: Path) -> None:
    assert ScanIndex(tmp_path).rows() == []


def test_an_index_whose_database_is_just_being_made_is_empty(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "cache.db")) as database:
        database.execute("PRAGMA user_version = 1").connection.commit()  # a file without a table yet
    assert (tmp_path / "cache.db").stat().st_size > 0
    assert ScanIndex(tmp_path).rows() == []


def test_rows_are_in_the_order_of_storing(index: ScanIndex) -> None:
    add(index, "a later key", OTHER_NAME)
    assert [row.key for row in index.rows()] == ["key", "a later key"]


def test_a_replaced_file_is_deleted(index: ScanIndex) -> None:
    add(index, "key", OTHER_NAME)
    assert [p.name for p in (index.folder / "files").iterdir()] == [Path(OTHER_NAME).name]


def test_a_removed_file_is_deleted(index: ScanIndex) -> None:
    (row,) = index.rows()
    assert index.remove(row)
    assert (index.rows(), list((index.folder / "files").iterdir())) == ([], [])


def test_what_has_been_replaced_is_not_removed(index: ScanIndex) -> None:
    (row,) = index.rows()
    add(index, "key", OTHER_NAME)
    assert not index.remove(row)
    assert index.names(OTHER_NAME)


def test_a_text_comes_back(index: ScanIndex) -> None:
    index.set_text("key", "ü 1")
    assert index.text("key") == "ü 1"


def test_a_text_is_no_file(index: ScanIndex) -> None:
    index.set_text("name", "text")
    assert [row.key for row in index.rows()] == ["key"]


def test_clearing_forgets_all(index: ScanIndex) -> None:
    index.set_text("name", "text")
    index.clear()
    assert (index.rows(), index.text("name"), index.names(NAME)) == ([], None, False)


def test_a_database_that_is_none_is_an_error(index: ScanIndex) -> None:
    (index.folder / "cache.db").write_bytes(b"not SQLite" * 1000)
    with pytest.raises(LunaError, match=r"file is not a database; expected a cache .* --cache"):
        index.find("key")


def test_a_database_that_is_none_can_be_cleared(index: ScanIndex) -> None:
    (index.folder / "cache.db").write_bytes(b"not SQLite" * 1000)
    index.clear()
    assert index.rows() == []


def test_a_folder_without_a_place_for_locks_is_read(
    index: ScanIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SQLite does where it cannot write the files that it needs beside the database."""
    query = scan_index._query

    def without_locks(database: Path, how: str, *rest: Any) -> list[Any]:
        if "immutable" not in how:
            raise sqlite3.OperationalError("unable to open database file")
        return query(database, how, *rest)

    monkeypatch.setattr(scan_index, "_query", without_locks)
    assert [row.name for row in index.rows()] == [NAME]


@pytest.mark.parametrize("told", ["database is locked", "disk I/O error"])
def test_locks_are_not_passed_by_where_others_may_write(
    index: ScanIndex, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setattr(scan_index, "_query", Mock(side_effect=sqlite3.OperationalError(told)))
    with pytest.raises(LunaError, match=told):
        index.rows()
    assert scan_index._query.call_count == 1  # type: ignore[attr-defined]


def test_a_folder_that_may_not_be_written_to_is_read_without_locks(
    index: ScanIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = Mock(side_effect=[sqlite3.OperationalError("disk I/O error"), []])
    monkeypatch.setattr(scan_index, "_query", query)
    monkeypatch.setattr(scan_index.os, "access", lambda path, _: path != index.folder)
    assert index.rows() == []
    assert query.call_args.args[1] == "immutable=1"


def test_a_full_disk_is_an_error(index: ScanIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Mock(side_effect=sqlite3.OperationalError("database or disk is full"))
    monkeypatch.setattr(diskcache.Cache, "set", full)
    with pytest.raises(LunaError, match="database or disk is full; expected a cache"):
        index.set_text("name", "text")


class Trap:
    """Its pickle, once loaded, leaves a file."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.sprung,)


@pytest.fixture
def trap(tmp_path: Path) -> bytes:
    return pickle.dumps(Trap(tmp_path / "sprung"))


PLANTED = [  # where diskcache's own Disk would load it from
    "UPDATE Cache SET mode = 4, filename = NULL, value = ?",
    "UPDATE Cache SET mode = 4, filename = 'files/trap', value = NULL",
    "UPDATE Cache SET raw = 0, key = ?",
    "UPDATE Cache SET raw = 0, key = ?, mode = 4, value = ?1",
]


@pytest.mark.parametrize("statement", PLANTED)
def test_a_planted_pickle_is_not_loaded_by_the_index(index: ScanIndex, trap: bytes, statement: str) -> None:
    index.set_text("key", "text")
    (index.folder / "files" / "trap").write_bytes(trap)
    only = " WHERE key = 'key'" if "key = ?" in statement else ""
    change(index, statement + only, *([trap] if "?" in statement else []))
    index.find("key")
    for row in index.rows():
        index.remove(row)
    assert index.text("key") in ("text", None)
    index.clear()
    assert not (index.folder / "sprung").exists()


@pytest.mark.parametrize("statement", PLANTED)
def test_a_planted_pickle_is_not_loaded_by_diskcache(index: ScanIndex, trap: bytes, statement: str) -> None:
    (index.folder / "files" / "trap").write_bytes(trap)
    change(index, statement, *([trap] if "?" in statement else []))
    with diskcache.Cache(str(index.folder), disk=FilesDisk) as cache:
        for key in list(cache):
            cache.get(key)
            cache.get(key, read=True)
        cache.get("key")
        cache.peekitem()
        cache.pop("key")
    assert not (index.folder / "sprung").exists()


def test_a_planted_pickle_would_be_loaded_by_diskcaches_own_disk(index: ScanIndex, trap: bytes) -> None:
    """Else the tests above would show nothing."""
    change(index, PLANTED[0], trap)
    with diskcache.Cache(str(index.folder)) as cache:
        cache.get("key")
    assert (index.folder / "sprung").exists()


def test_a_text_that_is_a_pickle_is_none(index: ScanIndex, trap: bytes) -> None:
    index.set_text("name", "text")
    change(index, "UPDATE Cache SET mode = 4, value = ?", trap)
    assert index.text("name") is None


@pytest.mark.parametrize("value", [b"bytes", 1, ("a", 1), None])
def test_what_would_be_pickled_is_not_stored(index: ScanIndex, value: object) -> None:
    with (
        diskcache.Cache(str(index.folder), disk=FilesDisk) as cache,
        pytest.raises(TypeError, match="expected the name of a file or a text"),
    ):
        cache.set("other", value)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "files/../outside", "cache.db", None])
def test_a_row_that_names_no_file_of_the_cache_has_no_name(index: ScanIndex, name: str | None) -> None:
    change(index, "UPDATE Cache SET filename = ?", name)
    assert [row.name for row in index.rows()] == [""]


@pytest.mark.parametrize("remove", [lambda i: i.remove(i.rows()[0]), lambda i: i.clear()])
def test_a_file_outside_is_not_deleted(
    tmp_path: Path, index: ScanIndex, remove: Callable[[ScanIndex], None]
) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    change(index, "UPDATE Cache SET filename = 'files/../outside'")
    remove(index)
    assert outside.exists()


def test_a_file_of_an_earlier_version_is_deleted_with_its_row(index: ScanIndex) -> None:
    old = index.folder / "ab" / "cd" / f"{'0' * 28}.val"
    old.parent.mkdir(parents=True)
    old.touch()
    change(index, "UPDATE Cache SET filename = ?", str(old.relative_to(index.folder)))
    (row,) = index.rows()
    index.remove(row)
    assert (row.name, old.exists()) == ("", False)


def test_a_database_is_read_after_its_writer_was_killed(index: ScanIndex) -> None:
    """What was committed lies in a second file until SQLite closes the first in order."""
    copy = index.folder / "copy"
    copy.mkdir()
    with diskcache.Cache(str(index.folder), disk=FilesDisk) as cache:
        cache.set("late", NewFile(OTHER_NAME, 4), tag="raw 1")
        for suffix in ("", "-wal"):
            (copy / f"cache.db{suffix}").write_bytes((index.folder / f"cache.db{suffix}").read_bytes())
    assert [row.key for row in ScanIndex(copy).rows()] == ["key", "late"]
