"""A report as a person reads it in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from p2ch_luna.report.rates import false_positives_text

if TYPE_CHECKING:
    from p2ch_luna.report.schema import Finding, Report

_HEAD = (
    f"{'id':>4}{'slice':>7}  {'where':<14}{'mean mm':>7}{'across':>13}{'mm3':>8}  {'texture':<13}"
    f"{'probability':>11}{'suspicion':>12}{'by size':>9}  Lung-RADS"
)


def as_text(report: Report, output: Path | None) -> str:
    """The findings as a table, then what one must know of them.

    output: of the results; None if they are not kept.
    """
    lines = [f"{report.scan.name}: {report.count}, {len(report.rejected)} places rejected"]
    lines += [f"series: {series.remark}" for series in report.scan.series[:1]]
    if report.findings:
        lines += [_HEAD, *map(_row, report.findings)]
    if report.is_searched:
        lines.append(_threshold(report))
    if any(finding.malignancy_probability is not None for finding in report.findings):
        lines.append(f"suspicion of malignancy: {report.malignancy_is}; by size: by the diameter alone")
    lines += [f"warning: {warning}" for warning in report.warnings]
    seconds = f"{sum(report.timings_s.values()):.1f} s"
    lines += [seconds] if output is None else _written(report, output, seconds)
    lines.append(report.statement)
    return "\n".join(lines)


def _row(finding: Finding) -> str:
    where = " ".join(part for part in (finding.side, finding.third) if part) or "-"
    size = f"{finding.longest_mm:.1f} x {finding.perpendicular_mm:.1f}"
    said = finding.malignancy_probability
    suspicion = "not judged" if said is None else f"{said:.2f}"
    cut_off = "  cut off by the end of the scan" if finding.is_cut_off else ""
    return (
        f"{finding.id:>4}{finding.slice_number:>7}  {where:<14}{finding.mean_diameter_mm:>7.1f}{size:>13}"
        f"{finding.volume_mm3:>8.0f}  "
        f"{finding.texture:<13}{finding.nodule_probability:>11.2g}{suspicion:>12}"
        f"{finding.malignancy_by_diameter:>9.2f}  {finding.lung_rads}{cut_off}"
    )


def _threshold(report: Report) -> str:
    """From which probability on there are findings, and why."""
    point = report.settings.operating_point
    told = f"findings: from probability {report.settings.finding_threshold:.3g} on"
    if point is None:
        return f"{told}; the classifier is not calibrated"
    return (
        f"{told}, which brought {false_positives_text(point.fp_per_scan)} and found "
        f"{point.sensitivity:.0%} where it was calibrated{_chests(report)}"
    )


def _chests(report: Report) -> str:
    """In how many chests it was calibrated, where its card says so."""
    calibrations = (model.calibration for model in report.models)
    hosts = max((calibration.hosts for calibration in calibrations if calibration), default=0)
    return f", in {hosts} chest" + ("s" if hosts > 1 else "") if hosts else ""


def _written(report: Report, output: Path, seconds: str) -> list[str]:
    """Where to look first, and what else was written."""
    from p2ch_luna.report.outputs import PAGE, REPORT, STRUCTURED_REPORT, can_write_dicom

    pictures = {name for finding in report.findings for name in finding.images.values()}
    others = [name for name in (REPORT, *report.files) if name not in pictures and name != PAGE]
    more = f", {len(pictures)} key images" if pictures else ""
    lines = [f"{seconds}; written: {output}/{', '.join(others)}{more}"]
    if PAGE in report.files:
        lines.append(f"look at: {output / PAGE}")
    if report.scan.format == "dicom" and STRUCTURED_REPORT not in report.files and not can_write_dicom():
        lines.append('for DICOM SEG and SR beside it: pip install "p2ch-luna[dicom]"')
    return lines
