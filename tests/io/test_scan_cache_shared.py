"""A cache of several processes, killed ones among them, and one that can only be read."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import diskcache
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io.scan_cache import ScanCache, StoredScan
from p2ch_luna.lungs import PreparedCt


@contextmanager
def only_readable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Writing fails as on a disk that is mounted to be read; root may write to any other."""
    error = OSError(errno.EROFS, os.strerror(errno.EROFS))
    opened, access = os.open, os.access

    def open_to_read(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise error
        return opened(path, flags, *args, **kwargs)

    with monkeypatch.context() as patch:
        for name in ("mkdir", "chmod", "unlink", "rename"):
            patch.setattr(Path, name, Mock(side_effect=error))
        patch.setattr(os, "open", open_to_read)
        patch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
        locked = Mock(side_effect=sqlite3.OperationalError("attempt to write a readonly database"))
        patch.setattr(diskcache.Cache, "__init__", locked)
        yield


def test_a_folder_that_can_only_be_read_is_read(
    tmp_path: Path, prepared: PreparedCt, monkeypatch: pytest.MonkeyPatch, never: Callable[[], PreparedCt]
) -> None:
    ScanCache(tmp_path).put("key", prepared)
    with only_readable(monkeypatch):
        found = ScanCache(tmp_path).get_or_make("key", never)
        assert (found.warning, len(ScanCache(tmp_path).entries())) == (prepared.warning, 1)


def test_notes_of_a_folder_that_can_only_be_read_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScanCache(tmp_path).set_note("name", "text")
    with only_readable(monkeypatch):
        assert ScanCache(tmp_path).note("name") == "text"


def test_a_missing_scan_in_it_is_an_error_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, never: Callable[[], PreparedCt]
) -> None:
    ScanCache(tmp_path)
    with (
        only_readable(monkeypatch),
        pytest.raises(LunaError, match=r"scans: can only be read and lacks a scan; expected .* --cache"),
    ):
        ScanCache(tmp_path).get_or_make("key", never)


