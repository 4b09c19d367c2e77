"""The report of one scan: a versioned schema. Positions are LPS mm, lengths mm, volumes mm^3."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Detection, Point
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference.detector import CLASSIFIER, Diagnosis
from p2ch_luna.models.checkpoint import ModelCard, OperatingPoint
from p2ch_luna.report import RESEARCH_ONLY
from p2ch_luna.report.rates import false_positives_text, rate_text

SCHEMA_VERSION = "2.0"  # the first number changes where an old reader would fail
FINDING_THRESHOLD = 0.8  # probability from which a detection is a finding, of networks without calibration
FP_PER_SCAN = 1.0  # of the operating point if none is asked for
SUSPICION = "radiologist suspicion, not pathology"  # what a probability of malignancy is
NOT_JUDGED = (
    "malignancy is not judged: the classifier was trained with loss.malignancy = 0; wanted a network for it, "
    "as --malignancy names one"
)


class _Part(BaseModel):
    """A part of the report: never changed, nothing in it that the schema does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Scan(_Part):
    """The CT as it was read."""

    name: str  # of the file or folder, without the path
    series_uid: str
    shape_irc: tuple[int, int, int]  # slices, rows, columns
    spacing_xyz_mm: Point
    origin_xyz_mm: Point
    direction: tuple[Point, Point, Point]  # rows of the matrix; its columns step along col, row, index


class Finding(_Part):
    """A detection that is likely enough to be looked at."""

    id: str  # "F1" is the first
    rank: int  # 1: the most probable
    center_lps_mm: Point
    voxel_irc: Point  # (index, row, col) in the scan's own grid, from 0, fractional
    slice_index: int  # the nearest slice, from 0
    diameter_mm: float  # of the sphere of that volume
    volume_mm3: float  # of the segmentation's mask
    nodule_probability: float  # of both stages together
    segmentation_probability: float
    classifier_probability: float
    malignancy_probability: float | None  # see `Report.malignancy_is`; None: not judged


class Rejected(_Part):
    """A detection that is not reported, and why."""

    center_lps_mm: Point
    diameter_mm: float
    nodule_probability: float
    reason: str


class Model(_Part):
    """A network that took part."""

    stage: str
    card: ModelCard


class Settings(_Part):
    """What can be chosen, as it was."""

    finding_threshold: float  # nodule probability
    operating_point: OperatingPoint | None  # where it comes from; None: the classifier is not calibrated
    proposal_threshold: float
    mask_threshold: float
    max_candidates: int


class Report(_Part):
    """All that is known of one scan."""

    schema_version: str = SCHEMA_VERSION
    software: str = f"p2ch-luna {__version__}"
    statement: str = RESEARCH_ONLY
    malignancy_is: str = SUSPICION
    scan: Scan
    findings: tuple[Finding, ...]  # the most probable first
    rejected: tuple[Rejected, ...]  # likewise
    warnings: tuple[str, ...]
    models: tuple[Model, ...]
    settings: Settings
    timings_s: dict[str, float]

    @property
    def count(self) -> str:
        """How many findings, in words."""
        n = len(self.findings)
        return f"{n} finding" + ("s" if n != 1 else "")

    def to_json(self) -> str:
        """The text of `report.json`."""
        return self.model_dump_json(indent=2) + "\n"


def operating_point(models: Mapping[str, ModelCard], fp_per_scan: float | None) -> OperatingPoint | None:
    """The one of the classifier's card for so many false positives a scan, `FP_PER_SCAN` if None.

    None where that card has no calibration and none is asked for. Raises LunaError for one that is not there.
    """
    card = models.get(CLASSIFIER)
    if card is None or card.calibration is None:
        if fp_per_scan is None:
            return None
        raise LunaError(
            f"--operating-point {rate_text(fp_per_scan)}: the classifier's card has no calibration; wanted "
            "one that luna calibrate has found operating points for"
        )
    rate, points = FP_PER_SCAN if fp_per_scan is None else fp_per_scan, card.calibration.operating_points
    if found := [point for point in points if point.fp_per_scan == rate]:
        return found[0]
    there = ", ".join(rate_text(point.fp_per_scan) for point in points) or "none"
    if fp_per_scan is None:
        raise LunaError(
            f"the classifier's card has no operating point for {rate_text(rate)} FP/scan; wanted "
            f"--operating-point with one of {there}"
        )
    raise LunaError(
        f"--operating-point {rate_text(rate)}: not in the classifier's card; wanted one of {there}"
    )


def build_report(
    diagnosis: Diagnosis, ct: CtVolume, path: Path, point: OperatingPoint | None = None
) -> Report:
    """Report a diagnosis of the CT that was read from `path`.

    point: findings are the detections from its probability on; from `FINDING_THRESHOLD` on if None.
    """
    finding_threshold = FINDING_THRESHOLD if point is None else point.probability
    is_judged = all(d.malignancy_probability is not None for d in diagnosis.detections)
    found = [d for d in diagnosis.detections if d.probability >= finding_threshold]
    others = [d for d in diagnosis.detections if d.probability < finding_threshold]
    proposal = diagnosis.proposal
    return Report(
        scan=_scan(ct, path),
        findings=tuple(_finding(rank, d, ct) for rank, d in enumerate(found, start=1)),
        rejected=tuple(_rejected(d, finding_threshold, point) for d in others),
        warnings=(*diagnosis.warnings, *(() if is_judged else (NOT_JUDGED,))),
        models=tuple(Model(stage=stage, card=card) for stage, card in diagnosis.models.items()),
        settings=Settings(
            finding_threshold=finding_threshold,
            operating_point=point,
            proposal_threshold=proposal.threshold,
            mask_threshold=proposal.mask_threshold,
            max_candidates=proposal.max_candidates,
        ),
        timings_s={stage: round(seconds, 3) for stage, seconds in diagnosis.timings_s.items()},
    )


def _scan(ct: CtVolume, path: Path) -> Scan:
    n_slices, n_rows, n_cols = ct.hu.shape
    x_row, y_row, z_row = ct.geometry.direction
    return Scan(
        name=path.resolve().name,
        series_uid=ct.series_uid,
        shape_irc=(n_slices, n_rows, n_cols),
        spacing_xyz_mm=_point(ct.geometry.spacing_xyz),
        origin_xyz_mm=_point(ct.geometry.origin_xyz),
        direction=(_point(x_row), _point(y_row), _point(z_row)),
    )


def _finding(rank: int, detection: Detection, ct: CtVolume) -> Finding:
    voxel_irc = _point(ct.geometry.to_irc(detection.center_xyz))
    return Finding(
        id=f"F{rank}",
        rank=rank,
        center_lps_mm=detection.center_xyz,
        voxel_irc=voxel_irc,
        slice_index=round(voxel_irc[0]),
        diameter_mm=detection.diameter_mm,
        volume_mm3=detection.volume_mm3,
        nodule_probability=detection.probability,
        segmentation_probability=detection.segmentation_probability,
        classifier_probability=detection.classifier_probability,
        malignancy_probability=detection.malignancy_probability,
    )


def _rejected(detection: Detection, finding_threshold: float, point: OperatingPoint | None) -> Rejected:
    where = f", the operating point of {false_positives_text(point.fp_per_scan)}" if point else ""
    return Rejected(
        center_lps_mm=detection.center_xyz,
        diameter_mm=detection.diameter_mm,
        nodule_probability=detection.probability,
        reason=f"nodule probability is below {finding_threshold:g}{where}",
    )


def _point(values: NDArray[np.float64]) -> Point:
    a, b, c = values.tolist()
    return a, b, c
