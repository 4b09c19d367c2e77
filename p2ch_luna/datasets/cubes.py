"""Which patients the 51 mm cubes round LIDC nodules may be of."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from p2ch_luna.datasets.splits import Folds
from p2ch_luna.errors import LunaError

CUBE_COLUMNS = ("cube", "first_patient", "last_patient")


def cubes_within(
    folder: Path, table_path: Path | None, own: Folds, folds: Collection[int]
) -> list[tuple[Path, list[str]]]:
    """The cubes that can only be of patients of these folds, each with the patients it may be of.

    The table gives, for each cube, the first and last patient of LIDC-IDRI whom it may show; a cube of
    which only one of them belongs to other folds is left out.
    """
    if table_path is None:
        raise LunaError(f"{folder}: whose cubes? wanted data.cube_patients beside data.cubes")
    return [
        (folder / f"{cube}.nii.gz", patients)
        for cube, patients in _read_cube_patients(table_path)
        if all(own.are_within(patient, folds) for patient in patients)
    ]


def _read_cube_patients(path: Path) -> list[tuple[str, list[str]]]:
    """The cubes and whom each may show; a cube that may show nobody is an error."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in CUBE_COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise LunaError(f"{path}: no column {missing[0]!r}; found {reader.fieldnames}")
            return [(row["cube"], _patients(row["first_patient"], row["last_patient"])) for row in reader]
    except OSError as error:
        raise LunaError(f"{path}: {error.strerror}; wanted a table of the cubes' patients") from error
    except ValueError as error:
        raise LunaError(f"{path}, line {reader.line_num}: {error}") from error


def _patients(first: str | None, last: str | None) -> list[str]:
    """All from first to last, as LIDC-IDRI numbers them."""
    numbers = [(text or "").removeprefix("LIDC-IDRI-") for text in (first, last)]
    if not all(n.isdecimal() for n in numbers) or int(numbers[0]) > int(numbers[1]):
        raise ValueError(f"patients {first} to {last}; wanted e.g. LIDC-IDRI-0001 to LIDC-IDRI-0004")
    return [f"LIDC-IDRI-{n:04d}" for n in range(int(numbers[0]), int(numbers[1]) + 1)]
