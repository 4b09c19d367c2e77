"""The file of one prepared scan: read where it is sliced, checked byte by byte.

A header block, then the parts hu, lung and places, each from a page boundary to the next one and with its
own checksum. The block: magic, its size and checksum, JSON, zeros. What is read runs no code: JSON, numbers,
and blosc2 frames that are opened as arrays only.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any, Literal

import blosc2
import numpy as np
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry, Voxels
from p2ch_luna.lungs import PreparedCt, sample_places

FORMAT_VERSION = 1
MAGIC = b"LUNASCN" + bytes([FORMAT_VERSION])
PAGE = 4096  # bytes; what is mapped starts on a boundary of it
PREFIX = struct.Struct("<8sII")  # magic, bytes of the header block, checksum of what follows in it
_PIECE = 2**18  # bytes read at a time for a checksum
_TICK_NS = 20_000_000  # files written within one of these may bear the same time

Storage = Literal["blosc2", "raw"]

NPY_HEAD = 128  # bytes: what NumPy writes for arrays of few axes
# The headers of files that this process has read whole and found good, with the place of the first part.
# Kept, for a scan is opened for nearly every sample that is drawn.
_VERIFIED: dict[tuple[str, int, int, int], tuple[dict[str, Any], int]] = {}


class DamagedEntry(ValueError):  # noqa: N818
    """The file of a scan is not as it was written."""


@dataclass(frozen=True, eq=False)
class StoredScan:
    """A prepared scan whose voxels are read from its file where they are sliced.

    The file is mapped for as long as the scan or anything sliced from a raw one is held.
    """

    series_uid: str
    geometry: ImageGeometry  # of the voxels here: isotropic, the lungs' box and a margin
    native: ImageGeometry | None  # of the scan that it was made from
    warning: str | None  # as in `Lungs`
    places_irc: NDArray[np.uint16]  # (N, 3) voxels of the lung, as `lungs.sample_places` draws them
    hu: Voxels[np.int16]  # (D, H, W) int16
    lung: Voxels[np.bool_]  # (D, H, W) bool
    path: Path | None  # None: in memory

    @classmethod
    def in_memory(cls, prepared: PreparedCt) -> StoredScan:
        """The same view of a scan that is not stored; the voxels are those of `prepared`."""
        ct = prepared.ct
        hu, places = ct.hu.astype(np.int16, copy=False), sample_places(prepared.lung)
        return cls(
            ct.series_uid, ct.geometry, prepared.native, prepared.warning, places, hu, prepared.lung, None
        )

    def load(self) -> PreparedCt:
        """All voxels, in new arrays."""
        whole = (slice(None), slice(None), slice(None))
        ct = CtVolume(self.series_uid, np.array(self.hu[whole]), self.geometry)
        return PreparedCt(ct, np.array(self.lung[whole]), self.warning, self.native)


def up_to_page(n_bytes: int) -> int:
    """The next multiple of `PAGE`."""
    return -(-n_bytes // PAGE) * PAGE


def open_scan(path: Path) -> StoredScan:
    """Open the file of one scan; its checksums are verified the first time that a process opens it.

    Raises DamagedEntry where a byte is not as it was written, FileNotFoundError where there is no file,
    and LunaError where it cannot be read.
    """
    with _reading(path) as file:
        stat = os.fstat(file.fileno())
        identity = (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
        is_settled = time.time_ns() - stat.st_mtime_ns > _TICK_NS  # a change from now on shows in the time
        header, start = _VERIFIED.get(identity) or _read_header(file, stat.st_size)
        if identity not in _VERIFIED:
            _verify_parts(file, header, start)
            if is_settled:
                _VERIFIED[identity] = header, start
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return _stored(path, header, mapped[start:])


def verify_scan(path: Path) -> None:
    """Read all of a scan's file, whether that was done before or not; raises as `open_scan` does."""
    with _reading(path) as file:
        header, start = _read_header(file, os.fstat(file.fileno()).st_size)
        _verify_parts(file, header, start)


