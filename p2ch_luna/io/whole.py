"""Find faults of a volume file that ITK passes over: it reads zeros for what is missing, damaged or NaN.

And what a file that nobody vouches for may do: blow up in memory, or lead ITK to another place on the disk.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain, product
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from p2ch_luna.errors import LunaError
from p2ch_luna.io.metaimage import check_data_size, check_size, read_header
from p2ch_luna.io.names import files_below
from p2ch_luna.io.unpack import MAX_RATIO, RATIO_FROM_BYTES

_NIFTI = (  # bytes of the header; format and place of: rank and sides, type and bits, data's start, affines
    (348, ("8h", 40), ("2h", 70), ("f", 108), ("18f", 256)),
    (540, ("8q", 16), ("2h", 12), ("q", 168), ("18d", 352)),
)
_NIFTI_FLOATS = {16: "f4", 64: "f8"}
_LONGEST_HEADER = 1 << 16
_PIECE = 1 << 16


def check_is_whole(path: Path, suffix: str, limit: float = math.inf) -> None:
    """Raise LunaError where a header lacks a field, or data are missing, cut short, damaged or NaN.

    limit: bytes that compressed data may hold (see `most_bytes`); no more than that is decompressed.
    """
    checks = {".mhd": _check_meta, ".mha": _check_meta, ".nii": _check_nifti, ".nii.gz": _check_nifti}
    checks.get(suffix, _check_nrrd)(path, limit)


def most_bytes(path: Path) -> int:
    """As many as the data of a volume file may take in memory, by its size on disk, if it is a CT.

    Raises LunaError as `files_of` does, and OSError.
    """
    return max(RATIO_FROM_BYTES, MAX_RATIO * sum(file.stat().st_size for file in files_of(path)))


def check_bytes(path: Path, found: int, limit: float) -> None:
    """Raise LunaError where data unpack to more than their limit."""
    if found > limit:
        raise LunaError(
            f"{path}: over {limit / 1e9:.3g} GB unpacked; expected {MAX_RATIO} times its size at most"
        )


def check_stays_beside(path: Path) -> None:
    """Raise LunaError where the header of an unpacked volume file names data that were not unpacked with it.

    ITK would read from wherever an absolute path, `..` or a list of such leads.
    """
    name = _data_name(path)
    if name is None:
        return
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    is_plain = len(posix.parts) == len(windows.parts) == 1 and name not in (".", "..") and not windows.drive
    if not is_plain or name.startswith("LIST"):
        raise LunaError(f"{path}: its data file is {name!r}; expected the name of a file beside the header")


def check_has_data(path: Path) -> None:
    """Raise LunaError where a volume file came in a zip without the data file that its header names.

    Called after `check_stays_beside`. The zip is not named: it may be called after the header.
    """
    name = _data_name(path)
    if name is not None and not (path.parent / name).is_file():
        raise LunaError(
            f"{path.name}: its data file {name!r} is not in the zip; expected both: "
            "choose both files together"
        )


def files_of(path: Path) -> list[Path]:
    """A volume file and, where its header names another for the data, that; or all files below a folder.

    Raises LunaError where the data file is not there or the header is none, and OSError.
    """
    if path.is_dir():
        return sorted(files_below(path))
    name = _data_name(path)
    return [path] if name is None else [path, _data_file(path, name)]


def _data_name(path: Path) -> str | None:
    """The data file that the header of a volume file names; None: its own, or a format without."""
    suffix = path.suffix.lower()
    if suffix in (".mhd", ".mha"):
        return read_header(path).data_name
    if suffix in (".nhdr", ".nrrd"):
        return _nrrd_data_name(_nrrd_header(path)[0])
    return None


def _check_meta(path: Path, limit: float) -> None:
    """MetaImage: the header's own fields are checked where it is parsed."""
    header = read_header(path)
    data = _data_file(path, header.data_name)
    start = header.n_bytes if data == path else 0
    found = _inflated_size(data, start, limit) if header.is_compressed else data.stat().st_size - start
    check_data_size(header, data, found)


def _check_nifti(path: Path, limit: float) -> None:
    """NIfTI-1 or -2."""
    is_gzip = path.name.lower().endswith(".gz")
    pieces = _inflate(path, 0, limit) if is_gzip else _pieces(path, 0)
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
        raise LunaError(f"{path}: voxels that are NaN or infinite: {bad}; expected a number in each")


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


def _check_nrrd(path: Path, limit: float) -> None:
    """ITK itself sees whether NRRD data are too short, but not whether they decompress."""
    fields, start = _nrrd_header(path)
    data = _data_file(path, _nrrd_data_name(fields))
    if fields.get("encoding") in ("gzip", "gz"):
        _inflated_size(data, start if data == path else 0, limit)


def _nrrd_header(path: Path) -> tuple[dict[str, str], int]:
    """The fields, in small letters as any are allowed, and the byte after the blank line that ends them."""
    head = _first_bytes(path, _LONGEST_HEADER)
    if not head.startswith(b"NRRD"):
        raise LunaError(f"{path}: not a NRRD header; expected its first line to begin with NRRD")
    text, end, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    if not end and len(head) == _LONGEST_HEADER:  # a field beyond could name another data file
        raise LunaError(f"{path}: a NRRD header of over {_LONGEST_HEADER} bytes; expected a shorter one")
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


def _inflated_size(path: Path, start: int, limit: float) -> int:
    return sum(map(len, _inflate(path, start, limit)))


def _pieces(path: Path, start: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(_PIECE):
            yield piece


def _inflate(path: Path, start: int, limit: float) -> Iterator[bytes]:
    """Decompress zlib or gzip data piece by piece; the checksums at their end are checked on the way."""
    member = zlib.decompressobj(wbits=47)
    total = 0
    try:
        for piece in _pieces(path, start):
            inflated = [member.decompress(piece)]
            while member.eof and member.unused_data.startswith(b"\x1f\x8b"):  # gzip files may be joined
                rest, member = member.unused_data, zlib.decompressobj(wbits=47)
                inflated.append(member.decompress(rest))
            total += sum(map(len, inflated))
            check_bytes(path, total, limit)
            yield from inflated
    except zlib.error as error:
        raise LunaError(f"{path}: damaged: {error}; expected data that decompress") from error
    if not member.eof:
        raise LunaError(f"{path}: the compressed data end too early; expected a whole file")
