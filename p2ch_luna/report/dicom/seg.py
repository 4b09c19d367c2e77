"""The findings as a DICOM segmentation: one segment a finding, on the grid of the source series."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from p2ch_luna import __version__
from p2ch_luna.report.dicom import codes as terms
from p2ch_luna.report.dicom.codes import code
from p2ch_luna.report.dicom.sources import DEVICE, MANUFACTURER, Sources, patient_kept_quiet, save
from p2ch_luna.report.schema import Finding, Report

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription

SERIES_NUMBER = 9001  # beyond those that scanners give
SERIES_DESCRIPTION = "Lung nodules, segmented (research use only)"


@dataclass(frozen=True)
class WrittenSeg:
    """A SEG that an SR can refer to; its segment numbers are the findings' labels."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str


def write_seg(path: Path, report: Report, labels: NDArray[np.uint8], sources: Sources) -> WrittenSeg | None:
    """Write a binary DICOM SEG; frames without a voxel are left out.

    labels: (D, H, W), `Finding.label` of each voxel, its slices in the order of `sources.images`.
    None, and no file, where no voxel has a label: DICOM knows no SEG without a frame.
    Apart from dates and times the same series and report give the same bytes.
    Raises LunaError where it cannot be written.
    """
    import highdicom as hd

    used = np.flatnonzero(labels.any(axis=(1, 2)))
    if not used.size:
        return None
    series_uid = sources.new_uid(report, "SEG series")
    with patient_kept_quiet():
        seg = hd.seg.Segmentation(
            source_images=[sources.images[k] for k in used],
            pixel_array=labels[used],
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_segment(finding) for finding in report.findings],
            series_instance_uid=series_uid,
            series_number=SERIES_NUMBER,
            series_description=SERIES_DESCRIPTION,
            sop_instance_uid=sources.new_uid(report, "SEG"),
            instance_number=1,
            content_label="LUNG_NODULES",
            content_description=report.statement,
            **DEVICE,
        )
        organization_uid = sources.new_uid(report, "SEG dimensions")  # highdicom's own is a random one
        seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization_uid
        for item in seg.DimensionIndexSequence:
            item.DimensionOrganizationUID = organization_uid
    save(path, seg, sources)
    return WrittenSeg(seg.SOPClassUID, seg.SOPInstanceUID, series_uid)


def _segment(finding: Finding) -> SegmentDescription:
    import highdicom as hd

    segment = hd.seg.SegmentDescription(
        segment_number=finding.label,
        segment_label=f"{finding.id} lung nodule",
        segmented_property_category=code(terms.ABNORMAL_STRUCTURE),
        segmented_property_type=code(terms.NODULE),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="p2ch-luna",
            family=code(terms.ARTIFICIAL_INTELLIGENCE),
            version=__version__,
            source=MANUFACTURER,
        ),
        tracking_id=finding.id,
        tracking_uid=finding.tracking_uid,
        anatomic_regions=[code(terms.LUNG)],
    )
    if finding.side is not None:
        region = segment.AnatomicRegionSequence[0]
        region.AnatomicRegionModifierSequence = [code(terms.SIDES[finding.side])]
    return segment
