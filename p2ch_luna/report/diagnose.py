"""A diagnosis from the scan on disk to its report and the folder of results."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from p2ch_luna.errors import LunaError
from p2ch_luna.files import publishing
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.inference.detector import Clock, Progress, Silent
from p2ch_luna.io.opened import OpenedScan, open_scan
from p2ch_luna.models.checkpoint import OperatingPoint
from p2ch_luna.report.build import build_report, measure_findings, paint_labels
from p2ch_luna.report.outputs import REPORT, Results, Wanted, check_folder, file_names, write_outputs
from p2ch_luna.report.schema import Report
from p2ch_luna.report.threshold import operating_point

EVERYTHING = Wanted()


def diagnose(
    scan: Path | str,
    output: Path | str | None = None,
    *,
    detector: NoduleDetector | None = None,
    series_uid: str | None = None,
    fp_per_scan: float | None = None,
    wanted: Wanted = EVERYTHING,
    progress: Progress | None = None,
) -> Report:
    """Find and measure the nodules of one CT.

    scan: a .mhd, .mha, NIfTI or NRRD file, a folder of DICOM, or a zip of either.
    output: a folder for the report, page, masks, pictures and DICOM objects; None: nothing is written.
    detector: `NoduleDetector.load()` if None, on the CPU; load one yourself for many scans or another device.
    series_uid: of the DICOM series to read; the best axial CT if None.
    fp_per_scan: the operating point from which on there are findings, as in the classifier's card; 1 if None.
    Positions are LPS mm. Raises LunaError for a scan that cannot be searched or files that cannot be written.
    """
    detector = detector or NoduleDetector.load()
    return run(
        lambda: detector,
        Path(scan),
        None if output is None else Path(output),
        series_uid=series_uid,
        point=operating_point(detector.models, fp_per_scan),
        wanted=wanted,
        progress=progress,
    )


def run(
    load: Callable[[], NoduleDetector],
    scan: Path,
    output: Path | None,
    *,
    name: str | None = None,
    series_uid: str | None = None,
    point: OperatingPoint | None = None,
    wanted: Wanted = EVERYTHING,
    progress: Progress | None = None,
) -> Report:
    """Read, diagnose, measure and write, as `diagnose` does.

    name: what the results call the scan; as its file is called if None.
    point: from where on there are findings; `threshold.FINDING_THRESHOLD` if None.
    Raises LunaError for a scan that cannot be read, then for files that cannot be written, and only then
    does `load` read the weights.
    """
    progress = progress or Silent()
    clock = Clock(progress)
    with ExitStack() as stack:
        with clock.stage("reading"):
            opened = stack.enter_context(open_scan(scan, series_uid))
            opened = replace(opened, name=name or opened.name)
        if series_uid and not opened.series:
            raise LunaError(f"{scan}: a volume file has no series; wanted DICOM with {series_uid}")
        folder = None
        if output is not None:
            folder = stack.enter_context(publishing(output, REPORT, check_folder(output)))
        with clock.stage("networks"):
            detector = load()
        return _diagnose(detector, opened, folder, point, wanted, clock, progress)


def _diagnose(
    detector: NoduleDetector,
    opened: OpenedScan,
    folder: Path | None,
    point: OperatingPoint | None,
    wanted: Wanted,
    clock: Clock,
    progress: Progress,
) -> Report:
    """Search, measure and report; into `folder` if there is one."""
    diagnosis = detector(opened.ct, progress)
    clock.seconds |= diagnosis.timings_s
    with clock.stage("measuring"):
        found = measure_findings(diagnosis, opened.ct, point)
        names = [] if folder is None else file_names(opened, diagnosis, len(found), wanted)
        report = build_report(diagnosis, opened, found, point, names)
    report = _timed(report, clock)  # the page tells of the stages that were before it
    if folder is None:
        return report
    labels = paint_labels(opened.ct.hu.shape, found)
    report = _timed(write_outputs(folder, Results(opened, diagnosis, report, labels), clock), clock)
    (folder / REPORT).write_text(report.to_json(), encoding="utf-8")
    return report


def _timed(report: Report, clock: Clock) -> Report:
    return report.model_copy(update={"timings_s": {k: round(v, 3) for k, v in clock.seconds.items()}})
