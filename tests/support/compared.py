"""Reports of two scans of the lungs of `lung_pictures`: nodules the same, grown, new, gone and cut off."""

from __future__ import annotations

import numpy as np

from p2ch_luna.findings import Point
from p2ch_luna.geometry import AIR_HU, CtVolume, ImageGeometry
from p2ch_luna.report.schema import Finding, Rejected, Report
from support.findings import finding, hand_report
from support.lung_pictures import APART_MM, MIDDLE, lungs, turned

MOVE = turned((8, -6, 10), (30, -20, 70))
SAME, GROWN, NEW, GONE, CUT = (MIDDLE + np.array([x, y, z]) for x, y, z in (
    (APART_MM, 0, 40), (-APART_MM, 5, 10), (APART_MM, -10, 20), (APART_MM, 10, 0), (-APART_MM, 0, -45)
))  # fmt: skip


def scan_of(picture: CtVolume) -> CtVolume:
    """A CT of nothing with the outlines of a picture of lungs."""
    low = picture.geometry.to_xyz(np.full(3, -0.25))
    shape = tuple(2 * n for n in picture.hu.shape)
    geometry = ImageGeometry(low, np.ones(3), picture.geometry.direction)
    return CtVolume(picture.series_uid, np.full(shape, AIR_HU, np.int16), geometry)


def prior_report() -> Report:
    """Of nodules that stay, have grown, are gone, and lie where the later scan does not reach."""
    ct = scan_of(lungs())
    found = [
        _sized(ct, place, rank, 8.0, 268.0) for rank, place in enumerate((SAME, GROWN, GONE, CUT), start=1)
    ]
    return hand_report(ct, found, rejected=(_rejected(NEW, 0.2),))


def current_report() -> Report:
    """Of one that is new, one that has grown by a quarter and one that has stayed."""
    ct = scan_of(lungs(MOVE, (0.25, 1.0)))
    found = [
        _sized(ct, MOVE(NEW), 1, 6.0, 113.0),
        _sized(ct, MOVE(GROWN) + np.array([0.5, 0, 0]), 2, 10.0, 524.0),
        _sized(ct, MOVE(SAME), 3, 8.2, 289.0),
    ]
    return hand_report(ct, found, rejected=())


def _sized(ct: CtVolume, xyz: np.ndarray, rank: int, mm: float, mm3: float) -> Finding:
    return finding(ct, xyz.tolist(), rank, mean_diameter_mm=mm, volume_mm3=mm3)


def _rejected(xyz: np.ndarray, probability: float) -> Rejected:
    x, y, z = xyz.tolist()
    center: Point = (x, y, z)
    return Rejected(
        center_lps_mm=center,
        diameter_mm=4.5,
        nodule_probability=probability,
        segmentation_probability=0.6,
        reason="faint",
    )
