"""Small scans, diagnoses and reports for tests, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from p2ch_luna.findings import Detection, Point
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference import Diagnosis
from p2ch_luna.inference.detector import Progress
from p2ch_luna.inference.propose import ProposalSettings
from p2ch_luna.inference.regions import Region
from p2ch_luna.io.opened import OpenedScan
from p2ch_luna.lungs import PreparedCt
from p2ch_luna.models.checkpoint import ModelCard, OperatingPoint
from p2ch_luna.report.build import build_report, measure_findings
from p2ch_luna.report.schema import Report

CARD = ModelCard(
    builder="nodule_classifier",
    arguments={},
    config={"seed": 0},
    data=["LIDC-IDRI, CC BY 3.0"],
    split={"train": ["A"]},
    metrics={"auc": 0.9},
    software="p2ch-luna",
    weights_sha256="ab" * 32,
)
POINT = OperatingPoint(fp_per_scan=1.0, probability=0.5, sensitivity=0.8)


def opened(ct: CtVolume, **facts: object) -> OpenedScan:
    """A CT as if it had been read from a file."""
    given = {"name": "scan.mha", "format": ".mha", "warnings": (), **facts}
    numbers = given.pop("slice_numbers", tuple(range(1, len(ct.hu) + 1)))
    return OpenedScan(ct, slice_numbers=numbers, **given)  # type: ignore[arg-type]


def detection(ct: CtVolume, probability: float, irc: Sequence[float] = (5, 7, 9)) -> Detection:
    """One at a voxel of a CT."""
    x, y, z = ct.geometry.to_xyz(irc).tolist()
    return Detection(ct.series_uid, (x, y, z), probability, 8.0, 268.0, 0.9, 0.8, 0.3)


def region(center_xyz: Point, radius_mm: float = 2.0) -> Region:
    """A ball of probability 0.9 on an axial grid of 1 mm that has a voxel at its centre."""
    reach = int(radius_mm) + 3
    grid = np.indices((2 * reach + 1,) * 3) - reach
    inside = (grid**2).sum(0) <= radius_mm**2
    geometry = ImageGeometry.axial(origin_xyz=np.array(center_xyz) - reach)
    return Region(np.where(inside, 0.9, 0.0).astype(np.float32), geometry, 0.5)


def diagnosis_of(ct: CtVolume, *detections: Detection, warnings: Sequence[str] = ()) -> Diagnosis:
    """Of these detections, the most probable first."""
    return Diagnosis(
        ct.series_uid,
        list(detections),
        list(warnings),
        {"lungs": 0.12345, "segmentation": 6.0},
        ProposalSettings(),
        {"classifier": CARD},
        tuple(region(found.center_xyz) for found in detections),
        prepared=PreparedCt(ct, np.ones(ct.hu.shape, bool), None),
    )


def report_of(
    ct: CtVolume,
    *detections: Detection,
    warnings: Sequence[str] = (),
    point: OperatingPoint | None = POINT,
    files: Sequence[str] = (),
    **facts: object,
) -> Report:
    """As `luna diagnose` would make it; facts: of the scan that was opened."""
    diagnosis = diagnosis_of(ct, *detections, warnings=warnings)
    return build_report(diagnosis, opened(ct, **facts), measure_findings(diagnosis, ct, point), point, files)


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


class FixedDetector:
    """Finds the same balls in every CT: `n_found` places at voxel 15, 15, 15 of which half are findings."""

    def __init__(self, n_found: int = 4) -> None:
        self.n_found = n_found
        self.calls = 0
        self.models: dict[str, ModelCard] = {}
        self.malignancy_probability: float | None = 0.25

    def __call__(self, ct: CtVolume, progress: Progress | None = None) -> Diagnosis:
        self.calls += 1
        if progress:
            progress.stage("looking", 1)
        found = [
            replace(
                detection(ct, 1 - k / self.n_found, (15, 15, 15)),
                malignancy_probability=self.malignancy_probability,
            )
            for k in range(self.n_found)
        ]
        diagnosis = diagnosis_of(ct, *found, warnings=["the lungs are cut off"])
        return replace(diagnosis, timings_s={"looking": 1.5}, models=self.models)
