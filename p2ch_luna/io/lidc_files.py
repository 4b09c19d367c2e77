"""Plain tables as CSV and arrays as .npz, written so that the same values give the same bytes."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing

_DATE = (1980, 1, 1, 0, 0, 0)  # in the zip: else each writing would give other bytes

Value = TypeVar("Value")


def read_table(path: Path, columns: Sequence[str], convert: Callable[[Sequence[str]], Value]) -> list[Value]:
    """Convert the cells of each row. Raises LunaError for other columns and a row that does not convert."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            if (header := next(reader, [])) != list(columns):
                raise LunaError(f"{path}: columns {', '.join(header)}; expected {', '.join(columns)}")
            return [convert(cells) for cells in reader]
    except OSError as error:
        raise LunaError(
            f"{path}: cannot be read: {error.strerror or error}; expected a LIDC table"
        ) from error
    except (ValueError, csv.Error) as error:
        raise LunaError(f"{path}: line {reader.line_num}: {error}; expected a row of a LIDC table") from error


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a header and rows, whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a .npz, none of them a pickle. Raises LunaError where it is missing or damaged."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return dict(file)
    except OSError as error:
        raise LunaError(
            f"{path}: cannot be read: {error.strerror or error}; expected LIDC outlines"
        ) from error
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise LunaError(f"{path}: damaged: {error}; expected LIDC outlines") from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write as `numpy.savez_compressed` does, but always with the same date."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", compresslevel=9) as zipped:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with zipped.open(entry, "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
