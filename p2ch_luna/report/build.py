"""From a diagnosis to its report: findings named, measured and ranked, the rest rejected with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.findings import Detection, Point
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference.detector import Diagnosis
from p2ch_luna.inference.lung_rads import lung_rads
from p2ch_luna.inference.malignancy_by_diameter import malignancy_by_diameter
from p2ch_luna.inference.measure import Measurement, measure
from p2ch_luna.inference.propose import OUTLINE_SHARE, Dropped
from p2ch_luna.io.dicom import derived_uid
from p2ch_luna.io.opened import OpenedScan
from p2ch_luna.models.checkpoint import ModelCard, OperatingPoint
from p2ch_luna.report.key_images import key_image_name
from p2ch_luna.report.rates import false_positives_text
from p2ch_luna.report.schema import PLANES, Finding, Model, Plane, Rejected, Report, Scan, Series, Settings
from p2ch_luna.report.threshold import finding_threshold

NOT_JUDGED = (
    "malignancy is not judged: the classifier was trained with loss.malignancy = 0; wanted a network for it, "
    "as --malignancy names one"
)


@dataclass(frozen=True, eq=False)
class Measured:
    """A detection that is a finding, and its measures."""

    detection: Detection
    measurement: Measurement


def measure_findings(diagnosis: Diagnosis, ct: CtVolume, point: OperatingPoint | None) -> list[Measured]:
    """The detections from the operating point on, the most probable first, measured in their CT.

    No voxel counts twice: one that two claim is of the first.
    """
    found: list[Measured] = []
    taken = np.zeros(ct.hu.shape, bool)
    for detection, region in zip(diagnosis.detections, diagnosis.regions, strict=True):
        if detection.probability >= finding_threshold(point):
            measurement = measure(ct, region, diagnosis.lungs, taken)
            taken[measurement.box] |= measurement.mask
            found.append(Measured(detection, measurement))
    return found


def paint_labels(shape: tuple[int, ...], found: Sequence[Measured]) -> NDArray[np.uint8]:
    """(D, H, W) on the grid of the CT: voxels of finding k, from 1, are k, as many as were measured."""
    labels = np.zeros(shape, np.uint8)
    for label, finding in enumerate(found, start=1):
        labels[finding.measurement.box][finding.measurement.mask] = label
    return labels


def build_report(
    diagnosis: Diagnosis,
    scan: OpenedScan,
    found: Sequence[Measured],
    point: OperatingPoint | None = None,
    files: Sequence[str] = (),
) -> Report:
    """Report a diagnosis of `scan`.

    found: what `measure_findings` gave for the same `point`.    files: that are written beside the report.
    """
    threshold, proposal = finding_threshold(point), diagnosis.proposal
    is_judged = all(d.malignancy_probability is not None for d in diagnosis.detections)
    others = [d for d in diagnosis.detections if d.probability < threshold]
    return Report(
        scan=_scan(scan),
        is_searched=diagnosis.prepared is not None,
        findings=tuple(_finding(rank, f, scan, files) for rank, f in enumerate(found, start=1)),
        rejected=(
            *(_rejected(d, threshold, point) for d in others),
            *(_not_judged(d) for d in diagnosis.dropped),
        ),
        warnings=(*scan.warnings, *diagnosis.warnings, *(() if is_judged else (NOT_JUDGED,))),
        models=tuple(model_of(stage, card) for stage, card in diagnosis.models.items()),
        settings=Settings(
            finding_threshold=threshold,
            operating_point=point,
            proposal_threshold=proposal.threshold,
            mask_threshold=proposal.mask_threshold,
            outline_share=OUTLINE_SHARE,
            max_candidates=proposal.max_candidates,
        ),
        files=tuple(files),
        timings_s={stage: round(seconds, 3) for stage, seconds in diagnosis.timings_s.items()},
    )


def model_of(stage: str, card: ModelCard) -> Model:
    """What a report says of a network; all of its card would be most of the report."""
    return Model(
        stage=stage,
        builder=card.builder,
        weights_sha256=card.weights_sha256,
        software=card.software,
        intended_use=card.intended_use,
        data=tuple(card.data),
        calibration=card.calibration,
    )


def finding_id(rank: int) -> str:
    """What a finding is called."""
    return f"F{rank}"


def _scan(scan: OpenedScan) -> Scan:
    ct = scan.ct
    n_slices, n_rows, n_cols = ct.hu.shape
    x_row, y_row, z_row = ct.geometry.direction
    return Scan(
        name=scan.name,
        format=scan.format,
        series_uid=ct.series_uid,
        series=tuple(Series(**vars(series)) for series in scan.series),
        shape_irc=(n_slices, n_rows, n_cols),
        spacing_xyz_mm=_point(ct.geometry.spacing_xyz),
        origin_xyz_mm=_point(ct.geometry.origin_xyz),
        direction=(_point(x_row), _point(y_row), _point(z_row)),
    )


def _finding(rank: int, found: Measured, scan: OpenedScan, files: Sequence[str]) -> Finding:
    detection, size = found.detection, found.measurement
    voxel_irc = _point(scan.ct.geometry.to_irc(detection.center_xyz))
    slice_index = min(max(round(voxel_irc[0]), 0), len(scan.slice_numbers) - 1)
    images: dict[Plane, str] = {plane: key_image_name(finding_id(rank), plane) for plane in PLANES}
    return Finding(
        id=finding_id(rank),
        rank=rank,
        center_lps_mm=detection.center_xyz,
        voxel_irc=voxel_irc,
        slice_index=slice_index,
        slice_number=scan.slice_numbers[slice_index],
        label=rank,
        tracking_uid=_tracking_uid(scan.ct.series_uid, detection.center_xyz),
        side=size.side,
        third=size.third,
        is_cut_off=size.is_cut_off,
        pleura_mm=size.pleura_mm,
        longest_mm=size.longest_mm,
        perpendicular_mm=size.perpendicular_mm,
        mean_diameter_mm=size.mean_diameter_mm,
        longest_lps_mm=size.longest_lps_mm,
        perpendicular_lps_mm=size.perpendicular_lps_mm,
        diameter_mm=size.diameter_mm,
        volume_mm3=size.volume_mm3,
        mean_hu=size.mean_hu,
        texture=size.texture,
        solid_mm=size.solid_mm,
        lung_rads=lung_rads(size.texture, size.mean_diameter_mm, size.solid_mm),
        nodule_probability=detection.probability,
        segmentation_probability=detection.segmentation_probability,
        classifier_probability=detection.classifier_probability,
        malignancy_probability=detection.malignancy_probability,
        malignancy_by_diameter=malignancy_by_diameter(size.diameter_mm),
        images={plane: name for plane, name in images.items() if name in files},
    )


def _tracking_uid(series_uid: str, center_xyz: Point) -> str:
    """By place, not by rank: another network may rank other findings there."""
    x, y, z = center_xyz
    return derived_uid(series_uid, f"finding at {x:.1f} {y:.1f} {z:.1f}")


def _rejected(detection: Detection, threshold: float, point: OperatingPoint | None) -> Rejected:
    where = f", the operating point of {false_positives_text(point.fp_per_scan)}" if point else ""
    return Rejected(
        center_lps_mm=detection.center_xyz,
        diameter_mm=detection.diameter_mm,
        nodule_probability=detection.probability,
        segmentation_probability=detection.segmentation_probability,
        reason=f"nodule probability is below {threshold:g}{where}",
    )


def _not_judged(dropped: Dropped) -> Rejected:
    candidate, reason = dropped
    return Rejected(
        center_lps_mm=candidate.center_xyz,
        diameter_mm=candidate.diameter_mm,
        nodule_probability=None,
        segmentation_probability=candidate.probability,
        reason=reason,
    )


def _point(values: NDArray[np.float64]) -> Point:
    a, b, c = values.tolist()
    return a, b, c
