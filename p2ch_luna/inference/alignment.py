"""The lungs of an earlier scan laid over those of a later one: six degrees of freedom.

The surfaces of the lungs bring them near each other from several starts, by least squares of the distances
looked up in a map (Fitzgibbon, Image and Vision Computing 21, 2003, 1145-1153); then the HU inside the lungs
do, vessels above all, coarse to fine. Nothing depends on chance or on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from p2ch_luna.errors import LunaError
from p2ch_luna.inference.alignment_views import LungHu, LungView, Rigid, some
from p2ch_luna.lungs import Mask

SURFACE_POINTS = 1500  # of each scan
HU_POINTS = 12_000  # of the earlier scan
ROUGH_MM = 6.0  # a distance between the surfaces from which on it counts by its size, no longer squared
START_STEP_MM = 30.0  # between starts along the body
STARTS_KEPT = 4  # of them, those that are followed to their end
ROUGH_HU_MM = 4.0  # blur of the HU for a first fit
ARM_MM = 100.0  # a rotation counts as the way of a point so far off the centre
NUDGE_MM = 0.3  # by which a parameter is moved to see what it does
DEPTH_MM = 5.0  # below the surface, where HU tell lungs apart: at the rim all lungs meet the chest wall
FEWEST = 0.05  # share of the points that must meet the other scan

Vector = NDArray[np.float64]
Misfit = Callable[[Rigid], Vector]


@dataclass(frozen=True)
class Alignment:
    """Where the points of the earlier scan lie in the later one, and how well the lungs agree there."""

    to_current: Rigid
    overlap: float  # Dice of the lungs, where both scans tell where lung is
    correlation: float  # of HU, -1 to 1, where both are lung, below the rim
    surface_mm: float | None  # median distance between the lungs' surfaces; None: no surface is in both


def align(before: LungView, now: LungView) -> Alignment:
    """Find how the lungs of an earlier `lung_picture` lie in a later one.

    Shifts of any size and rotations up to about 15 degrees about each axis are found, also where a scan
    shows only part of the lungs. Raises LunaError where a picture shows no lung.
    """
    for name, view in (("earlier", before), ("later", now)):
        if not view.lung.any():
            raise LunaError(f"the picture of the {name} scan's lungs shows none; wanted lungs to align by")
    middle = np.median(before.inside_xyz, axis=0)
    surfaces = surface_misfit(before, now)
    found = [_fit(surfaces, start, middle) for start in _starts(before, now, surfaces, middle)]
    coarse = hu_misfit(before, before.smooth(ROUGH_HU_MM), now.smooth(ROUGH_HU_MM))
    fine = hu_misfit(before, before.fine, now.fine)
    best = min(found, key=lambda p: np.mean(coarse(_pose(p, middle)) ** 2))
    for misfit in (coarse, fine):
        best = _fit(misfit, best, middle)
    return _judged(before, now, _pose(best, middle))


def surface_misfit(before: LungView, now: LungView) -> Misfit:
    """Distances in mm of either scan's surface points from the other's surface; 0 where it is not known."""
    ours, theirs = (some(view.surface_xyz, SURFACE_POINTS) for view in (before, now))

    def misfit(pose: Rigid) -> Vector:
        there, back = pose(ours), pose.inverse()(theirs)
        distance = np.concatenate([now.distance_mm(there), before.distance_mm(back)]).astype(float)
        return _of_known(distance / ROUGH_MM, np.concatenate([now.is_known(there), before.is_known(back)]))

    return misfit


def hu_misfit(before: LungView, hu: LungHu, now_hu: LungHu, depth_mm: float = 0.0) -> Misfit:
    """Differences of standardised HU at the earlier scan's points; 0 where one is not in the later lungs.

    depth_mm: how far below the surface the points lie at least. Half the mean square of the differences is 1
    less the correlation, if more than `FEWEST` of the points meet.
    """
    inside = before.inside_xyz
    points = some(inside[before.distance_mm(inside) <= -depth_mm] if depth_mm else inside, HU_POINTS)
    ours, _ = hu.at(points)

    def misfit(pose: Rigid) -> Vector:
        theirs, is_lung = now_hu.at(pose(points))
        if np.count_nonzero(is_lung) < FEWEST * len(points):
            return np.full(len(points), np.sqrt(2.0))
        difference = _standardised(ours, is_lung) - _standardised(theirs, is_lung)
        return _of_known(difference, is_lung)

    return misfit


def _standardised(values: NDArray[np.float32], chosen: Mask) -> Vector:
    """By the mean and the deviation of the chosen."""
    among = values[chosen].astype(float)
    standardised: Vector = (values - among.mean()) / max(among.std(), 1e-6)
    return standardised


def _of_known(residuals: Vector, known: Mask) -> Vector:
    """0 where it is not known, and the others larger for it, so that nothing is gained by meeting less."""
    share = max(float(known.mean()), FEWEST)
    scaled: Vector = np.where(known, residuals, 0.0) / np.sqrt(share)
    return scaled


def _pose(parameters: Vector, middle: Vector) -> Rigid:
    """Of three mm of shift and three of rotation about the middle, at `ARM_MM`."""
    rotation = Rotation.from_rotvec(parameters[3:] / ARM_MM).as_matrix()
    return Rigid(rotation, middle + parameters[:3] - rotation @ middle)


def _fit(misfit: Misfit, start: Vector, middle: Vector) -> Vector:
    """The parameters near `start` with the least misfit, outliers counting by their size only."""

    def of(parameters: Vector) -> Vector:
        return misfit(_pose(parameters, middle))

    def slopes(parameters: Vector) -> NDArray[np.float64]:
        nudges = NUDGE_MM * np.eye(6)
        return np.stack([(of(parameters + d) - of(parameters - d)) / (2 * NUDGE_MM) for d in nudges], axis=1)

    found: Vector = least_squares(of, start, slopes, loss="soft_l1", max_nfev=25, xtol=1e-5, ftol=1e-5).x
    return found


def _starts(before: LungView, now: LungView, misfit: Misfit, middle: Vector) -> list[Vector]:
    """The best of the shifts along the body that bring centre on centre, top on top and any between."""
    ours, theirs = before.inside_xyz, now.inside_xyz
    center = np.median(theirs, axis=0) - middle
    ends = np.percentile(theirs[:, 2], (1, 99)) - np.percentile(ours[:, 2], (1, 99)) - center[2]
    reach = float(np.abs(ends).max()) + START_STEP_MM / 2
    along = np.arange(-np.ceil(reach / START_STEP_MM), np.ceil(reach / START_STEP_MM) + 1) * START_STEP_MM
    starts = [np.array([center[0], center[1], center[2] + dz, 0.0, 0.0, 0.0]) for dz in along]

    def roughly(start: Vector) -> float:
        return float(np.sqrt(1 + misfit(_pose(start, middle)) ** 2).mean())

    return sorted(starts, key=roughly)[:STARTS_KEPT]


def _judged(before: LungView, now: LungView, pose: Rigid) -> Alignment:
    there, back = pose(before.surface_xyz), pose.inverse()(now.surface_xyz)
    distance = np.concatenate(
        [now.distance_mm(there)[now.is_known(there)], before.distance_mm(back)[before.is_known(back)]]
    )
    inside, outside = pose(before.inside_xyz), pose.inverse()(now.inside_xyz)
    inside, outside = inside[now.is_known(inside)], outside[before.is_known(outside)]
    shared = np.count_nonzero(now.is_lung(inside)) + np.count_nonzero(before.is_lung(outside))
    below_rim = hu_misfit(before, before.fine, now.fine, DEPTH_MM)
    return Alignment(
        pose,
        overlap=shared / max(len(inside) + len(outside), 1),
        correlation=float(1 - np.mean(below_rim(pose) ** 2) / 2),
        surface_mm=float(np.median(np.abs(distance))) if len(distance) else None,
    )
