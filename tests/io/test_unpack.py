"""A zip is unpacked within limits, to a folder of its own, or refused before anything is written."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io import unpack
from p2ch_luna.io.file_locks import holding_folder
from p2ch_luna.io.unpack import unpacked


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def zip_of(path: Path, **members: bytes) -> Path:
    """A zip with these members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(LunaError) as caught, unpacked(path):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_are_there_within_the_block_only(tmp_path: Path, temporary: Path) -> None:
    with unpacked(zip_of(tmp_path / "a.zip", **{"one/two/IM1": b"1", "IM2": b"2"})) as folder:
        assert (folder / "one" / "two" / "IM1").read_bytes() == b"1"
        assert (folder / "IM2").read_bytes() == b"2"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(temporary.iterdir()) == []


def test_nothing_is_left_where_the_block_raises(tmp_path: Path, temporary: Path) -> None:
    with pytest.raises(KeyError), unpacked(zip_of(tmp_path / "a.zip", IM1=b"1")):
        raise KeyError
    assert list(temporary.iterdir()) == []


def test_an_error_of_the_block_names_the_zip(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", **{"b/c.mha": b"1"})
    with pytest.raises(LunaError) as caught, unpacked(path) as folder:
        raise LunaError(f"{folder}/b/c.mha: broken")
    assert str(caught.value) == f"{path}/b/c.mha: broken"


KILLED = """
import os, pathlib, signal, sys
from p2ch_luna.io.unpack import unpacked
with unpacked(pathlib.Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, temporary: Path) -> None:
    path = zip_of(tmp_path / "a.zip", IM1=b"1")
    environment = {**os.environ, "TMPDIR": str(temporary)}
    killed = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], env=environment)
    assert killed.wait() == -signal.SIGKILL
    (left,) = temporary.iterdir()
    assert left.name.startswith(f"luna-{killed.pid}-")
    assert (left / "IM1").is_file()
    with unpacked(path) as folder:
        assert list(temporary.iterdir()) == [folder]
        assert folder.name.startswith(f"luna-{os.getpid()}-")


def test_what_is_in_use_or_of_others_is_not_removed(tmp_path: Path, temporary: Path) -> None:
    """Of a number that no process has, but locked, as by one in another container; a file; another name."""
    locked, elsewhere = temporary / "luna-999999999-a", tmp_path / "elsewhere"
    for folder in (locked, elsewhere, temporary / "luna-other", temporary / f"luna-{os.getpid()}-b"):
        folder.mkdir()
    (temporary / "luna-999999999-c").touch()
    (temporary / "luna-999999999-d").symlink_to(elsewhere)
    before = sorted(temporary.iterdir())
    with holding_folder(locked) as is_held, unpacked(zip_of(tmp_path / "a.zip", IM1=b"1")):
        assert is_held
    assert sorted(temporary.iterdir()) == before
    assert elsewhere.is_dir()


def test_zips_in_it_and_what_a_system_added_are_left_out(tmp_path: Path) -> None:
    names = ["__MACOSX/IM1", "a/.DS_Store", ".hidden/IM1", "a/b.zip", "a/IM1"]
    with unpacked(zip_of(tmp_path / "a.zip", **dict.fromkeys(names, b"1"))) as folder:
        assert [path.name for path in folder.rglob("*") if path.is_file()] == ["IM1"]


def test_members_that_are_not_chosen_are_neither_unpacked_nor_checked(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", **dict.fromkeys(["a/IM1", "a/IM2", "../evil"], b"1"))
    with unpacked(path, ["a/IM2"]) as folder:
        assert [path.relative_to(folder).as_posix() for path in folder.rglob("IM*")] == ["a/IM2"]


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/etc/evil",
        "..\\evil",
        "a\\..\\..\\evil",
        "C:\\evil",
        "C:evil",
        "\\\\host\\share\\evil",
        "__MACOSX/../evil",
    ],
)
def test_a_member_that_leads_out_is_refused_by_its_name(tmp_path: Path, temporary: Path, name: str) -> None:
    path = zip_of(tmp_path / "a.zip", **{"IM1": b"1", name: b"2"})
    assert refusal(path) == f"{path}: member {name!r} leads out of the zip; expected names inside it"
    assert list(temporary.iterdir()) == []


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("IM1")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr(link, "/etc/passwd")
    assert "member 'IM1' is a link; expected files only" in refusal(tmp_path / "a.zip")


def test_a_bomb_of_10_gb_of_zeros_is_refused_at_once(tmp_path: Path, temporary: Path) -> None:
    """Three members of 3.5 GB: the same deflated MB again and again."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = squeeze.compress(bytes(1 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    bomb = block * 3500 + squeeze.flush()
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as zipped:
        for k in range(3):
            zipped.writestr(f"IM{k}", bomb)
            info = zipped.getinfo(f"IM{k}")
            info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, 3500 << 20
    start = time.process_time()
    assert "11 GB unpacked, " in refusal(tmp_path / "bomb.zip")
    assert time.process_time() - start < 0.5
    assert list(temporary.iterdir()) == []


def test_a_zip_that_states_less_than_it_holds_is_not_written_beyond(tmp_path: Path, temporary: Path) -> None:
    path = zip_of(tmp_path / "a.zip", IM1=bytes(50_000_000))
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.getinfo("IM1").file_size = 1000
        zipped.comment = b"the list is written anew"
    assert "damaged or cut short" in refusal(path)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("MAX_FILES", 2, "3 files; expected at most 2"),
        ("MAX_BYTES", 2000, "3e-06 GB unpacked; expected at most 2e-06 GB"),
    ],
)
def test_a_zip_beyond_a_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, says: str
) -> None:
    monkeypatch.setattr(unpack, limit, value)
    assert says in refusal(zip_of(tmp_path / "a.zip", **dict.fromkeys("abc", bytes(1000))))


def test_a_zip_that_the_disk_has_no_room_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "SPARE_BYTES", 1 << 60)
    assert "free in " in refusal(zip_of(tmp_path / "a.zip", IM1=b"1"))


def test_a_member_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file and a folder of one name."""
    assert "member 'a/b' cannot be written" in refusal(zip_of(tmp_path / "a.zip", **{"a": b"1", "a/b": b"2"}))


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", IM1=b"1")
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    assert "a.zip: IM1: encrypted" in refusal(path)


def test_a_damaged_zip_is_refused(tmp_path: Path, temporary: Path) -> None:
    path = zip_of(tmp_path / "a.zip", IM1=bytes(range(256)) * 100)
    content = bytearray(path.read_bytes())
    content[40] ^= 255
    path.write_bytes(content)
    assert "damaged or cut short" in refusal(path)
    assert list(temporary.iterdir()) == []


def test_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"nothing")
    assert "damaged or cut short" in refusal(tmp_path / "a.zip")
