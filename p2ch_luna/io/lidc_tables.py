"""What the readers of LIDC-IDRI drew and rated, as compact tables; the package carries them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.io.lidc_files import read_arrays, read_table, write_arrays, write_table
from p2ch_luna.io.lidc_outlines import ChainCodes, decode, encode

SHIPPED = Path(__file__).parents[1] / "lidc"  # in a checkout, a link to data/lidc
SCANS, ANNOTATIONS, CONTOURS = "scans.csv", "annotations.csv", "contours.npz"
CHARACTERISTICS = (
    "subtlety",
    "internal_structure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
SCAN_COLUMNS = (
    "scan_id",
    "seriesuid",
    "patient_id",
    "pixel_spacing_mm",
    "slice_thickness_mm",
    "slice_spacing_mm",
)
ANNOTATION_COLUMNS = ("annotation_id", "scan_id", "reader_nodule", *CHARACTERISTICS)


@dataclass(frozen=True)
class LidcScan:
    """A series that the readers saw; what its source does not tell is None."""

    scan_id: int
    series_uid: str
    patient_id: str | None
    pixel_spacing_mm: float | None
    slice_thickness_mm: float | None
    slice_spacing_mm: float | None  # median distance between neighbouring slices


@dataclass(frozen=True)
class LidcAnnotation:
    """One reader's view of one nodule."""

    annotation_id: int
    reader_nodule: str  # the reader's own name for it
    ratings: tuple[int | None, ...]  # in the order of CHARACTERISTICS, 1 to 6; None: not rated


class Outline(NamedTuple):
    """A closed line round a nodule in one slice; its own pixels lie just outside the nodule."""

    z_mm: float  # of the slice: ImagePositionPatient
    is_included: bool  # False: a hole, which does not belong to the nodule
    points_xy: NDArray[np.int16]  # (N, 2) pixels: column and row of the original series, from 0


@dataclass(frozen=True, eq=False)
class LidcTables:
    """All annotations of many series; about 8 MB for the whole of LIDC-IDRI.

    scans: by scan_id.    annotation_id: (A,) rising.    scan_of: (A,) scan_id of each.
    reader_nodule: (A,) names.    ratings: (A, 9) in the order of CHARACTERISTICS; 0: not rated.
    outline_of: (C,) annotation_id of each outline, rising.    z_mm, is_included: (C,).
    n_points: (C,) of each outline.    points_xy: (P, 2) of all outlines, one after the other.
    """

    scans: dict[int, LidcScan]
    annotation_id: NDArray[np.int32]
    scan_of: NDArray[np.int32]
    reader_nodule: tuple[str, ...]
    ratings: NDArray[np.uint8]
    outline_of: NDArray[np.int32]
    z_mm: NDArray[np.float64]
    is_included: NDArray[np.bool_]
    n_points: NDArray[np.int64]
    points_xy: NDArray[np.int16]

    def __post_init__(self) -> None:
        n_annotations, n_outlines = len(self.annotation_id), len(self.outline_of)
        is_sound = (
            len(self.scan_of) == len(self.reader_nodule) == n_annotations
            and self.ratings.shape == (n_annotations, len(CHARACTERISTICS))
            and len(self.z_mm) == len(self.is_included) == len(self.n_points) == n_outlines
            and self.points_xy.shape == (self.n_points.sum(), 2)
            and (np.diff(self.annotation_id) > 0).all()
            and (np.diff(self.outline_of) >= 0).all()
            and np.isin(self.outline_of, self.annotation_id).all()
            and set(self.scan_of.tolist()) <= set(self.scans)
        )
        if not is_sound:
            raise ValueError("the tables of scans, annotations and outlines do not fit together")

    @cached_property
    def _scan_of_series(self) -> dict[str, LidcScan]:
        return {scan.series_uid: scan for scan in self.scans.values()}

    @cached_property
    def _first_point(self) -> NDArray[np.int64]:
        """(C + 1,) where the points of each outline begin."""
        return np.concatenate([[0], np.cumsum(self.n_points)])

    def completed_by(self, other: LidcTables) -> LidcTables:
        """The same annotations; patient and spacing of a series are those that the other tables tell."""
        known = {number: other.scan(scan.series_uid) for number, scan in self.scans.items()}
        scans = {
            number: replace(other_scan, scan_id=number) if other_scan else self.scans[number]
            for number, other_scan in known.items()
        }
        return replace(self, scans=scans)

    @property
    def series_uids(self) -> list[str]:
        """All series, by scan_id."""
        return list(self._scan_of_series)

    def scan(self, series_uid: str) -> LidcScan | None:
        """The scan of a series; None if it is not one of LIDC-IDRI's."""
        return self._scan_of_series.get(series_uid)

    def patient_of(self, series_uid: str) -> str | None:
        """LIDC-IDRI-0001 … 1012; None where the series or its patient is not known."""
        scan = self.scan(series_uid)
        return scan.patient_id if scan else None

    def series_of(self, annotation_id: int) -> str:
        """The series of an annotation; KeyError if there is none of that number."""
        return self.scans[int(self.scan_of[self._row(annotation_id)])].series_uid

    def annotations_of(self, series_uid: str) -> list[LidcAnnotation]:
        """All readers' annotations of a series; none for a series that is not one of LIDC-IDRI's."""
        scan = self.scan(series_uid)
        rows = np.flatnonzero(self.scan_of == scan.scan_id) if scan else np.empty(0, int)
        return [self._annotation(row) for row in rows.tolist()]

    def annotation(self, annotation_id: int) -> LidcAnnotation:
        """One annotation; KeyError if there is none of that number."""
        return self._annotation(self._row(annotation_id))

    def outlines_of(self, annotation_id: int) -> list[Outline]:
        """The outlines of an annotation in the order of their source; KeyError as above."""
        self._row(annotation_id)
        first, end = np.searchsorted(self.outline_of, [annotation_id, annotation_id + 1]).tolist()
        return [
            Outline(
                float(self.z_mm[k]),
                bool(self.is_included[k]),
                self.points_xy[self._first_point[k] : self._first_point[k + 1]],
            )
            for k in range(first, end)
        ]

    def _row(self, annotation_id: int) -> int:
        row = int(np.searchsorted(self.annotation_id, annotation_id))
        if row == len(self.annotation_id) or self.annotation_id[row] != annotation_id:
            raise KeyError(f"no annotation {annotation_id}")
        return row

    def _annotation(self, row: int) -> LidcAnnotation:
        ratings = tuple(rating or None for rating in self.ratings[row].tolist())
        return LidcAnnotation(int(self.annotation_id[row]), self.reader_nodule[row], ratings)


