"""What `luna info` says of a scan; of DICOM which series there are, which would be read, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.geometry import ImageGeometry
    from p2ch_luna.io.dicom_series import FoundSeries
    from p2ch_luna.io.dicom_stack import Stack

Facts = dict[str, Any]  # of plain values, in the order in which they are told
_COLUMNS = ("images", "modality", "plane", "apart_mm", "thickness_mm", "length_mm", "kernel", "description")


def facts_of_volume(path: Path) -> Facts:
    """A CT that is one file: all of it is read, for its HU."""
    from p2ch_luna.io import read_ct

    ct = read_ct(path)
    return {
        "kind": "scan",
        "path": str(path),
        "series_uid": ct.series_uid,
        **grid_facts(ct.hu.shape, ct.geometry),
        "hu": [float(ct.hu.min()), float(ct.hu.max())],
    }


def grid_facts(shape: tuple[int, ...], geometry: ImageGeometry) -> Facts:
    """Size and place of (D, H, W) voxels."""
    size = geometry.spacing_irc * shape
    return {
        "slices_rows_columns": list(shape),
        "spacing_xyz_mm": geometry.spacing_xyz.round(6).tolist(),
        "size_xyz_mm": size[::-1].round(1).tolist(),
        "origin_xyz_mm": geometry.origin_xyz.round(4).tolist(),
        "orientation": _orientation(geometry),
    }


def _orientation(geometry: ImageGeometry) -> str:
    """Where columns, rows and slices run to: LPS is a plain axial scan."""
    letters = ""
    for step in geometry.direction.T:
        axis = int(abs(step).argmax())
        letters += ("LPS" if step[axis] > 0 else "RAI")[axis]
    is_oblique = float(abs(geometry.direction).max(0).min()) < 0.9999
    return f"{letters}, tilted" if is_oblique else letters


def facts_in(path: Path) -> Facts:
    """What `luna diagnose` would read of a folder or a zip; of DICOM only the headers are read."""
    from p2ch_luna.io.volumes import scan_at

    with scan_at(path) as place:
        if not place.is_dir():
            return {**facts_of_volume(place), "path": str(path)}
        stack, rows, warnings = _list_series(place)
    grid = {} if stack is None else grid_facts(stack.shape, stack.geometry)
    return {
        "kind": "scans of DICOM" if stack is None else "scan",
        "path": str(path),
        "series_uid": None if stack is None else rows[0]["series_uid"],
        **grid,
        "series": rows,
        "warnings": warnings,
    }


def _list_series(folder: Path) -> tuple[Stack | None, list[Facts], list[str]]:
    """The stack to read, None if there is no saying which; all series; warnings, or why there is no saying.

    Only headers are read. Raises LunaError where no series can be read.
    """
    from p2ch_luna.io.dicom_choice import choose
    from p2ch_luna.io.dicom_headers import read_headers
    from p2ch_luna.io.dicom_series import group_series

    headers, damaged = read_headers(folder)
    found = group_series(folder, headers, damaged)
    try:
        choice = choose(folder, found, damaged)
    except LunaError as error:
        if not any(series.stack for series in found):
            raise
        reasons = [series.fault or "can be read, by its uid" for series in found]
        rows = [_row(series, reason) for series, reason in zip(found, reasons, strict=True)]
        return None, rows, [str(error).removeprefix(f"{folder}: ")]
    rows = [_row(series, remark) for series, remark in zip(choice.found, choice.remarks, strict=True)]
    return choice.stack, rows, list(choice.warnings)


def _row(series: FoundSeries, remark: str) -> Facts:
    return {**asdict(series.facts(remark)), **series.details()}


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A header, then two lines a series: its columns, and below them its uid and why it is read or not."""
    cells = [[name.replace("_", " ") for name in _COLUMNS]]
    cells += [[_cell(row[name]) for name in _COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    for k in range(len(rows), 0, -1):
        lines.insert(k + 1, f"  {rows[k - 1]['series_uid']}: {rows[k - 1]['remark']}")
    return lines


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)
