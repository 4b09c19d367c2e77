"""Prepared scans on disk, so that a second run need not prepare them again."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import blosc2
import diskcache
import numpy as np
import platformdirs
from diskcache.core import MODE_BINARY
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.lungs import PREPARE_VERSION, PreparedCt

CHECKSUM_BYTES = 16
_DATA_FILE = re.compile(rb"^(?:ElementDataFile *=|data ?file:) *(.*\S)", re.MULTILINE)
_SETTINGS = {
    "size_limit": 2**36,  # bytes: two or three times all of LUNA16; what was stored longest ago makes room
    "disk_min_file_size": 0,
}
_COMPRESSION = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "filters": [blosc2.Filter.SHUFFLE]}

log = logging.getLogger(__name__)


class ScanCache:
    """Prepared scans by key, in a private folder (0700) named `scans`.

    folder: where to make that; None: in the user's cache folder. Not on a network file system, which
    breaks SQLite's locks. LunaError is raised where it cannot be read or written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or Path(platformdirs.user_cache_dir("p2ch-luna"))) / "scans"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
        except OSError as error:
            raise LunaError(f"{self.folder}: {error.strerror}; expected a folder to keep scans in") from error

    def get_or_make(self, key: str, make: Callable[[], PreparedCt]) -> PreparedCt:
        """The scan stored under `key`; else what `make` returns, stored for the next time.

        A damaged entry is made again, with a warning in the log.
        """
        with self._entries() as entries:
            packed = entries.get(key)
        if packed is not None:
            try:
                return _unpack(packed)
            except ValueError as error:
                log.warning("%s: entry %s is damaged: %s; made again", self.folder, key, error)
        made = make()
        with self._entries() as entries:
            entries.set(key, _pack(made))
        return made

    @contextmanager
    def _entries(self) -> Iterator[diskcache.Cache]:
        try:
            with diskcache.Cache(str(self.folder), disk=_BytesDisk, **_SETTINGS) as entries:
                yield entries
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            raise LunaError(
                f"{self.folder}: {error}; expected a cache with room (delete it to renew)"
            ) from error


class _BytesDisk(diskcache.Disk):  # type: ignore[misc]
    """Keeps bytes under text keys, in files, and nothing else: what it finds is never unpickled.

    diskcache's own would run what a stranger left in the folder (CVE-2025-69872).
    """

    def put(self, key: str) -> tuple[str, bool]:
        """The key as the database holds it."""
        return key, True

    def get(self, key: str, raw: bool) -> str:  # noqa: ARG002
        """The key as it was given, whatever its row says of a pickle."""
        return key

    def store(self, value: bytes, read: bool, key: str) -> tuple[int, int, str | None, None]:
        """Write the bytes to a file: its size, mode and name."""
        if read or type(value) is not bytes:  # the base class would pickle it
            raise TypeError(f"entry {key}: got {type(value).__name__}, expected bytes")
        stored: tuple[int, int, str | None, None] = super().store(value, read, key)
        return stored

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> bytes:
        """The bytes of the file; of a row that this class did not write, nothing."""
        if mode != MODE_BINARY or filename is None:
            return b""
        content: bytes = super().fetch(mode, filename, value, read)
        return content


def scan_key(path: Path, spacing_mm: float, margin_mm: float) -> str:
    """A key made of all that `prepare` depends on: the scan's bytes and name, parameters and version.

    `path`: a file, where its header names a data file this too, or a folder with all that is below it.
    """
    parameters = [PREPARE_VERSION, float(spacing_mm), float(margin_mm), path.name]
    digest = hashlib.blake2b(json.dumps(parameters).encode(), digest_size=20)
    try:
        for part in _files_of(path):
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, hashlib.blake2b).digest())
    except OSError as error:
        raise LunaError(f"{path}: cannot be read: {error.strerror}; expected a scan") from error
    return digest.hexdigest()


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    with path.open("rb") as file:
        named = _DATA_FILE.search(file.read(2**16))
    data = [path.parent / named[1].decode(errors="replace")] if named else []  # LOCAL: no such file
    return [path, *(p for p in data if p.is_file())]


def _pack(prepared: PreparedCt) -> bytes:
    """Checksum, a line of JSON, compressed HU, compressed bits of the mask."""
    geometry = prepared.ct.geometry
    int16 = np.ascontiguousarray(prepared.ct.hu.astype(np.int16, casting="safe", copy=False))
    hu: bytes = blosc2.compress2(int16, typesize=2, **_COMPRESSION)
    bits: bytes = blosc2.compress2(np.packbits(prepared.lung), typesize=1, **_COMPRESSION)
    header = {
        "series_uid": prepared.ct.series_uid,
        "shape": prepared.ct.hu.shape,
        "origin_xyz": geometry.origin_xyz.tolist(),
        "spacing_xyz": geometry.spacing_xyz.tolist(),
        "direction": geometry.direction.tolist(),
        "warning": prepared.warning,
        "hu_bytes": len(hu),
    }
    body = json.dumps(header).encode() + b"\n" + hu + bits
    return _checksum(body) + body


def _unpack(packed: bytes) -> PreparedCt:
    """Invert `_pack`. Raises ValueError where a byte is not as it was written."""
    body = packed[CHECKSUM_BYTES:]
    if _checksum(body) != packed[:CHECKSUM_BYTES]:
        raise ValueError(f"{len(packed)} bytes do not fit their checksum")
    line, _, arrays = body.partition(b"\n")
    header: dict[str, Any] = json.loads(line)
    shape = tuple(header["shape"])
    hu = np.empty(shape, np.int16)
    blosc2.decompress2(arrays[: header["hu_bytes"]], dst=hu)
    bits: NDArray[np.uint8] = np.empty(-(-hu.size // 8), np.uint8)
    blosc2.decompress2(arrays[header["hu_bytes"] :], dst=bits)
    geometry = ImageGeometry(*(np.array(header[k]) for k in ("origin_xyz", "spacing_xyz", "direction")))
    lung = np.unpackbits(bits, count=hu.size).view(bool).reshape(shape)
    return PreparedCt(CtVolume(header["series_uid"], hu, geometry), lung, header["warning"])


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=CHECKSUM_BYTES).digest()
