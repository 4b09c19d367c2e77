"""MetaImage (.mhd, .mha): what its header says, and its voxels from bytes, which may come out of a zip."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.io.checks import make_geometry

_LONGEST_HEADER = 1 << 16
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_OFFSETS = ("Offset", "Position", "Origin")  # names of one thing, in the order in which they are looked for
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")
_BIG_ENDIAN = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")


@dataclass(frozen=True)
class MetaHeader:
    """The lines `Key = value` of a header, in which sizes, a type and a spacing are checked.

    source: named in errors.    n_bytes: of the header; where its file holds the data too, they follow.
    """

    source: Path
    fields: Mapping[str, str]
    n_bytes: int

    @property
    def data_name(self) -> str | None:
        """The file of the data, relative to the header's; None: the header's own."""
        name = self.fields["ElementDataFile"]
        return None if name == "LOCAL" else name

    @property
    def is_compressed(self) -> bool:
        """Whether the data are a zlib stream."""
        return self._is_true("CompressedData")

    @property
    def sides(self) -> tuple[int, ...]:
        """Voxels along col, row, index."""
        return tuple(map(int, self.fields["DimSize"].split()))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a voxel in the file, with its byte order."""
        return np.dtype((">" if any(map(self._is_true, _BIG_ENDIAN)) else "<") + self._type)

    @property
    def data_bytes(self) -> int:
        """Wanted by the header, before compression."""
        return math.prod(self.sides) * self.channels * self.dtype.itemsize

    @property
    def channels(self) -> int:
        """Values a voxel."""
        return int(self.fields.get("ElementNumberOfChannels", 1))

    @property
    def _type(self) -> str:
        return _TYPES[self.fields["ElementType"]]

    def _is_true(self, key: str) -> bool:
        return self.fields.get(key, "False").lower() == "true"

    def numbers(self, names: Sequence[str], default: Sequence[float]) -> list[float]:
        """The numbers under the first of these keys that is there."""
        for name in names:
            if name in self.fields:
                return list(map(float, self.fields[name].split()))
        return list(default)


def _leads_elsewhere(key: str) -> bool:
    """Whether ITK, to which `:` is as good as `=`, may see an ElementDataFile in it where we see none."""
    return "elementdatafile" in key.lower() and key != "ElementDataFile"


def parse_header(source: Path, head: bytes) -> MetaHeader:
    """Read the header at the start of `head`. Raises LunaError where a field is missing or impossible."""
    fields: dict[str, str] = {}
    end = 0
    for line in head[:_LONGEST_HEADER].splitlines(keepends=True):
        end += len(line)
        key, equals, value = line.decode("latin-1").partition("=")
        if not equals or _leads_elsewhere(key.strip()):
            break
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            header = MetaHeader(source, fields, end)
            _check_fields(header)
            return header
    raise LunaError(f"{source}: not a MetaImage header; expected lines 'Key = value' up to ElementDataFile")


def read_header(path: Path) -> MetaHeader:
    """Read the header of a file. Raises OSError, and LunaError as `parse_header` does."""
    with path.open("rb") as file:
        return parse_header(path, file.read(_LONGEST_HEADER))


def _check_fields(header: MetaHeader) -> None:
    source, fields = header.source, header.fields
    try:
        wanted = header.data_bytes
    except (KeyError, ValueError) as error:
        raise LunaError(f"{source}: not a MetaImage header: {error}; expected sizes and a type") from error
    if wanted <= 0 or min(header.sides) <= 0:
        raise LunaError(f"{source}: DimSize is {fields['DimSize']}; expected positive numbers of voxels")
    if "ElementSpacing" not in fields:
        raise LunaError(f"{source}: the header has no ElementSpacing; expected the mm between voxels")
    for key in ("ElementSpacing", *_OFFSETS, *_MATRICES):
        if not all(map(_is_finite, fields.get(key, "").split())):
            raise LunaError(f"{source}: {key} is {fields[key]}; expected numbers")
    if min(header.numbers(["ElementSpacing"], ()), default=0) <= 0:
        raise LunaError(f"{source}: ElementSpacing is {fields['ElementSpacing']}; expected positive mm")


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def check_size(data: Path, found: int, wanted: int) -> None:
    """Raise LunaError where data are shorter than their header says."""
    if found < wanted:
        raise LunaError(f"{data}: {found} bytes; expected {wanted} by its header: the file is cut short")


def check_data_size(header: MetaHeader, data: Path, found: int) -> None:
    """Raise LunaError unless data, decompressed, are as long as the header says: no row is out of place."""
    check_size(data, found, header.data_bytes)
    if found > header.data_bytes and "HeaderSize" not in header.fields:
        raise LunaError(
            f"{data}: {found} bytes; expected {header.data_bytes} by its header: the sizes in it are wrong"
        )


def meta_geometry(header: MetaHeader) -> tuple[tuple[int, int, int], ImageGeometry]:
    """Shape (D, H, W) and geometry of a 3-D image, in the order of the file."""
    source = header.source
    sides, channels = header.sides, header.channels
    if len(sides) != 3:
        raise LunaError(
            f"{source}: a {len(sides)}-D image of {' x '.join(map(str, sides))}; expected a 3-D volume"
        )
    if channels != 1:
        raise LunaError(f"{source}: {channels} values a voxel, as in a colour image; expected one HU")
    spacing = header.numbers(["ElementSpacing"], ())
    origin = header.numbers(_OFFSETS, (0, 0, 0))
    columns = header.numbers(_MATRICES, (1, 0, 0, 0, 1, 0, 0, 0, 1))
    if (len(spacing), len(origin), len(columns)) != (3, 3, 9):
        raise LunaError(
            f"{source}: {len(spacing)} spacings, {len(origin)} offsets and a matrix of {len(columns)}; "
            "expected 3, 3 and 9 numbers"
        )
    width, height, depth = sides
    geometry = make_geometry(source, origin, spacing, np.reshape(columns, (3, 3)).T)
    return (depth, height, width), geometry


def meta_voxels(
    header: MetaHeader, data: bytes | bytearray | memoryview, data_source: Path
) -> tuple[NDArray[Any], ImageGeometry]:
    """(D, H, W) voxels in the order of the file, a view of `data` if these are not compressed.

    data: all bytes of the data file, or what follows the header in its own. Raises LunaError, which
    names `data_source`, where they are cut short or damaged, and for kinds of MetaImage that LUNA16 has not.
    """
    for key, usual in (("BinaryData", "True"), ("HeaderSize", "0")):
        if (found := header.fields.get(key, usual)).lower() != usual.lower():
            raise LunaError(f"{header.source}: {key} is {found}; expected {usual}, as in LUNA16")
    shape, geometry = meta_geometry(header)
    if header.is_compressed:
        data = _inflated(data, data_source)
    check_data_size(header, data_source, len(data))
    return np.frombuffer(data, header.dtype, math.prod(shape)).reshape(shape), geometry


def _inflated(data: bytes | bytearray | memoryview, source: Path) -> bytes:
    try:
        return zlib.decompress(data, wbits=47)
    except zlib.error as error:
        raise LunaError(f"{source}: damaged: {error}; expected data that decompress") from error
