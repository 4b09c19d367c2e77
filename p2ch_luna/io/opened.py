"""Open any scan for a diagnosis: its voxels, what was there to choose from, and where its slices lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2ch_luna.geometry import CtVolume
from p2ch_luna.io.dicom import read_dicom
from p2ch_luna.io.dicom_series import SeriesFacts
from p2ch_luna.io.volumes import read_volume, scan_at, suffix_of

__all__ = ["OpenedScan", "SeriesFacts", "open_scan"]

WIDE_MM, THICK_MM = 3.0, 5.0  # slices further apart, or thicker: small nodules may be missed
GAP, OVERLAP = 1.1, 0.45  # of the thickness: slices further apart leave gaps, nearer ones overlap by half


@dataclass(frozen=True, eq=False)
class OpenedScan:
    """A scan and what else a report of it needs.

    name: of the file or folder, without its path.    format: "dicom", or the suffix of a volume file.
    slice_numbers: of each slice of `ct.hu`, as a viewer of the source shows it: DICOM's instance number,
    else counted from 1 in the order of the file.
    is_reversed: the file's slices run the other way than those of `ct.hu` (see `checks.right_handed`).
    series: the one that was read, then the others.    dicom_files: of each slice of `ct.hu`, in its order.
    Both are empty for a volume file.
    """

    ct: CtVolume
    name: str
    format: str
    warnings: tuple[str, ...]
    slice_numbers: tuple[int, ...]
    is_reversed: bool = False
    series: tuple[SeriesFacts, ...] = ()
    dicom_files: tuple[Path, ...] = ()


@contextmanager
def open_scan(path: Path, series_uid: str | None = None) -> Iterator[OpenedScan]:
    """Open a volume file, a folder of DICOM or a zip of either; what a zip holds is there within the block.

    series_uid: of the DICOM series to read; the best axial CT if None.
    Raises LunaError where there is nothing that can be searched.
    """
    with scan_at(path) as place:
        yield _dicom(place, path, series_uid) if place.is_dir() else _volume(place, path)


def _dicom(folder: Path, path: Path, series_uid: str | None) -> OpenedScan:
    read = read_dicom(folder, series_uid)
    return OpenedScan(
        ct=read.ct,
        name=path.resolve().name,
        format="dicom",
        warnings=(*read.warnings, *_slice_warnings(read.ct, read.series[0].thickness_mm)),
        slice_numbers=read.slice_numbers,
        series=read.series,
        dicom_files=read.files,
    )


def _volume(file: Path, path: Path) -> OpenedScan:
    ct, is_reversed = read_volume(file)
    numbers = range(1, len(ct.hu) + 1)
    return OpenedScan(
        ct=ct,
        name=path.resolve().name,
        format=suffix_of(file),
        warnings=tuple(_slice_warnings(ct, None)),
        slice_numbers=tuple(reversed(numbers) if is_reversed else numbers),
        is_reversed=is_reversed,
    )


def _slice_warnings(ct: CtVolume, thickness_mm: float | None) -> list[str]:
    """What the slices' distance, and their thickness if it is told, keep from being seen."""
    step = float(ct.geometry.spacing_xyz[2])
    thick = thickness_mm if thickness_mm and thickness_mm > 0 else step
    told = []
    if step > GAP * thick:
        told.append(f"slices are {thick:g} mm thick and {step:.3g} mm apart: a nodule may lie in a gap")
    if step < OVERLAP * thick:
        told.append(f"slices are {thick:g} mm thick and {step:.3g} mm apart: they overlap by more than half")
    if step > WIDE_MM:
        told.append(f"slices lie {step:.3g} mm apart: small nodules may be missed")
    elif thick > THICK_MM:
        told.append(f"slices are {thick:g} mm thick: small nodules may be missed")
    return told
