"""The folder of results: which files there are, and who writes each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.inference.detector import Clock, Diagnosis
from p2ch_luna.inference.lung_picture import lung_picture
from p2ch_luna.io import write_ct, write_detections, write_mask
from p2ch_luna.io.opened import OpenedScan
from p2ch_luna.report.build import PLANES, finding_id
from p2ch_luna.report.dicom.sources import read_sources
from p2ch_luna.report.key_images import key_image_name, write_key_images
from p2ch_luna.report.schema import Report

REPORT, DETECTIONS, LABELS, LUNGS = "report.json", "detections.csv", "nodules.nii.gz", "lungs.nii.gz"
MONTAGE, PAGE = "findings.png", "report.html"
SEGMENTATION, STRUCTURED_REPORT = "nodules.seg.dcm", "nodules.sr.dcm"
MAX_MARKS = 100  # of a scan: LUNA16's score looks at no more
_REFUSALS = (LunaError, AttributeError, LookupError, TypeError, ValueError)  # of highdicom, for odd headers


@dataclass(frozen=True)
class Wanted:
    """Which files are written beside the report, the detections and the labels."""

    page: bool = True  # report.html and the pictures
    dicom: bool = True  # SEG and SR, where the scan is DICOM and highdicom is installed


@dataclass(frozen=True, eq=False)
class Results:
    """What there is to write of one scan."""

    scan: OpenedScan
    diagnosis: Diagnosis
    report: Report
    labels: NDArray[np.uint8]  # (D, H, W) on the scan's grid


def file_names(scan: OpenedScan, diagnosis: Diagnosis, n_findings: int, wanted: Wanted) -> list[str]:
    """The files that `write_outputs` writes beside the report."""
    names = [DETECTIONS, LABELS]
    if diagnosis.lungs is not None:
        names.append(LUNGS)
    if wanted.dicom and scan.dicom_files and can_write_dicom():
        names += [SEGMENTATION, STRUCTURED_REPORT] if n_findings else [STRUCTURED_REPORT]
    if wanted.page:
        ids = [finding_id(rank) for rank in range(1, n_findings + 1)]
        names += [key_image_name(own, plane) for own in ids for plane in PLANES]
        names += [MONTAGE, PAGE]
    return names


def can_write_dicom() -> bool:
    """Whether the packages of the extra `dicom` are installed."""
    return find_spec("highdicom") is not None


def write_outputs(folder: Path, results: Results, clock: Clock) -> Report:
    """Write what `results.report.files` names into an empty folder; the report itself is not among them.

    It is returned as it is by then: where the source does not allow DICOM objects it says so, and that alone
    is left out.
    """
    names = set(results.report.files)
    with clock.stage("files"):
        _write_files(folder, results)
    if STRUCTURED_REPORT in names:
        with clock.stage("DICOM"):
            results = _with_dicom(folder, results)
    if MONTAGE in names:
        with clock.stage("pictures"):
            _write_pictures(folder, results)
    if PAGE in names:
        from p2ch_luna.report.html.page import write_html

        with clock.stage("page"):
            scan = results.scan
            write_html(folder / PAGE, results.report, scan.ct, results.labels, folder, scan.slice_numbers)
    return results.report


def _write_files(folder: Path, results: Results) -> None:
    write_detections(folder / DETECTIONS, results.diagnosis.detections[:MAX_MARKS])
    labels, geometry = as_in_file(results.labels, results.scan)
    write_mask(folder / LABELS, labels, geometry)
    prepared = results.diagnosis.prepared
    picture = prepared and lung_picture(prepared)
    if picture:
        write_ct(folder / LUNGS, picture)


def _with_dicom(folder: Path, results: Results) -> Results:
    """Write SEG and SR; a warning takes their place where the source's headers do not allow them."""
    from p2ch_luna.report.dicom.seg import write_seg
    from p2ch_luna.report.dicom.sr import write_sr

    try:
        sources = read_sources(results.scan.dicom_files)
        segmentation = write_seg(folder / SEGMENTATION, results.report, results.labels, sources)
        write_sr(folder / STRUCTURED_REPORT, results.report, sources, segmentation)
    except _REFUSALS as error:
        # What highdicom quotes may say who the patient is.
        reason = str(error) if isinstance(error, LunaError) else type(error).__name__
        return _without_dicom(
            folder, results, f"no DICOM SEG and SR: the source does not allow them: {reason}"
        )
    return results


def _without_dicom(folder: Path, results: Results, warning: str) -> Results:
    for name in (SEGMENTATION, STRUCTURED_REPORT):
        (folder / name).unlink(missing_ok=True)
    report = results.report
    files = tuple(name for name in report.files if name not in (SEGMENTATION, STRUCTURED_REPORT))
    told = report.model_copy(update={"files": files, "warnings": (*report.warnings, warning)})
    return replace(results, report=told)


def _write_pictures(folder: Path, results: Results) -> None:
    from p2ch_luna.report.images import write_montage

    write_key_images(folder, results.scan.ct, results.report.findings, results.labels)
    write_montage(folder / MONTAGE, results.report, folder)


def as_in_file(labels: NDArray[np.uint8], scan: OpenedScan) -> tuple[NDArray[np.uint8], ImageGeometry]:
    """Labels (D, H, W) and geometry in the order of the scan's file: voxel for voxel the same array."""
    geometry = scan.ct.geometry
    if not scan.is_reversed:
        return labels, geometry
    origin_xyz = geometry.to_xyz([len(labels) - 1, 0, 0])
    return labels[::-1], replace(geometry, origin_xyz=origin_xyz, direction=geometry.direction * [1, 1, -1])
