"""Files that lie in a zip, read in place: nothing is unpacked to disk.

A path may lead into a zip as into a folder: `LUNA16/candidates_V2.zip/candidates_V2.csv`.
"""

from __future__ import annotations

import errno
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError

_PIECE = 1 << 18  # larger ones leave the processor's cache: 1.6 times slower at 4 MiB
_METHODS = {  # that zipfile can read
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
    zipfile.ZIP_BZIP2,
    zipfile.ZIP_LZMA,
}
_DAMAGE = (  # RuntimeError: encrypted; ValueError: sizes that lie outside the file
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip to read from. Raises LunaError where it, or what is read of it in the block, is damaged."""
    try:
        with zipfile.ZipFile(path) as zipped:
            yield zipped
    except _DAMAGE as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or "it ends too early"
        raise LunaError(
            f"{path}: damaged or cut short: {reason}; expected a whole zip (download it again)"
        ) from error


def zip_members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The files in a zip by name. Raises LunaError where it is no whole zip, or cannot be read in place."""
    stat = path.stat()
    return dict(_members(path, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=32)
def _members(path: Path, size: int, mtime_ns: int) -> dict[str, zipfile.ZipInfo]:  # noqa: ARG001
    with open_zip(path) as zipped:
        infos = {info.filename: info for info in zipped.infolist() if not info.is_dir()}
    for name, info in infos.items():
        if info.compress_type not in _METHODS or info.flag_bits & 1:
            kind = "encrypted" if info.flag_bits & 1 else f"compressed by method {info.compress_type}"
            raise LunaError(f"{path}: {name}: {kind}; expected Deflate: unpack the zip, e.g. with 7-Zip")
    return infos


def read_member(path: Path, member: str) -> NDArray[np.uint8]:
    """All bytes of one file in a zip, its checksum checked, held in memory once."""
    with open_zip(path) as zipped, zipped.open(member) as file:
        content = np.empty(zipped.getinfo(member).file_size, np.uint8)
        view, start = content.data, 0
        while count := file.readinto(view[start : start + _PIECE]):  # type: ignore[attr-defined]
            start += count
        if start < len(content) or file.read(1):
            raise EOFError(f"{member} has {start} bytes, {len(content)} by the zip's list")
    return content


def open_binary(path: Path) -> IO[bytes]:
    """Open a file to read, also one that lies in a zip. Raises OSError, or LunaError for a damaged zip."""
    zipped = next((p for p in path.parents if p.suffix.lower() == ".zip" and p.is_file()), None)
    if zipped is None:
        return path.open("rb")
    member = path.relative_to(zipped).as_posix()
    if member not in zip_members(zipped):
        raise FileNotFoundError(errno.ENOENT, f"no {member} in {zipped.name}", str(path))
    return io.BytesIO(read_member(zipped, member).data)