@contextmanager
def _reading(path: Path) -> Iterator[FileIO]:
    try:
        with path.open("rb", buffering=0) as file:
            yield file
    except (FileNotFoundError, DamagedEntry):
        raise
    except OSError as error:
        raise LunaError(f"{path}: cannot be read: {error.strerror}; expected a prepared scan") from error
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedEntry(f"it is not understood: {error!r}") from error  # though its checksums fit


def _read_header(file: FileIO, file_size: int) -> tuple[dict[str, Any], int]:
    """The header and where the parts start."""
    prefix = file.read(PREFIX.size)
    if len(prefix) < PREFIX.size or not prefix.startswith(MAGIC):
        raise DamagedEntry(f"it starts with {prefix[:8]!r}; expected {MAGIC!r}")
    _, start, checksum = PREFIX.unpack(prefix)
    body = file.read(min(start, file_size) - PREFIX.size) if start > PREFIX.size else b""
    if zlib.crc32(body) != checksum:
        raise DamagedEntry("its header does not fit its checksum")
    header: dict[str, Any] = json.loads(body.rstrip(b"\0"))
    for name in ("geometry", "native"):
        header[name] = header[name] and ImageGeometry(*(np.array(v, float) for v in header[name]))
    wanted = start + sum(up_to_page(part["n_bytes"]) for part in header["parts"].values())
    if file_size != wanted:
        raise DamagedEntry(f"it has {file_size} bytes; expected {wanted}")
    return header, start


def _verify_parts(file: FileIO, header: dict[str, Any], start: int) -> None:
    """Read, not mapped: what is mapped would count as the memory of this process."""
    buffer = memoryview(bytearray(_PIECE))
    for name, part in header["parts"].items():
        file.seek(start + part["offset"])
        left, checksum = up_to_page(part["n_bytes"]), 0
        while left and (n := file.readinto(buffer[: min(left, _PIECE)])):
            checksum = zlib.crc32(buffer[:n], checksum)
            left -= n
        if checksum != part["crc32"]:
            raise DamagedEntry(f"its part {name!r} does not fit its checksum")


def _stored(path: Path, header: dict[str, Any], mapped: memoryview) -> StoredScan:
    parts = {
        name: mapped[part["offset"] : part["offset"] + part["n_bytes"]]
        for name, part in header["parts"].items()
    }
    view = {"blosc2": _from_frame, "raw": _from_npy}[header["storage"]]
    shape = tuple(header["shape"])
    return StoredScan(
        header["series_uid"],
        header["geometry"],
        header["native"],
        header["warning"],
        _checked(_from_npy(parts["places"]), "uint16"),
        _checked(view(parts["hu"]), "int16", shape),
        _checked(view(parts["lung"]), "bool", shape),
        path,
    )


def _checked(array: Any, dtype: str, shape: tuple[int, ...] | None = None) -> Any:
    if array.dtype != dtype or (shape is not None and array.shape != shape):
        raise DamagedEntry(f"it holds {array.dtype} {array.shape}; expected {dtype} {shape}")
    return array


def _from_frame(frame: memoryview) -> Any:
    array = blosc2.ndarray_from_cframe(frame, copy=False)
    array.schunk.dparams = blosc2.DParams(nthreads=1)  # workers share the cores already
    array.frame = frame  # keeps the file mapped for as long as the array is there
    return array


def _from_npy(npy: memoryview) -> NDArray[Any]:
    shape, dtype, start = _npy_layout(bytes(npy[:NPY_HEAD]))
    return np.frombuffer(npy, dtype, int(np.prod(shape)), start).reshape(shape)


@lru_cache(maxsize=4096)
def _npy_layout(head: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and start of the numbers in a .npy file that begins so."""
    file = BytesIO(head)
    np.lib.format.read_magic(file)
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if is_fortran or dtype.hasobject:
        raise DamagedEntry(f"it holds {dtype} {shape} in another order; expected plain numbers")
    return shape, dtype, file.tell()
