"""Findings and reports written by hand: nothing is measured, so a test says what the pages show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p2ch_luna.findings import Point
from p2ch_luna.geometry import AIR_HU, CtVolume, ImageGeometry
from p2ch_luna.models.checkpoint import OperatingPoint
from p2ch_luna.report.schema import Finding, Rejected, Report, Scan, Settings

POINT = OperatingPoint(fp_per_scan=1.0, probability=0.42, sensitivity=0.88)
FLIPPED = np.diag([1.0, -1.0, -1.0])
OBLIQUE = np.array([[0.96, -0.28, 0.0], [0.28 * 0.8, 0.96 * 0.8, -0.6], [0.28 * 0.6, 0.96 * 0.6, 0.8]])

TILTS = {"straight": np.eye(3), "flipped": FLIPPED, "oblique": OBLIQUE, "coronal": np.eye(3)[:, [0, 2, 1]]}


def chest(
    direction: NDArray[np.float64] | None = None,
    spacing_xyz: tuple[float, float, float] = (1.0, 1.0, 2.0),
    shape: tuple[int, int, int] = (40, 90, 110),
) -> CtVolume:
    """A block of tissue with a hole of lung in it, air around; three different sides."""
    hu = np.full(shape, AIR_HU, np.int16)
    slices, rows, columns = shape
    hu[:, rows // 9 : -rows // 9, columns // 11 : -columns // 11] = 40
    hu[4 : slices - 4, rows // 4 : -rows // 4, columns // 5 : -columns // 5] = -850
    axes = np.eye(3) if direction is None else direction
    return CtVolume("1.2.3", hu, ImageGeometry(np.array([-50.0, 20.0, -70.0]), np.array(spacing_xyz), axes))


def paint_ball(
    ct: CtVolume, labels: NDArray[np.uint8], center_xyz: Sequence[float], diameter_mm: float, label: int
) -> None:
    """Tissue and a label at the voxels of a ball."""
    irc = np.stack(np.indices(ct.hu.shape), axis=-1)
    away = np.linalg.norm(ct.geometry.to_xyz(irc) - center_xyz, axis=-1)
    ct.hu[away <= diameter_mm / 2] = 30
    labels[away <= diameter_mm / 2] = label


def finding(ct: CtVolume, center_xyz: Sequence[float], rank: int = 1, **changes: Any) -> Finding:
    """One at a place of a CT."""
    x, y, z = (float(value) for value in center_xyz)
    center: Point = (x, y, z)
    index, row, col = ct.geometry.to_irc(center).tolist()
    given: dict[str, Any] = {
        "id": f"F{rank}",
        "rank": rank,
        "center_lps_mm": center,
        "voxel_irc": (index, row, col),
        "slice_index": round(index),
        "slice_number": round(index) + 1,
        "label": rank,
        "tracking_uid": f"1.2.3.{rank}",
        "side": "right",
        "third": "lower",
        "is_cut_off": False,
        "pleura_mm": 3.0,
        "longest_mm": 11.0,
        "perpendicular_mm": 9.0,
        "mean_diameter_mm": 10.0,
        "longest_lps_mm": (center, center),
        "perpendicular_lps_mm": (center, center),
        "diameter_mm": 10.0,
        "volume_mm3": 524.0,
        "mean_hu": -12.0,
        "texture": "solid",
        "solid_mm": 10.0,
        "lung_rads": "4A",
        "nodule_probability": 0.97,
        "segmentation_probability": 0.9,
        "classifier_probability": 0.95,
        "malignancy_probability": 0.64,
        "malignancy_by_diameter": 0.41,
        "images": {},
    }
    return Finding(**{**given, **changes})


def hand_report(ct: CtVolume, findings: Sequence[Finding] = (), **changes: Any) -> Report:
    """A report of these findings."""
    slices, rows, columns = ct.hu.shape
    x, y, z = ct.geometry.spacing_xyz.tolist()
    scan = Scan(
        name="scan.mha",
        format=".mha",
        series_uid=ct.series_uid,
        series=(),
        shape_irc=(slices, rows, columns),
        spacing_xyz_mm=(x, y, z),
        origin_xyz_mm=tuple(ct.geometry.origin_xyz.tolist()),
        direction=tuple(tuple(row) for row in ct.geometry.direction.tolist()),
    )
    given: dict[str, Any] = {
        "scan": scan,
        "is_searched": True,
        "findings": tuple(findings),
        "rejected": (rejected(0.31), rejected(0.12)),
        "warnings": (),
        "models": (),
        "settings": Settings(
            finding_threshold=0.42,
            operating_point=POINT,
            proposal_threshold=0.1,
            mask_threshold=0.3,
            outline_share=0.65,
            max_candidates=100,
        ),
        "files": (),
        "timings_s": {"reading": 1.25, "lungs": 0.5},
    }
    return Report(**{**given, **changes})


def rejected(probability: float) -> Rejected:
    """A candidate that is too improbable."""
    return Rejected(
        center_lps_mm=(1.0, 2.0, 3.0),
        diameter_mm=4.0,
        nodule_probability=probability,
        segmentation_probability=0.6,
        reason="nodule probability is below 0.42",
    )


def pixels(path: Path) -> NDArray[np.uint8]:
    """(height, width, 3) of a picture file."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
