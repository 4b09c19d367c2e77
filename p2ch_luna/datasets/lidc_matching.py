"""All of LUNA16's nodules matched with LIDC's, also where no scan is at hand to tell where its pixels lie.

The readers' pixels become patient mm by the scan's origin, which LIDC's annotations do not hold. It comes
from the scan's header; else from `annotations_excluded.csv`, in which LUNA16 lists single readers'
annotations with diameters so exact that each is recognised by it; else from crops; else from the nodules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.datasets.lidc_labels import LidcFinding, Match, finding_of, lidc_nodules, match_nodules
from p2ch_luna.datasets.lidc_masks import check_begin, check_spacing, slice_numbers
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.io.lidc_tables import LidcTables

Method = Literal["header", "readers", "crop", "nodules", "slice"]
METHODS: dict[Method, str] = {
    "header": "the scan's header",
    "readers": "single readers in annotations_excluded.csv",
    "crop": "crops of the scan",
    "nodules": "NO ORIGIN: the nodules' places to each other",
    "slice": "NO ORIGIN: z and diameter alone",
}
Spots = NDArray[np.float64]  # (N, 4) x, y, z and diameter, mm


@dataclass(frozen=True)
class Likeness:
    """How far two spots may differ and be taken for one."""

    diameter_mm: float
    diameter_share: float
    z_mm: float
    xy_mm: float  # between the origins that two pairs of spots point to


SINGLE_READER = Likeness(diameter_mm=1e-3, diameter_share=0.0, z_mm=0.1, xy_mm=0.05)
WHOLE_NODULE = Likeness(diameter_mm=1.0, diameter_share=0.15, z_mm=2.0, xy_mm=1.5)


@dataclass(frozen=True)
class Evidence:
    """What is known of where the scans' pixels lie, besides the readers' tables.

    headers: series uid -> grid of the scan.    refused: series uid -> why its header does not serve.
    excluded: LUNA16's list.
    crops: series uid -> grids of the scan, one a crop; only the slices' places count, not their numbers.
    """

    headers: Mapping[str, ImageGeometry] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    excluded: Sequence[Nodule] = ()
    crops: Mapping[str, Sequence[ImageGeometry]] = field(default_factory=dict)


@dataclass(frozen=True)
class Accounted:
    """One nodule of LUNA16 and what became of it."""

    match: Match
    method: Method | None  # None: the series is not in the tables
    patient_id: str | None
    reason: str  # why there is no finding; empty if there is one


def match_all(tables: LidcTables, nodules: Sequence[Nodule], evidence: Evidence) -> list[Accounted]:
    """Match nodules of any series with LIDC's; all of them come back, series by series.

    By the methods "nodules" and "slice" no origin is known, so distances are those that a shift in x and y
    leaves: of several nodules to each other, or of one in z alone.
    Raises LunaError where a header cannot be that of the scan that the readers saw (see `check_grid`).
    """
    of_series, excluded = defaultdict(list), defaultdict(list)
    for nodule in nodules:
        of_series[nodule.series_uid].append(nodule)
    for nodule in evidence.excluded:
        excluded[nodule.series_uid].append(nodule)
    return [
        accounted
        for uid, own in of_series.items()
        for accounted in _match_series(tables, uid, own, excluded[uid], evidence)
    ]


def _match_series(
    tables: LidcTables, uid: str, nodules: Sequence[Nodule], excluded: Sequence[Nodule], evidence: Evidence
) -> list[Accounted]:
    refused = f"; its scan is not used: {evidence.refused[uid]}" if uid in evidence.refused else ""
    if reason := _impossible(tables, uid, evidence):
        told = reason + refused
        return [Accounted(Match(n, None, None), None, tables.patient_of(uid), told) for n in nodules]
    method, possible = _possible(tables, uid, nodules, excluded, evidence)
    tried = [(match_nodules(nodules, findings), findings) for findings in possible]
    matches, findings = max(tried, key=lambda found: _quality(found[0]))
    return [
        Accounted(match, method, tables.patient_of(uid), _reason(match, method, findings, refused))
        for match in matches
    ]


def _impossible(tables: LidcTables, uid: str, evidence: Evidence) -> str | None:
    """Why nothing can be found in a series; None if something can."""
    scan = tables.scan(uid)
    if scan is None:
        return "its series is not in the tables"
    if not tables.annotations_of(uid):
        return "no reader outlined anything in its series"
    if None in (scan.pixel_spacing_mm, scan.slice_spacing_mm) and uid not in evidence.headers:
        return "neither the scan's header nor its spacing is known"
    return None


def _quality(matches: Sequence[Match]) -> tuple[int, float]:
    """More matches are better, then nearer ones; the first of equals is taken."""
    distances = [match.distance_mm for match in matches if match.distance_mm is not None]
    return len(distances), -sum(distances)


def _reason(match: Match, method: Method, findings: Sequence[LidcFinding], refused: str) -> str:
    if match.finding is not None:
        return ""
    if METHODS[method].startswith("NO ORIGIN"):
        return f"no origin, and none of {len(findings)} findings is like it in z and diameter{refused}"
    away = np.linalg.norm(np.subtract([f.center_xyz for f in findings], match.nodule.center_xyz), axis=1)
    return f"the nearest of {len(findings)} findings is {away.min():.1f} mm away{refused}"


def _possible(
    tables: LidcTables, uid: str, nodules: Sequence[Nodule], excluded: Sequence[Nodule], evidence: Evidence
) -> tuple[Method, list[list[LidcFinding]]]:
    """The best method for a series, and all findings of the series for each place where it may lie."""
    if uid in evidence.headers:
        return "header", [lidc_nodules(tables, uid, evidence.headers[uid])]
    pixels = pixel_grid(tables, uid)
    singles = [finding_of(tables, (a.annotation_id,), pixels) for a in tables.annotations_of(uid)]
    measured = [nodule for nodule in excluded if nodule.diameter_mm > 0]
    whole = lidc_nodules(tables, uid, pixels)
    _, grids = _placed(pixels, _spots(singles), _spots(measured), SINGLE_READER)
    if grids:
        return "readers", [_relocated(whole, pixels, grid) for grid in grids]
    if uid in evidence.crops:
        return "crop", [lidc_nodules(tables, uid, covering(tables, uid, g)) for g in evidence.crops[uid]]
    votes, grids = _placed(pixels, _spots(whole), _spots(nodules), WHOLE_NODULE)
    return "nodules" if votes > 1 else "slice", [
        _relocated(whole, pixels, grid) for grid in grids or [pixels]
    ]


def _relocated(
    findings: Sequence[LidcFinding], pixels: ImageGeometry, grid: ImageGeometry
) -> list[LidcFinding]:
    """The same findings, on a grid of the same voxels at another place."""
    centers = grid.to_xyz(pixels.to_irc([f.center_xyz for f in findings])).tolist()
    return [replace(f, center_xyz=(x, y, z)) for f, (x, y, z) in zip(findings, centers, strict=True)]


def pixel_grid(tables: LidcTables, uid: str) -> ImageGeometry:
    """The grid of a series as far as the tables tell: z is the patient's, x and y begin at pixel (0, 0)."""
    scan = tables.scan(uid)
    if scan is None or scan.pixel_spacing_mm is None or scan.slice_spacing_mm is None:
        raise ValueError(f"{uid}: no spacing in the tables")
    spacing = (scan.pixel_spacing_mm, scan.pixel_spacing_mm, scan.slice_spacing_mm)
    return ImageGeometry.axial(spacing, (0, 0, min(_z_mm(tables, uid))))