class Drawn(NamedTuple):
    """All that one reader told of one nodule."""

    scan_id: int
    annotation: LidcAnnotation
    outlines: Sequence[Outline]


def tables_of(scans: Iterable[LidcScan], drawn: Iterable[Drawn]) -> LidcTables:
    """Put scans and annotations, their numbers rising, into tables; ValueError where they do not fit."""
    everything = list(drawn)
    ids = [d.annotation.annotation_id for d in everything]
    outlines = [outline for d in everything for outline in d.outlines]
    ratings = [[rating or 0 for rating in d.annotation.ratings] for d in everything]
    return LidcTables(
        scans={scan.scan_id: scan for scan in scans},
        annotation_id=np.array(ids, np.int32),
        scan_of=np.array([d.scan_id for d in everything], np.int32),
        reader_nodule=tuple(d.annotation.reader_nodule for d in everything),
        ratings=np.array(ratings, np.uint8).reshape(-1, len(CHARACTERISTICS)),
        outline_of=np.repeat(np.array(ids, np.int32), [len(d.outlines) for d in everything]),
        z_mm=np.array([o.z_mm for o in outlines], np.float64),
        is_included=np.array([o.is_included for o in outlines], np.bool_),
        n_points=np.array([len(o.points_xy) for o in outlines], np.int64),
        points_xy=np.concatenate([np.empty((0, 2), np.int16), *(o.points_xy for o in outlines)]),
    )


@lru_cache(maxsize=1)
def load_lidc_tables() -> LidcTables:
    """The tables that the package carries, all of LIDC-IDRI; read once a process."""
    return read_lidc_tables(SHIPPED)


def read_lidc_tables(folder: Path) -> LidcTables:
    """Read what `write_lidc_tables` wrote. Raises LunaError where a file is missing or damaged, naming it."""
    scans = read_table(folder / SCANS, SCAN_COLUMNS, _scan)
    rows = read_table(folder / ANNOTATIONS, ANNOTATION_COLUMNS, _numbers_and_name)
    arrays = read_arrays(folder / CONTOURS)
    try:
        codes = ChainCodes(**{field.name: arrays[field.name] for field in fields(ChainCodes)})
        numbers = np.array([numbers for numbers, _ in rows], np.int32).reshape(len(rows), -1)
        return LidcTables(
            scans={scan.scan_id: scan for scan in scans},
            annotation_id=numbers[:, 0],
            scan_of=numbers[:, 1],
            reader_nodule=tuple(name for _, name in rows),
            ratings=numbers[:, 2:].astype(np.uint8),
            outline_of=arrays["annotation_id"],
            z_mm=arrays["z_mm"],
            is_included=arrays["is_included"],
            n_points=codes.n_points.astype(np.int64),
            points_xy=decode(codes),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise LunaError(
            f"{folder}: {error}; expected {SCANS}, {ANNOTATIONS}, {CONTOURS} of one making"
        ) from error


def write_lidc_tables(folder: Path, tables: LidcTables) -> None:
    """Write scans.csv, annotations.csv and contours.npz; the same tables give the same bytes."""
    write_table(folder / SCANS, SCAN_COLUMNS, [_scan_cells(scan) for scan in tables.scans.values()])
    write_table(
        folder / ANNOTATIONS,
        ANNOTATION_COLUMNS,
        [
            [str(number), str(scan), name, *(str(rating or "") for rating in ratings)]
            for number, scan, name, ratings in zip(
                tables.annotation_id,
                tables.scan_of,
                tables.reader_nodule,
                tables.ratings.tolist(),
                strict=True,
            )
        ],
    )
    codes = encode(tables.points_xy, tables.n_points)
    arrays: dict[str, NDArray[Any]] = {
        "annotation_id": tables.outline_of,
        "z_mm": tables.z_mm,
        "is_included": tables.is_included,
    }
    arrays |= {field.name: getattr(codes, field.name) for field in fields(codes)}
    write_arrays(folder / CONTOURS, arrays)


def _scan(cells: Sequence[str]) -> LidcScan:
    number, uid, patient, *lengths = cells
    pixel, thickness, spacing = (float(cell) if cell else None for cell in lengths)
    return LidcScan(int(number), uid, patient or None, pixel, thickness, spacing)


def _scan_cells(scan: LidcScan) -> list[str]:
    lengths = (scan.pixel_spacing_mm, scan.slice_thickness_mm, scan.slice_spacing_mm)
    texts = ("" if length is None else repr(length) for length in lengths)
    return [str(scan.scan_id), scan.series_uid, scan.patient_id or "", *texts]


def _numbers_and_name(cells: Sequence[str]) -> tuple[list[int], str]:
    """Annotation, scan and ratings as numbers, 0 where a cell is empty; and the reader's name for it."""
    number, scan, name, *ratings = cells
    return [int(number), int(scan), *(int(rating or 0) for rating in ratings)], name
