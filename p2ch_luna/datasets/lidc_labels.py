"""LIDC's annotations joined into nodules: where they are, how large, and what their readers thought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from p2ch_luna.datasets.lidc_masks import (
    NoduleMask,
    check_spacing,
    consensus_mask,
    reader_masks,
    slice_numbers,
)
from p2ch_luna.findings import Nodule, Point
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.io.lidc_tables import LidcTables
from p2ch_luna.metrics.matching import effective_diameter_mm

__all__ = [
    "BENIGN", "MALIGNANT", "LidcFinding", "Match", "NoduleMask", "Ratings", "consensus_mask", "lidc_nodules",
    "malignancy_of", "match_nodules",
]  # fmt: skip

BENIGN, MALIGNANT = 2.5, 3.5  # mean ratings up to and from which a nodule has a label; between: indeterminate
MOST_READERS = 4  # of one scan, so of one nodule
OVERLAP_STEP = 0.05
SAME_OVERLAP = 0.5  # from which annotations are of one nodule, however many they are
LUNA16_READERS = 3  # at least, of a nodule in its list
_RARELY, _NEVER = 1e3, 1e6  # mm, in the sum that is made small
FARTHEST_MM = 3.0  # from LUNA16's centre to ours, or half the diameter if that is more

Malignancy = Literal["benign", "indeterminate", "malignant"]


class Ratings(NamedTuple):
    """Means over the readers who rated, in the order of `CHARACTERISTICS`; None: nobody did."""

    subtlety: float | None = None  # 1 (extremely subtle) to 5 (obvious)
    internal_structure: float | None = None  # 1 soft tissue, 2 fluid, 3 fat, 4 air: a mean of kinds
    calcification: float | None = None  # 1 popcorn … 5 central, 6 absent: a mean of kinds
    sphericity: float | None = None  # 1 (linear) to 5 (round)
    margin: float | None = None  # 1 (poorly defined) to 5 (sharp)
    lobulation: float | None = None  # 1 (none) to 5 (marked)
    spiculation: float | None = None  # 1 (none) to 5 (marked)
    texture: float | None = None  # 1 (ground glass) to 5 (solid)
    malignancy: float | None = None  # 1 (highly unlikely) to 5 (highly suspicious)


@dataclass(frozen=True)
class LidcFinding:
    """Annotations of one place in a scan."""

    series_uid: str
    center_xyz: Point  # LPS mm, mean of the readers' centres of mass
    diameter_mm: float  # mean over the readers: of the sphere of the volume that each outlined
    annotation_ids: tuple[int, ...]  # rising
    readers: int  # annotations joined; a reader who drew two parts counts twice
    ratings: Ratings


@dataclass(frozen=True)
class Match:
    """A nodule of a list and the finding that it is, if there is one."""

    nodule: Nodule
    finding: LidcFinding | None
    distance_mm: float | None  # between their centres; None: no finding


def malignancy_of(mean_rating: float | None) -> Malignancy | None:
    """Benign up to a mean of 2.5, malignant from 3.5, indeterminate between; None where nobody rated.

    It is the suspicion of radiologists, not pathology.
    """
    if mean_rating is None:
        return None
    if mean_rating <= BENIGN:
        return "benign"
    return "malignant" if mean_rating >= MALIGNANT else "indeterminate"


def lidc_nodules(tables: LidcTables, series_uid: str, native: ImageGeometry) -> list[LidcFinding]:
    """All nodules of at least 3 mm that LIDC's readers outlined in a series, by their first annotation.

    native: the grid of the original series, as DICOM or LUNA16 store it. Annotations are of one nodule where
    their outlines come as near to each other as the next slice, or are linked so by others. Where more than 4
    come together, only those stay linked whose overlap (shared voxels of those of either) is 5 %, then 10 %
    and so on up to 50 %, until they are 4 or fewer. A series that is not one of LIDC-IDRI's has no nodules.
    Raises LunaError where `native` cannot be the grid that the readers drew on.
    """
    check_spacing(tables, series_uid, native)
    ids = [annotation.annotation_id for annotation in tables.annotations_of(series_uid)]
    return [finding_of(tables, group, native) for group in join_annotations(tables, ids, native)]


def join_annotations(
    tables: LidcTables, annotation_ids: Sequence[int], native: ImageGeometry
) -> list[tuple[int, ...]]:
    """Which annotations of one series are of one nodule, by the rule that `lidc_nodules` states."""
    clouds = [_outline_mm(tables, number, native) for number in annotation_ids]
    reach = float(native.spacing_xyz[2])
    joined = []
    for group in _linked(_distances(clouds, reach) <= reach):
        ids = [annotation_ids[k] for k in group]
        joined += _parted(ids, _overlaps(tables, ids, native)) if len(ids) > MOST_READERS else [tuple(ids)]
    return sorted(joined)


def _linked(is_link: NDArray[np.bool_]) -> list[list[int]]:
    """What hangs together by (N, N) links, directly or through others."""
    n_parts, part = connected_components(is_link, directed=False)
    return [np.flatnonzero(part == k).tolist() for k in range(n_parts)]


def _parted(ids: Sequence[int], overlap: NDArray[np.float64]) -> list[tuple[int, ...]]:
    """Part annotations by a share of overlap that rises where more than `MOST_READERS` are still linked."""
    done, open_groups, wanted = [], [list(range(len(ids)))], 0.0
    while open_groups:
        wanted += OVERLAP_STEP
        parts = [
            [group[k] for k in part]
            for group in open_groups
            for part in _linked(overlap[np.ix_(group, group)] >= wanted)
        ]
        done += [part for part in parts if len(part) <= MOST_READERS or wanted >= SAME_OVERLAP]
        open_groups = [part for part in parts if len(part) > MOST_READERS and wanted < SAME_OVERLAP]
    return [tuple(ids[k] for k in part) for part in done]


def _overlaps(tables: LidcTables, ids: Sequence[int], native: ImageGeometry) -> NDArray[np.float64]:
    """(N, N) voxels that two annotations share, of those that either has."""
    masks = reader_masks(tables, ids, native).masks.reshape(len(ids), -1).astype(np.float32)
    shared = masks @ masks.T
    volumes = np.diag(shared)
    overlap: NDArray[np.float64] = shared / np.maximum(np.add.outer(volumes, volumes) - shared, 1)
    return overlap


def _outline_mm(tables: LidcTables, annotation_id: int, native: ImageGeometry) -> NDArray[np.float64]:
    """(N, 3) points of all outlines in mm, on the axes of the grid."""
    outlines = tables.outlines_of(annotation_id)
    index = np.repeat(slice_numbers([o.z_mm for o in outlines], native), [len(o.points_xy) for o in outlines])
    points = np.concatenate([o.points_xy for o in outlines])
    return np.column_stack([points, index]) * native.spacing_xyz


def _distances(clouds: Sequence[NDArray[np.float64]], reach: float) -> NDArray[np.float64]:
    """(A, A) smallest distance between two sets of points; infinite where it is certainly above `reach`."""
    distance = np.full((len(clouds), len(clouds)), np.inf)
    np.fill_diagonal(distance, 0)
    low = np.array([cloud.min(axis=0) for cloud in clouds]).reshape(-1, 3)
    high = np.array([cloud.max(axis=0) for cloud in clouds]).reshape(-1, 3)
    trees = [KDTree(cloud) for cloud in clouds]
    for a in range(len(clouds)):
        gap = np.maximum(low[a] - high, low - high[a]).max(axis=1)
        for b in np.flatnonzero(gap[:a] <= reach).tolist():
            distance[a, b] = distance[b, a] = np.min(trees[a].query(clouds[b])[0])
    return distance


def finding_of(tables: LidcTables, group: tuple[int, ...], native: ImageGeometry) -> LidcFinding:
    """What these annotations of one nodule say together; errors as of `lidc_nodules`."""
    readers = reader_masks(tables, group, native)
    voxel_mm3 = float(native.spacing_xyz.prod())
    volumes_mm3 = readers.masks.sum(axis=(1, 2, 3)) * voxel_mm3
    centers = [
        _center_of_mass(mask) + readers.start_irc
        if mask.any()
        else _outline_mm(tables, number, native).mean(axis=0)[::-1] / native.spacing_irc
        for number, mask in zip(group, readers.masks, strict=True)
    ]
    x, y, z = native.to_xyz(np.mean(centers, axis=0)).tolist()
    diameter_mm = float(np.cbrt(6 / np.pi * volumes_mm3).mean())
    ratings = _mean_ratings(tables, group)
    return LidcFinding(tables.series_of(group[0]), (x, y, z), diameter_mm, group, len(group), ratings)


def _center_of_mass(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    center: NDArray[np.float64] = np.argwhere(mask).mean(axis=0)
    return center


def _mean_ratings(tables: LidcTables, group: tuple[int, ...]) -> Ratings:
    by_characteristic = zip(*(tables.annotation(number).ratings for number in group), strict=True)
    given = [[rating for rating in of_one if rating is not None] for of_one in by_characteristic]
    return Ratings(*(sum(ratings) / len(ratings) if ratings else None for ratings in given))


def match_nodules(nodules: Sequence[Nodule], findings: Sequence[LidcFinding]) -> list[Match]:
    """For each nodule, in their order, the finding that it is: one to one, the sum of distances smallest.

    A finding comes into question in the same series up to 3 mm from the nodule's centre, or up to half the
    larger of their diameters if that is more; one of fewer than 3 readers only where there is no other, for
    LUNA16 lists what at least 3 have marked.
    """
    if not nodules or not findings:
        return [Match(nodule, None, None) for nodule in nodules]
    distance = np.linalg.norm(
        np.array([n.center_xyz for n in nodules])[:, None] - np.array([f.center_xyz for f in findings]),
        axis=2,
    )
    diameters = np.maximum.outer(
        [effective_diameter_mm(n) for n in nodules], [f.diameter_mm for f in findings]
    )
    same = np.array([[n.series_uid == f.series_uid for f in findings] for n in nodules])
    is_near = same & (distance <= np.maximum(FARTHEST_MM, diameters / 2))
    is_single = np.array([f.readers < LUNA16_READERS for f in findings])
    rows, columns = linear_sum_assignment(np.where(is_near, distance + is_single * _RARELY, _NEVER))
    found = {
        row: column
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if is_near[row, column]
    }
    return [
        Match(nodule, findings[found[k]], float(distance[k, found[k]]))
        if k in found
        else Match(nodule, None, None)
        for k, nodule in enumerate(nodules)
    ]
