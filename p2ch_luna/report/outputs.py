"""The folder of results: which files there are, and who writes each."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.files import unfinished
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.inference.detector import Clock, Diagnosis
from p2ch_luna.inference.lung_picture import lung_picture
from p2ch_luna.io import write_ct, write_detections, write_mask
from p2ch_luna.io.names import LABELS_NAME, LUNGS_NAME, SEGMENTATION_NAME, STRUCTURED_REPORT_NAME
from p2ch_luna.io.opened import OpenedScan
from p2ch_luna.report.build import finding_id
from p2ch_luna.report.dicom.sources import read_sources
from p2ch_luna.report.key_images import key_image_name, write_key_images
from p2ch_luna.report.schema import PLANES, Report

REPORT, DETECTIONS, LABELS, LUNGS = "report.json", "detections.csv", LABELS_NAME, LUNGS_NAME
MONTAGE, PAGE = "findings.png", "report.html"
SEGMENTATION, STRUCTURED_REPORT = SEGMENTATION_NAME, STRUCTURED_REPORT_NAME
MAX_MARKS = 100  # of a scan: LUNA16's score looks at no more
_FIXED = (DETECTIONS, LABELS, LUNGS, SEGMENTATION, STRUCTURED_REPORT, MONTAGE, PAGE)
_KEY_IMAGE = re.compile(r"F\d+-(axial|coronal|sagittal)\.png")
_FILES_OF_SCHEMA_2 = (DETECTIONS, MONTAGE)  # whose reports did not name them
_REFUSALS = (AttributeError, LookupError, TypeError, ValueError)  # of highdicom, for odd headers


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


def check_folder(folder: Path) -> list[str]:
    """The files of an earlier diagnosis in a folder of results, which a new one may replace or remove.

    Raises LunaError where a file that a diagnosis writes is there and is not of one: it would be lost.
    """
    earlier = _files_of_report(folder / REPORT)
    if unfinished(folder):  # one that was killed while it moved its files in
        return sorted({*earlier, *_FIXED})
    for name in _FIXED:
        if name not in earlier and (folder / name).exists():
            raise LunaError(f"{folder / name}: not of a diagnosis written here; wanted another folder")
    return earlier


def _files_of_report(path: Path) -> list[str]:
    """Those that an earlier report names, of the kinds that a diagnosis writes; none without a report."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        is_ours = str(content["software"]).startswith("p2ch-luna") and "schema_version" in content
        named = [str(name) for name in content.get("files", _FILES_OF_SCHEMA_2)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        is_ours, named = False, []
    if not is_ours:
        raise LunaError(f"{path}: not of luna diagnose; wanted another folder")
    return [name for name in named if name in _FIXED or _KEY_IMAGE.fullmatch(name)]


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
    picture = lung_picture(prepared) if prepared and LUNGS in results.report.files else None
    if picture:
        write_ct(folder / LUNGS, picture)


def _with_dicom(folder: Path, results: Results) -> Results:
    """Write SEG and SR; a warning takes their place where the source's headers do not allow them."""
    from p2ch_luna.report.dicom.seg import write_seg
    from p2ch_luna.report.dicom.sr import write_sr

    try:
        sources = read_sources(results.scan.dicom_files)
    except LunaError as error:
        reason = str(error)
        for path in results.scan.dicom_files:  # where a zip was unpacked to is nobody's concern
            reason = reason.replace(str(path), path.name)
        return _without_dicom(folder, results, reason)
    except _REFUSALS as error:  # what they quote may say who the patient is
        return _without_dicom(folder, results, type(error).__name__)
    try:
        segmentation = write_seg(folder / SEGMENTATION, results.report, results.labels, sources)
        write_sr(folder / STRUCTURED_REPORT, results.report, sources, segmentation)
    except _REFUSALS as error:
        return _without_dicom(folder, results, type(error).__name__)
    return results


def _without_dicom(folder: Path, results: Results, reason: str) -> Results:
    for name in (SEGMENTATION, STRUCTURED_REPORT):
        (folder / name).unlink(missing_ok=True)
    report = results.report
    files = tuple(name for name in report.files if name not in (SEGMENTATION, STRUCTURED_REPORT))
    warning = f"no DICOM SEG and SR: the source does not allow them: {reason}"
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