def check_grid(tables: LidcTables, uid: str, grid: ImageGeometry) -> None:
    """Raise LunaError where the readers of a series cannot have drawn on a grid.

    Its pixels are of another size, its slices not axial, or they begin behind an outline.
    """
    check_spacing(tables, uid, grid)
    if z_mm := _z_mm(tables, uid):
        check_begin(uid, z_mm, slice_numbers(z_mm, grid))


def covering(tables: LidcTables, uid: str, grid: ImageGeometry) -> ImageGeometry:
    """The same grid, its first slice moved so that no outline of the series lies before it."""
    return grid.moved_to([min(0, slice_numbers(_z_mm(tables, uid), grid).min()), 0, 0])


def _z_mm(tables: LidcTables, uid: str) -> list[float]:
    return [o.z_mm for a in tables.annotations_of(uid) for o in tables.outlines_of(a.annotation_id)]


def _spots(findings: Sequence[Nodule] | Sequence[LidcFinding]) -> Spots:
    return np.array([(*f.center_xyz, f.diameter_mm) for f in findings], float).reshape(-1, 4)


def _placed(
    pixels: ImageGeometry, ours: Spots, theirs: Spots, likeness: Likeness
) -> tuple[int, list[ImageGeometry]]:
    """Grids that bring most of our spots upon theirs, and the number of pairs that they bring together.

    Columns and rows may run to the right and the front, too; such grids come after those that do not.
    """
    unlike = np.abs(ours[:, None] - theirs)
    most = np.maximum(likeness.diameter_mm, likeness.diameter_share * theirs[:, 3])
    mine, other = np.nonzero((unlike[..., 3] <= most) & (unlike[..., 2] <= likeness.z_mm))
    origins = np.array([theirs[other, :2] - sign * ours[mine, :2] for sign in (1, -1)])  # (2, pairs, 2)
    is_near = (np.abs(origins[:, :, None] - origins[:, None]) <= likeness.xy_mm).all(axis=3)
    supporters = is_near.sum(axis=2)
    votes = int(supporters.max(initial=0))
    chosen = np.argwhere(supporters == votes).tolist() if votes else []
    means = {(1 - 2 * int(s), *origins[s, is_near[s, k]].mean(axis=0).round(6).tolist()) for s, k in chosen}
    grids = [_grid(pixels, (x, y), sign) for sign, x, y in sorted(means, reverse=True)]
    return votes, grids


def _grid(pixels: ImageGeometry, origin_xy: tuple[float, float], sign: int) -> ImageGeometry:
    origin = np.array([*origin_xy, pixels.origin_xyz[2]])
    return ImageGeometry(origin, pixels.spacing_xyz, np.diag([float(sign), float(sign), 1.0]))
