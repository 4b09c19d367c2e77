"""Which finding of the later scan is which of the earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from p2ch_luna.findings import Point
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.inference.alignment import Alignment
from p2ch_luna.inference.alignment_local import place_in_other
from p2ch_luna.inference.alignment_views import LungView
from p2ch_luna.report.schema import Finding, Report, Scan

APART_MM = 6.0  # that an alignment is off, at most, where the surroundings were known again
POOR_APART_MM = 12.0  # the same where the lungs agree poorly
POOR = (
    0.75  # correlation of HU below which they do: two patients come to 0.7, one to more but for a deep breath
)

RULE = (
    f"a pair: no further apart than {APART_MM:g} mm ({POOR_APART_MM:g} where the lungs agree poorly) and "
    "half the larger diameter, so chosen that as many as possible are paired and their distances are least"
)


@dataclass(frozen=True)
class Pair:
    """Numbers of a finding in both reports."""

    prior: int
    current: int
    distance_mm: float


@dataclass(frozen=True, eq=False)
class Both:
    """Two scans laid over each other; every place of the one can be found in the other."""

    prior: Report
    current: Report
    before: LungView
    now: LungView
    alignment: Alignment

    @property
    def is_poor(self) -> bool:
        """Whether the lungs agree so little that they may be of two patients."""
        return self.alignment.correlation < POOR

    def in_current(self, place_xyz: Point) -> Point:
        """Where a place of the earlier scan lies in the later one."""
        return _point(place_in_other(self.before, self.now, self.alignment.to_current, place_xyz))

    def in_prior(self, place_xyz: Point) -> Point:
        """The other way round."""
        back = self.alignment.to_current.inverse()
        return _point(place_in_other(self.now, self.before, back, place_xyz))

    def reach_mm(self, diameter_mm: float) -> float:
        """How far off a nodule of this diameter may lie."""
        return (POOR_APART_MM if self.is_poor else APART_MM) + diameter_mm / 2


def find_pairs(both: Both, expected: Sequence[Point]) -> list[Pair]:
    """The best one-to-one pairs by `RULE`; expected: where the earlier findings lie in the later scan."""
    prior, current = both.prior.findings, both.current.findings
    if not prior or not current:
        return []
    there = np.array([finding.center_lps_mm for finding in current])
    distance = np.linalg.norm(np.array(expected)[:, None] - there, axis=2)
    larger = np.maximum.outer(*([f.mean_diameter_mm for f in findings] for findings in (prior, current)))
    reach = np.array([[both.reach_mm(mm) for mm in row] for row in larger])
    return _assigned(distance, distance <= reach)


def _assigned(distance: NDArray[np.float64], allowed: NDArray[np.bool_]) -> list[Pair]:
    """As many allowed pairs as can be; among those the nearest."""
    forbidden = 1.0 + distance[allowed].sum()  # more than all allowed pairs together
    rows, columns = linear_sum_assignment(np.where(allowed, distance, forbidden))
    return [
        Pair(int(i), int(j), float(distance[i, j]))
        for i, j in zip(rows, columns, strict=True)
        if allowed[i, j]
    ]


def is_covered(scan: Scan, place_xyz: Point, diameter_mm: float) -> bool:
    """Whether a scan shows the whole of a nodule there."""
    geometry = ImageGeometry(
        np.array(scan.origin_xyz_mm), np.array(scan.spacing_xyz_mm), np.array(scan.direction)
    )
    irc = geometry.to_irc(place_xyz)
    edge = diameter_mm / 2 / geometry.spacing_irc - 0.5  # voxels are as wide as their spacing
    return bool(((irc >= edge) & (irc <= np.array(scan.shape_irc) - 1 - edge)).all())


def rejected_near(both: Both, other: Report, place_xyz: Point, finding: Finding) -> str:
    """What the other report says of a rejected candidate at that place; "" if there is none.

    The most probable within reach counts.
    """
    reach = both.reach_mm(finding.mean_diameter_mm)
    name = "prior" if other is both.prior else "current"
    for rejected in other.rejected:  # the most probable first
        if np.linalg.norm(np.subtract(rejected.center_lps_mm, place_xyz)) <= reach:
            return (
                f"seen in the {name} scan below the threshold: {rejected.diameter_mm:.1f} mm, "
                f"probability {rejected.nodule_probability:.2g}"
            )
    return ""


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = values.tolist()
    return x, y, z
