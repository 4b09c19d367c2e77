"""Files in a zip, and zips that are damaged."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.io import read_nodules
from p2ch_luna.io.zipped import open_binary, read_member, zip_members

CONTENT = bytes(range(256)) * 2048  # two pieces


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("folder/", "")
        zipped.writestr("folder/b.raw", CONTENT)
        zipped.writestr("c.csv", "seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3,1,2,3,4\n")
    return path


def test_files_are_listed_without_folders(path: Path) -> None:
    assert list(zip_members(path)) == ["folder/b.raw", "c.csv"]


def test_a_file_is_read_whole(path: Path) -> None:
    assert read_member(path, "folder/b.raw").tobytes() == CONTENT


def test_a_path_may_lead_into_a_zip(path: Path) -> None:
    with open_binary(path / "folder" / "b.raw") as file:
        assert file.read() == CONTENT


def test_a_path_may_lead_to_a_plain_file(path: Path) -> None:
    (path.parent / "plain").write_bytes(b"text")
    with open_binary(path.parent / "plain") as file:
        assert file.read() == b"text"


def test_a_name_that_is_not_in_the_zip_is_not_found(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no d\.csv in a\.zip"):
        open_binary(path / "d.csv")


def test_a_table_may_lie_in_a_zip(path: Path) -> None:
    assert read_nodules(path / "c.csv") == [Nodule("1.2.3", (1.0, 2.0, 3.0), 4.0)]


def test_a_table_that_is_not_in_the_zip_is_named(path: Path) -> None:
    with pytest.raises(LunaError, match=r"a\.zip/d\.csv: cannot be read: no d\.csv in a\.zip"):
        read_nodules(path / "d.csv")


def test_a_zip_cut_short_is_named(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(LunaError, match=r"a\.zip: damaged or cut short: .*expected a whole zip"):
        zip_members(path)


def test_a_flipped_byte_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("b.raw", CONTENT)
    damaged = bytearray(path.read_bytes())
    damaged[1000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(LunaError, match=r"a\.zip: damaged or cut short: Bad CRC-32"):
        read_member(path, "b.raw")


def test_a_flipped_byte_in_compressed_data_is_seen(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[300] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(LunaError, match=r"a\.zip: damaged or cut short"):
        read_member(path, "folder/b.raw")


def set_in_directory(path: Path, offset: int, value: int) -> None:
    """Change a 16-bit field of the first entry of the list at the end of a zip."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + offset, value)
    path.write_bytes(content)


def test_a_compression_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("b.raw", CONTENT)
    set_in_directory(path, 10, 9)  # Deflate64
    with pytest.raises(LunaError, match=r"a\.zip: b\.raw: compressed by method 9; expected Deflate: unpack"):
        zip_members(path)


def test_an_encrypted_zip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("b.raw", CONTENT)
    set_in_directory(path, 8, 1)
    with pytest.raises(LunaError, match=r"a\.zip: b\.raw: encrypted; expected Deflate"):
        zip_members(path)


def test_a_zip_that_changes_is_listed_anew(path: Path) -> None:
    zip_members(path)
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr("d.csv", "new")
    assert "d.csv" in zip_members(path)
