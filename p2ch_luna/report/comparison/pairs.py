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
# HU of the lungs that correlate by less agree poorly: two patients come to 0.7, one patient with a deep
# breath between to 0.82 and more; at 0.77, of lungs stretched by an eighth, pairs were 5 to 8 mm off.
POOR = 0.8

RULE = (
    f"a pair: nearer than its reach, {APART_MM:g} mm and half the larger diameter; so chosen that the sum of "
    "their distances is least, where leaving two alone costs as much as their reach"
)
POOR_RULE = (
    f"where the HU of the lungs correlate by less than {POOR:g}, growth is not judged, nor whether a nodule "
    "is new or has vanished"
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


def find_pairs(both: Both, expected: Sequence[Point]) -> list[Pair]:
    """The best one-to-one pairs by `RULE`; expected: where the earlier findings lie in the later scan."""
    prior, current = both.prior.findings, both.current.findings
    if not prior or not current:
        return []
    there = np.array([finding.center_lps_mm for finding in current])
    distance = np.linalg.norm(np.array(expected)[:, None] - there, axis=2)
    larger = np.maximum.outer(*([f.mean_diameter_mm for f in findings] for findings in (prior, current)))
    cost = np.minimum(distance - _reach_mm(larger), 0.0)  # of a pair, against leaving the two alone
    return [
        Pair(int(i), int(j), float(distance[i, j]))
        for i, j in zip(*linear_sum_assignment(cost), strict=True)
        if cost[i, j] < 0
    ]


def _reach_mm(diameter_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far off nodules of these diameters may lie."""
    return APART_MM + diameter_mm / 2


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

    The most probable within reach counts; one that was not judged, only where there is no other.
    """
    name = "prior" if other is both.prior else "current"
    reach = _reach_mm(np.array(finding.mean_diameter_mm))
    near = [
        candidate
        for candidate in other.rejected
        if np.linalg.norm(np.subtract(candidate.center_lps_mm, place_xyz)) < reach
    ]
    if not near:
        return ""
    best = max(near, key=lambda candidate: _or_least(candidate.nodule_probability))
    if best.nodule_probability is None:
        return f"a candidate in the {name} scan: {best.diameter_mm:.1f} mm, not judged ({best.reason})"
    return (
        f"seen in the {name} scan below the threshold: {best.diameter_mm:.1f} mm, "
        f"probability {best.nodule_probability:.2g}"
    )


def _or_least(probability: float | None) -> float:
    return -1.0 if probability is None else probability


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = values.tolist()
    return x, y, z
