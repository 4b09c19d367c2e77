"""From the headers of a series to one straight stack of even slices, or the reason why it is none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.io.checks import check_shape, make_geometry
from p2ch_luna.io.dicom_headers import (
    ACQUISITION_NUMBER,
    ACQUISITION_TIME,
    IMAGE_TYPE,
    SOP_UID,
    TEMPORAL_POSITION,
    TRIGGER_TIME,
    Header,
    read_pixels,
)

SAME_PLACE_MM = 0.01
SPACING_TOLERANCE = 0.02  # of the spacing, for positions rounded in the file,
SPACING_TOLERANCE_MM = 0.05  # or this, if it is more
SIDEWAYS_TOLERANCE_MM = 0.5  # over the whole series
MOST_MISSING = 10  # of as many slices one is there: with fewer their spacing cannot be told
MOST_NAMED = 5  # missing places: named in an error


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in the order of the voxels, the geometry of those, and what a report should say."""

    headers: tuple[Header, ...]
    geometry: ImageGeometry
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        columns, rows, _ = self.headers[0].size_xyz
        return len(self.headers), rows, columns


class _MixedError(LunaError):
    """Slices that cannot be of one stack, but may be of several."""


def make_stack(folder: Path, headers: Sequence[Header]) -> Stack:
    """One straight, even stack of the images of a series, ordered along col x row.

    Scouts among the slices are left out, copies of a slice count once. Where slices share a place or differ
    in their grid, the stack is the largest of those that one tag tells apart (see `_keys`).
    Raises LunaError where there is no such stack: it names the slices or places that are at fault.
    """
    slices = [h for h in headers if not h.is_localizer] or list(headers)
    distinct = _without_copies(slices)
    try:
        stack = _straight(folder, distinct)
    except _MixedError as error:
        stack = _largest_part(folder, distinct, error)
    copies = len(slices) - len(distinct)
    twice = (f"slices that are there twice, each read once: {copies}",) if copies else ()
    return replace(stack, warnings=(*twice, *stack.warnings))


def _without_copies(headers: Sequence[Header]) -> list[Header]:
    """The first of those that hold the same object; its place counts too, as some software repeats uids."""
    distinct: dict[Hashable, Header] = {}
    for header in headers:
        uid = header.text(SOP_UID) or str(header.path)
        distinct.setdefault((uid, *header.position_xyz.tolist()), header)
    return list(distinct.values())


def _largest_part(folder: Path, slices: Sequence[Header], error: LunaError) -> Stack:
    """The clean stack with most slices that a tag tells apart; raises `error` where no tag does."""
    keys = [(header, _keys(header)) for header in slices]
    for name in keys[0][1]:
        parts: dict[Hashable, list[Header]] = defaultdict(list)
        for header, key in keys:
            parts[key[name]].append(header)
        stacks = [stack for part in parts.values() if (stack := _straight_or_none(folder, part))]
        if len(parts) > 1 and stacks:
            best = max(stacks, key=lambda stack: len(stack.headers))
            told = (
                f"the series mixes {len(parts)} sets of slices of different {name}: "
                f"one of {len(best.headers)} slices was read, {len(slices)} are there"
            )
            return replace(best, warnings=(told, *best.warnings))
    raise error


def _keys(header: Header) -> dict[str, Hashable]:
    """What tells mixed stacks apart, in the order in which it is tried."""
    grid = (header.size_xyz, *header.orientation.round(3).tolist(), *header.spacing_xy.round(3).tolist())
    return {
        "grid": grid,
        "image type": header.text(IMAGE_TYPE),
        "acquisition number": header.text(ACQUISITION_NUMBER),
        "temporal position": header.text(TEMPORAL_POSITION),
        "trigger time": header.text(TRIGGER_TIME),
        "acquisition time": header.text(ACQUISITION_TIME),
    }


def _straight_or_none(folder: Path, slices: Sequence[Header]) -> Stack | None:
    try:
        return _straight(folder, slices)
    except LunaError:
        return None


def _straight(folder: Path, slices: Sequence[Header]) -> Stack:
    """All slices as one stack, but for those that hold the same pixels at the same place as another."""
    _check_alike(slices)
    columns, rows, _ = slices[0].size_xyz
    check_shape(folder, (len(slices), rows, columns))
    col_step, row_step = slices[0].orientation.reshape(2, 3)
    normal = slices[0].normal
    ordered = sorted(slices, key=lambda h: float(h.position_xyz @ normal))
    _check_sideways(folder, ordered, normal)
    single = _without_twins(folder, ordered, normal)
    check_shape(folder, (len(single), rows, columns))
    geometry = make_geometry(
        folder,
        single[0].position_xyz,
        [*single[0].spacing_xy, _even_step(folder, single, normal)],
        np.stack([col_step, row_step, normal], axis=1),
    )
    twins = len(ordered) - len(single)
    told = f"slices with the same place and pixels as another, each read once: {twins}"
    return Stack(tuple(single), geometry, (told,) if twins else ())


