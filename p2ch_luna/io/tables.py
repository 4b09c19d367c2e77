"""Nodules, candidates and detections as CSV files in LUNA16's columns; points are LPS mm.

Ids are text throughout. Numbers are written with the shortest digits that give the same number back.
A table to read may lie in a zip (see `io.zipped`).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing
from p2ch_luna.findings import Candidate, Detection, Nodule, Point
from p2ch_luna.io.zipped import open_binary

UID = "seriesuid"
XYZ = ("coordX", "coordY", "coordZ")
NODULE_COLUMNS = (UID, *XYZ, "diameter_mm")
RATINGS = ("malignancy", "texture")  # of nodules, 1 to 5; a column may be absent and its cells empty
DETECTION_COLUMNS = (UID, *XYZ, "probability")
CANDIDATE_COLUMNS = (UID, *XYZ, "probability", "volume_mm3", "diameter_mm", "class")
_CLASSES = {"1": True, "0": False, "": None}


class ScoredPoint(NamedTuple):
    """One row of a LUNA16 submission."""

    series_uid: str
    center_xyz: Point  # LPS mm
    probability: float


def read_nodules(path: Path) -> list[Nodule]:
    """Read `annotations.csv` or `annotations_excluded.csv`; a negative diameter stays as it is."""
    return [
        Nodule(row.series_uid(), row.point(), row.diameter(), *(row.rating(column) for column in RATINGS))
        for row in _rows(path, NODULE_COLUMNS)
    ]


def write_nodules(path: Path, nodules: Sequence[Nodule]) -> None:
    """Write LUNA16's columns, and `malignancy` and `texture` if any nodule has one."""
    ratings = [(nodule.malignancy, nodule.texture) for nodule in nodules]  # in the order of RATINGS
    given = [k for k in range(len(RATINGS)) if any(of_one[k] is not None for of_one in ratings)]
    _write(
        path,
        (*NODULE_COLUMNS, *(RATINGS[k] for k in given)),
        (
            (n.series_uid, *n.center_xyz, n.diameter_mm, *(of_one[k] for k in given))
            for n, of_one in zip(nodules, ratings, strict=True)
        ),
    )


def read_detections(path: Path) -> list[ScoredPoint]:
    """Read a LUNA16 submission; further columns are passed over."""
    return [
        ScoredPoint(row.series_uid(), row.point(), row.number("probability"))
        for row in _rows(path, DETECTION_COLUMNS)
    ]


def write_detections(path: Path, detections: Sequence[Detection | ScoredPoint]) -> None:
    """Write a LUNA16 submission: places and the final probability."""
    _write(
        path,
        DETECTION_COLUMNS,
        ((d.series_uid, *d.center_xyz, d.probability) for d in detections),
    )


def read_candidates(path: Path) -> list[Candidate]:
    """Read candidates; an empty `class` means that the truth is not known."""
    return [
        Candidate(
            row.series_uid(),
            row.point(),
            probability=row.number("probability"),
            volume_mm3=row.number("volume_mm3"),
            diameter_mm=row.number("diameter_mm"),
            is_nodule=row.truth("class"),
        )
        for row in _rows(path, CANDIDATE_COLUMNS)
    ]


def write_candidates(path: Path, candidates: Sequence[Candidate]) -> None:
    """Write candidates; `class` is 1 for a nodule, 0 for none, empty where that is not known."""
    names = {truth: name for name, truth in _CLASSES.items()}
    _write(
        path,
        CANDIDATE_COLUMNS,
        (
            (c.series_uid, *c.center_xyz, c.probability, c.volume_mm3, c.diameter_mm, names[c.is_nodule])
            for c in candidates
        ),
    )


def candidate_rows(path: Path) -> Iterator[tuple[str, Point, bool | None]]:
    """Series uid, point and class of each row; what is wrong in one is a LunaError with line and column."""
    for row in _rows(path, (UID, *XYZ, "class")):
        yield row.series_uid(), row.point(), row.truth("class")


