"""Find faults of a volume file that ITK passes over: it reads zeros for what is missing, damaged or NaN."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np

from p2ch_luna.errors import LunaError
from p2ch_luna.io.metaimage import check_data_size, check_size, read_header

_NIFTI = (  # bytes of the header; format and place of: rank and sides, type and bits, data's start, affines
    (348, ("8h", 40), ("2h", 70), ("f", 108), ("18f", 256)),
    (540, ("8q", 16), ("2h", 12), ("q", 168), ("18d", 352)),
)
_NIFTI_FLOATS = {16: "f4", 64: "f8"}
_LONGEST_HEADER = 1 << 16
_PIECE = 1 << 16


def check_is_whole(path: Path, suffix: str) -> None:
    """Raise LunaError where a header lacks a field, or data are missing, cut short, damaged or NaN."""
    checks = {".mhd": _check_meta, ".mha": _check_meta, ".nii": _check_nifti, ".nii.gz": _check_nifti}
    checks.get(suffix, _check_nrrd)(path)


def files_of(path: Path) -> list[Path]:
    """A volume file and, where its header names another for the data, that; or all files below a folder.

    Raises LunaError where the data file is not there or the header is none, and OSError.
    """
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    suffix, name = path.suffix.lower(), None
    if suffix in (".mhd", ".mha"):
        name = read_header(path).data_name
    elif suffix in (".nhdr", ".nrrd"):
        name = _nrrd_data_name(_nrrd_header(path)[0])
    return [path] if name is None else [path, _data_file(path, name)]


def _check_meta(path: Path) -> None:
    """MetaImage: the header's own fields are checked where it is parsed."""
    header = read_header(path)
    data = _data_file(path, header.data_name)
    start = header.n_bytes if data == path else 0
    found = _inflated_size(data, start) if header.is_compressed else data.stat().st_size - start
    check_data_size(header, data, found)


def _check_nifti(path: Path) -> None:
    """NIfTI-1 or -2."""
    is_gzip = path.name.lower().endswith(".gz")
    pieces = _inflate(path, 0) if is_gzip else _pieces(path, 0)
    head = next(pieces, b"")
    start, wanted, floats = _nifti_layout(path, head)
    found, bad, rest = 0, 0, b""
    for piece in chain([head], pieces):
        if floats:
            rest += piece[max(0, start - found) :]
            whole = len(rest) // floats.itemsize * floats.itemsize
            bad += int(np.count_nonzero(~np.isfinite(np.frombuffer(rest[:whole], floats))))
            rest = rest[whole:]
        found += len(piece)
    check_size(path, found, wanted)
    if bad:
        raise LunaError(f"{path}: {bad} voxels are NaN or infinite; expected a number in each")


def _nifti_layout(path: Path, head: bytes) -> tuple[int, int, np.dtype[Any] | None]:
    """First byte of the data, bytes of the whole file, and the type of the voxels if they are floats."""
    for (length, *fields), order in product(_NIFTI, "<>"):
        if len(head) >= length and struct.unpack_from(f"{order}i", head) == (length,):
            values = [struct.unpack_from(order + form, head, at) for form, at in fields]
            (rank, *sides), (kind, bits), (start,), affines = values
            if not all(map(math.isfinite, affines)):
                raise LunaError(f"{path}: NaN in the header's place and direction; expected numbers")
            floats = np.dtype(order + _NIFTI_FLOATS[kind]) if kind in _NIFTI_FLOATS else None
            return int(start), int(start) + math.prod(sides[:rank]) * bits // 8, floats
    raise LunaError(f"{path}: not a NIfTI header; expected one of 348 or 540 bytes")


def _check_nrrd(path: Path) -> None:
    """ITK itself sees whether NRRD data are too short, but not whether they decompress."""
    fields, start = _nrrd_header(path)
    data = _data_file(path, _nrrd_data_name(fields))
    if fields.get("encoding") in ("gzip", "gz"):
        _inflated_size(data, start if data == path else 0)


def _nrrd_header(path: Path) -> tuple[dict[str, str], int]:
    """The fields, in small letters as any are allowed, and the byte after the blank line that ends them."""
    head = _first_bytes(path, _LONGEST_HEADER)
    if not head.startswith(b"NRRD"):
        raise LunaError(f"{path}: not a NRRD header; expected its first line to begin with NRRD")
    text, _, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = text.decode("latin-1").splitlines()
    pairs = (line.split(": ", 1) for line in lines if ": " in line)
    return {key.lower(): value.strip() for key, value in pairs}, head.find(b"\n\n") + 2


def _nrrd_data_name(fields: Mapping[str, str]) -> str | None:
    return fields.get("data file", fields.get("datafile"))


def _data_file(header: Path, name: str | None) -> Path:
    """The file that a header names for its data, relative to itself; None: the header's own file."""
    data = header if name is None else header.parent / name
    if not data.is_file():
        raise LunaError(f"{header}: its data file {name!r} is not there; expected it beside the header")
    return data


def _first_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _inflated_size(path: Path, start: int) -> int:
    return sum(map(len, _inflate(path, start)))


def _pieces(path: Path, start: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(_PIECE):
            yield piece


def _inflate(path: Path, start: int) -> Iterator[bytes]:
    """Decompress zlib or gzip data piece by piece; the checksums at their end are checked on the way."""
    member = zlib.decompressobj(wbits=47)
    try:
        for piece in _pieces(path, start):
            yield member.decompress(piece)
            while member.eof and member.unused_data.startswith(b"\x1f\x8b"):  # gzip files may be joined
                rest, member = member.unused_data, zlib.decompressobj(wbits=47)
                yield member.decompress(rest)
    except zlib.error as error:
        raise LunaError(f"{path}: damaged: {error}; expected data that decompress") from error
    if not member.eof:
        raise LunaError(f"{path}: the compressed data end too early; expected a whole file")
