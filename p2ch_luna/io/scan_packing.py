"""Bring a prepared scan into the format of `scan_file`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import blosc2
import numpy as np
from numpy.typing import NDArray

from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.io.scan_file import MAGIC, PAGE, PREFIX, Storage, up_to_page
from p2ch_luna.lungs import PreparedCt, sample_places

CHUNK, BLOCK = 64, 16  # voxels each way: a chunk is found, a block decompressed; fastest for patches of 64
_COMPRESSION = {"codec": blosc2.Codec.ZSTD, "clevel": 3, "filters": [blosc2.Filter.BITSHUFFLE]}

Bytes = bytes | memoryview


@dataclass(frozen=True)
class PackedScan:
    """What the file of a scan will hold, in memory: `n_bytes` in all."""

    pieces: Sequence[Bytes]
    n_bytes: int

    def write(self, file: BinaryIO) -> None:
        """Write it, from where `file` stands."""
        for piece in self.pieces:
            file.write(piece)


def pack_scan(prepared: PreparedCt, storage: Storage) -> PackedScan:
    """Bring a scan into the format; the same scan always becomes the same bytes.

    Raises TypeError where HU are no integers of 16 bits, ValueError where the mask is not one of the CT.
    """
    hu = prepared.ct.hu.astype(np.int16, casting="safe", copy=False)
    if prepared.lung.dtype != bool or prepared.lung.shape != hu.shape or max(hu.shape) > 2**16:
        raise ValueError(
            f"{prepared.ct.series_uid}: lung is {prepared.lung.dtype} {prepared.lung.shape}; "
            f"expected bool {hu.shape}, at most 65536 each way"
        )
    pack = {"blosc2": _frame, "raw": _npy}[storage]
    parts = {
        "hu": pack(hu),
        "lung": pack(prepared.lung),
        "places": _npy(sample_places(prepared.lung)),
    }
    pieces: list[Bytes] = [_header_block(prepared, storage, parts)]
    for part in parts.values():
        pieces += [*part, _padding(part)]
    return PackedScan(pieces, _size(pieces))


def _size(pieces: Sequence[Bytes]) -> int:
    return sum(len(piece) for piece in pieces)


def _padding(part: Sequence[Bytes]) -> bytes:
    return bytes(up_to_page(_size(part)) - _size(part))


def _frame(array: NDArray[Any]) -> list[Bytes]:
    """One thread: more of them would order the blocks by chance."""
    chunks, blocks = (tuple(min(side, n) for n in array.shape) for side in (CHUNK, BLOCK))
    compressed = blosc2.asarray(
        np.ascontiguousarray(array), chunks=chunks, blocks=blocks, cparams={**_COMPRESSION, "nthreads": 1}
    )
    return [compressed.to_cframe()]


def _npy(array: NDArray[Any]) -> list[Bytes]:
    """What `np.save` would write, without a copy of the voxels."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    return [head.getvalue(), array.reshape(-1).view(np.uint8).data]


def _header_block(prepared: PreparedCt, storage: Storage, parts: dict[str, list[Bytes]]) -> bytes:
    described, offset = {}, 0  # offsets from the end of the block, whose size depends on them
    for name, pieces in parts.items():
        checksum = 0
        for piece in [*pieces, _padding(pieces)]:
            checksum = zlib.crc32(piece, checksum)
        described[name] = {"offset": offset, "n_bytes": _size(pieces), "crc32": checksum}
        offset += up_to_page(_size(pieces))
    header = {
        "series_uid": prepared.ct.series_uid,
        "storage": storage,
        "shape": prepared.ct.hu.shape,
        "warning": prepared.warning,
        "geometry": _geometry_as_lists(prepared.ct.geometry),
        "native": prepared.native and _geometry_as_lists(prepared.native),
        "parts": described,
    }
    body = json.dumps(header).encode()
    body += bytes(-(PREFIX.size + len(body)) % PAGE)
    return PREFIX.pack(MAGIC, PREFIX.size + len(body), zlib.crc32(body)) + body


def _geometry_as_lists(geometry: ImageGeometry) -> list[Any]:
    return [a.tolist() for a in (geometry.origin_xyz, geometry.spacing_xyz, geometry.direction)]