def read_series_uids(path: Path) -> list[str]:
    """Read the list of scans, in its order: the column `seriesuid`, or one column without a header."""
    lines = list(_lines(path))
    if not lines:
        raise LunaError(f"{path}: empty; expected one series uid a line")
    header = lines[0][1]
    has_header = UID in header
    if not has_header and len(header) > 1:
        raise LunaError(f"{path}: no column {UID!r}; found {', '.join(header)}")
    names = header if has_header else [UID]
    _check_named_once(path, names)
    rows = [_row(path, line, names, cells) for line, cells in lines[has_header:]]
    uids: dict[str, int] = {}
    for row in rows:
        uid = row.series_uid()
        if uid in uids:
            raise LunaError(f"{path}: line {row.line}: {uid} is in line {uids[uid]} too; expected it once")
        uids[uid] = row.line
    return list(uids)


@dataclass(frozen=True)
class _Row:
    path: Path
    line: int
    cells: dict[str, str]

    def series_uid(self) -> str:
        """Refuse what a spreadsheet makes of an id: 1.3e+40, 1.3, 12.0, nan."""
        uid = self.cells[UID]
        if not uid:
            raise self.error(UID, "a series uid")
        if not uid.isdigit() and _is_number(uid):
            raise self.error(UID, "a series uid with all its digits (was it saved as a number?)")
        return uid

    def point(self) -> Point:
        """LPS mm."""
        x, y, z = (self.number(column) for column in XYZ)
        return x, y, z

    def number(self, column: str) -> float:
        """A finite number."""
        text = self.cells[column]
        value = float(text) if _is_number(text) else math.nan
        if not math.isfinite(value):
            raise self.error(column, "a number")
        return value

    def diameter(self) -> float:
        """Of a nodule, in mm; below 0 where nobody has measured it."""
        value = self.number("diameter_mm")
        if value == 0:
            raise self.error("diameter_mm", "a length in mm, or -1 where it is not known")
        return value

    def rating(self, column: str) -> float | None:
        """A reader's or a mean of several, 1 to 5; None where nobody rated or there is no such column."""
        if not self.cells.get(column):
            return None
        value = self.number(column)
        if not 1 <= value <= 5:
            raise self.error(column, "a rating from 1 to 5, or nothing")
        return value

    def truth(self, column: str) -> bool | None:
        """1, 0, or empty for None."""
        if self.cells[column] not in _CLASSES:
            raise self.error(column, "1, 0 or nothing")
        return _CLASSES[self.cells[column]]

    def error(self, column: str, wanted: str) -> LunaError:
        """The cell in question, named."""
        found = self.cells[column]
        return LunaError(f"{self.path}: line {self.line}, column {column}: {found!r}; expected {wanted}")


def _is_number(text: str) -> bool:
    """Whether it is a number as tables have them: `float` also takes 1_0 and digits of other scripts."""
    if "_" in text or not text.isascii():
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line that is not blank; what is no CSV is a LunaError."""
    try:
        with open_binary(path) as data, TextIOWrapper(data, "utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                if cells:
                    yield reader.line_num, [cell.strip() for cell in cells]
    except OSError as error:
        raise LunaError(f"{path}: cannot be read: {error.strerror or error}; expected a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LunaError(f"{path}: not a CSV file: {error}") from error


def _rows(path: Path, columns: Sequence[str]) -> Iterator[_Row]:
    lines = _lines(path)
    _, header = next(lines, (0, []))
    if not header:
        raise LunaError(f"{path}: empty; expected the columns {', '.join(columns)}")
    for column in columns:
        if column not in header:
            raise LunaError(f"{path}: no column {column!r}; found {', '.join(header)}")
    _check_named_once(path, header)
    for line, cells in lines:
        yield _row(path, line, header, cells)


def _check_named_once(path: Path, header: Sequence[str]) -> None:
    """Of two columns of one name nobody can tell which is meant; columns without a name are not read."""
    twice = [name for k, name in enumerate(header) if name and name in header[:k]]
    if twice:
        raise LunaError(
            f"{path}: column {twice[0]!r} is there {header.count(twice[0])} times; expected it once"
        )


def _row(path: Path, line: int, header: Sequence[str], cells: Sequence[str]) -> _Row:
    if len(cells) != len(header):
        raise LunaError(f"{path}: line {line}: {len(cells)} values; expected {len(header)}")
    return _Row(path, line, dict(zip(header, cells, strict=True)))


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str | float | None]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_text(cell) for cell in row] for row in rows)


def _text(cell: str | float | None) -> str:
    if cell is None or isinstance(cell, str):
        return cell or ""
    return repr(float(cell))  # float: a NumPy number would write its type