def _check_alike(slices: Sequence[Header]) -> None:
    """Raise LunaError unless all slices are single grey images on the same grid."""
    first = slices[0]
    for h in slices:
        if h.size_xyz[2] != 1:
            raise LunaError(f"{h.path}: {h.size_xyz[2]} frames in one file; expected one slice a file")
        if h.values_a_pixel != 1:
            raise LunaError(f"{h.path}: {h.values_a_pixel} values a pixel; expected one, of HU")
        for what, found, wanted in (
            ("size", h.size_xyz, first.size_xyz),
            ("orientation", h.orientation, first.orientation),
            ("pixel spacing", h.spacing_xy, first.spacing_xy),
        ):
            if not np.allclose(found, wanted, atol=1e-3, rtol=0):
                numbers = ", ".join(f"{x:g}" for x in found), ", ".join(f"{x:g}" for x in wanted)
                raise _MixedError(
                    f"{h.path}: {what} {numbers[0]}; expected {numbers[1]} as in {first.path.name}"
                )


def _check_sideways(folder: Path, slices: Sequence[Header], normal: NDArray[np.float64]) -> None:
    """Raise LunaError where the slices do not lie one above the other."""
    shift_xyz = np.stack([h.position_xyz for h in slices]) - slices[0].position_xyz
    shift_xyz -= np.outer(shift_xyz @ normal, normal)
    sideways = np.linalg.norm(shift_xyz, axis=1).max()
    if sideways > SIDEWAYS_TOLERANCE_MM:
        raise LunaError(
            f"{folder}: slices shift sideways by {sideways:.1f} mm (tilted gantry); expected a straight stack"
        )


def _without_twins(folder: Path, ordered: Sequence[Header], normal: NDArray[np.float64]) -> list[Header]:
    """One slice a place; raises LunaError where two at one place hold different pixels."""
    single = [ordered[0]]
    for header in ordered[1:]:
        last = single[-1]
        if (header.position_xyz - last.position_xyz) @ normal >= SAME_PLACE_MM:
            single.append(header)
        elif not np.array_equal(read_pixels(header.path), read_pixels(last.path)):
            raise _MixedError(
                f"{folder}: {last.path.name} and {header.path.name} lie at the same place "
                f"{_place(header.position_xyz)} and differ; expected one slice a place"
            )
    return single


def _even_step(folder: Path, slices: Sequence[Header], normal: NDArray[np.float64]) -> float:
    """The mm between slices; tells slices that are missing, a step of several spacings, from uneven ones."""
    position_xyz = np.stack([h.position_xyz for h in slices])
    along = position_xyz @ normal
    steps = np.diff(along)
    for spacing in (float(np.median(steps)), float(steps.min())):  # the latter where most are missing
        counts = np.rint(steps / spacing).astype(int)
        tolerance = max(SPACING_TOLERANCE * spacing, SPACING_TOLERANCE_MM)
        is_even = (counts > 0).all() and (abs(steps - counts * spacing) <= tolerance * counts).all()
        if is_even and counts.mean() < MOST_MISSING:
            break
    else:
        raise LunaError(
            f"{folder}: slices {steps.min():.2f} to {steps.max():.2f} mm apart; expected one spacing"
        )
    _check_complete(folder, position_xyz, counts, spacing)
    return float((along[-1] - along[0]) / len(steps))


def _check_complete(
    folder: Path, position_xyz: NDArray[np.float64], counts: NDArray[np.int_], spacing: float
) -> None:
    """Raise LunaError that names the places of slices that are missing; counts: spacings in each step."""
    missing = [
        position_xyz[k] + (position_xyz[k + 1] - position_xyz[k]) * j / counts[k]
        for k in np.flatnonzero(counts > 1)
        for j in range(1, counts[k])
    ]
    if missing:
        named = ", ".join(map(_place, missing[:MOST_NAMED])) + (", ..." if len(missing) > MOST_NAMED else "")
        raise LunaError(
            f"{folder}: slices missing: {len(missing)}, at {named}; expected one every {spacing:.3g} mm"
        )


def _place(xyz: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{x:.2f}" for x in xyz) + ")"