def test_storing_in_it_is_an_error(
    tmp_path: Path, prepared: PreparedCt, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScanCache(tmp_path)
    with (
        only_readable(monkeypatch),
        pytest.raises(LunaError, match=r"scans: cannot be written: Read-only file system; .* --cache"),
    ):
        ScanCache(tmp_path).put("key", prepared)


def test_a_note_for_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ScanCache(tmp_path)
    with (
        only_readable(monkeypatch),
        pytest.raises(LunaError, match=r"readonly database; expected .* --cache"),
    ):
        ScanCache(tmp_path).set_note("name", "text")


def test_a_claim_in_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ScanCache(tmp_path)
    with (
        only_readable(monkeypatch),
        pytest.raises(LunaError, match="cannot be written: Read-only"),
        ScanCache(tmp_path).claim("key"),
    ):
        pass


def test_a_damaged_scan_in_it_is_none_and_stays(
    tmp_path: Path,
    prepared: PreparedCt,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    path_of: Callable[[StoredScan | None], Path],
    flip: Callable[[Path], None],
) -> None:
    flip(path_of(ScanCache(tmp_path).put("key", prepared)))
    with only_readable(monkeypatch):
        assert ScanCache(tmp_path).get("key") is None
    assert "readonly database" in caplog.text


WRITE = """
import sys
from dataclasses import replace
from pathlib import Path
from p2ch_luna.io.scan_cache import ScanCache
cache = ScanCache(Path(sys.argv[1]), "raw")
prepared = cache.get("model").load()
print("ready", flush=True)
sys.stdin.readline()
for number in range(30):
    stored = cache.put("key", replace(prepared, warning=f"{sys.argv[2]} {number}"))
    assert stored.load().warning == f"{sys.argv[2]} {number}"
    assert cache.get("key") is not None
"""

HANG = """
import sys, time
from pathlib import Path
from p2ch_luna.io import scan_cache
cache = scan_cache.ScanCache(Path(sys.argv[1]), "raw")
prepared = cache.get("model").load()
def hang(*args):
    if sys.argv[2] == "write":
        args[1].write(args[0].pieces[0])
        args[1].flush()
    print("ready", flush=True)
    time.sleep(60)
place = scan_cache.PackedScan if sys.argv[2] == "write" else scan_cache.ScanIndex
setattr(place, sys.argv[2], hang)
cache.put("key", prepared)
"""

FORK = """
import os, sys
from pathlib import Path
from p2ch_luna.io.scan_cache import ScanCache
cache = ScanCache(Path(sys.argv[1]))
before = cache.get("model")
cache.set_note("name", "of the parent")
child = os.fork()
if child == 0:
    same = (cache.get("model").hu[:, :, :] == before.hu[:, :, :]).all()
    cache.set_note("name", "of the child")
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
assert cache.note("name") == "of the child"
cache.set_note("name", "of the parent again")
assert cache.verify() == []
"""


def start(code: str, tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_two_processes_may_store_the_same_scan_at_once(
    cache: ScanCache, tmp_path: Path, prepared: PreparedCt, files: Callable[[ScanCache], list[str]]
) -> None:
    cache.put("model", prepared)
    with start(WRITE, tmp_path, "a") as one, start(WRITE, tmp_path, "b") as other:
        wait_until_ready(one)
        wait_until_ready(other)
        one.communicate("go\n")
        other.communicate("go\n")
    assert (one.returncode, other.returncode) == (0, 0)
    assert (cache.verify(), len(cache.entries()), len(files(cache))) == ([], 2, 2)


@pytest.fixture(params=[("write", ".part"), ("add", ".scan")], ids=["writing", "written"])
def killed(
    cache: ScanCache,
    tmp_path: Path,
    prepared: PreparedCt,
    request: pytest.FixtureRequest,
    files: Callable[[ScanCache], list[str]],
) -> ScanCache:
    """A cache one of whose processes was killed while it stored a scan beside another."""
    cache.put("model", prepared)
    where, suffix = request.param
    with start(HANG, tmp_path, where) as process:
        wait_until_ready(process)
        assert cache.verify() == []
        assert sorted(Path(name).suffix for name in files(cache)) == sorted([".scan", suffix])  # not removed
        process.send_signal(signal.SIGKILL)
    return cache


def test_a_killed_process_leaves_no_entry(killed: ScanCache) -> None:
    assert [entry.key for entry in killed.entries()] == ["model"]


def test_what_a_killed_process_left_is_removed(
    killed: ScanCache, files: Callable[[ScanCache], list[str]]
) -> None:
    assert len(files(killed)) == 2
    assert (killed.verify(), len(files(killed))) == ([], 1)


def test_a_scan_is_stored_after_a_killed_process(
    killed: ScanCache, prepared: PreparedCt, files: Callable[[ScanCache], list[str]]
) -> None:
    killed.put("key", prepared)
    assert not any(name.endswith(".part") for name in files(killed))


def test_a_cache_is_used_after_a_fork(cache: ScanCache, tmp_path: Path, prepared: PreparedCt) -> None:
    cache.put("model", prepared)
    with start(FORK, tmp_path) as process:
        pass
    assert process.returncode == 0


def test_a_cache_can_be_sent_to_another_process(cache: ScanCache, prepared: PreparedCt) -> None:
    cache.put("key", prepared)
    sent: ScanCache = pickle.loads(pickle.dumps(cache))
    assert (sent.get("key") is not None, sent.storage, sent.size_limit) == (True, "raw", cache.size_limit)


def test_a_claim_holds_for_its_key(cache: ScanCache) -> None:
    with cache.claim("a/b"), cache.claim("a/b") as same, cache.claim("other") as other:
        assert (same, other) == (False, True)


def test_an_error_under_a_claim_goes_through(cache: ScanCache) -> None:
    with pytest.raises(OSError, match="of the work"), cache.claim("key"):
        raise OSError("of the work")


def test_claims_of_killed_processes_are_removed(cache: ScanCache) -> None:
    (cache.folder / "claims" / "x.lock").touch()
    cache.verify()
    assert list((cache.folder / "claims").iterdir()) == []
