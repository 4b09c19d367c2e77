"""`luna diagnose`: from a CT to its findings."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import (
    Stages,
    device_option,
    echo_json,
    json_option,
    output_option,
    pick_device,
    progress,
    threads_option,
    use_threads,
)
from p2ch_luna.report.rates import false_positives_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2ch_luna.inference import NoduleDetector
    from p2ch_luna.models.checkpoint import OperatingPoint
    from p2ch_luna.report.schema import Finding, Report

MAX_MARKS = 100  # of a scan: LUNA16's score looks at no more

weights_type = click.Path(path_type=Path)


@click.command()
@click.argument("scan", type=click.Path(path_type=Path))
@output_option(help="Folder for detections.csv, report.json, findings.png; made if it is not there.")
@click.option(
    "--segmentation",
    type=weights_type,
    help="What proposes: a model file or a run's folder; the bundled one if left out.",
)
@click.option("--classifier", type=weights_type, help="What judges, as above; the bundled one if left out.")
@click.option(
    "--malignancy",
    type=weights_type,
    help="What judges malignancy alone, as above; the bundled one if left out.",
)
@click.option(
    "--operating-point",
    "fp_per_scan",
    metavar="RATE",
    callback=lambda _context, _option, value: _rate(value),
    help="Findings are what brings so many false positives a scan, 1/8, 1/4, 1/2, 1, 2, 4 or 8, by the "
    "classifier's card; 1 if left out.",
)
@device_option
@threads_option
@json_option
def diagnose(
    scan: Path,
    output: Path,
    segmentation: Path | None,
    classifier: Path | None,
    malignancy: Path | None,
    fp_per_scan: float | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Find nodules in one CT: SCAN is a .mhd, .mha, NIfTI or NRRD file, or a folder of one DICOM series.

    detections.csv holds all scored places in LUNA16's submission columns, report.json the findings,
    findings.png a picture of the first 12. Suspicion is that of radiologists, not pathology.
    Positions are LPS mm. Research use only; not a medical device.
    """
    with progress() as stages:
        from p2ch_luna.inference import NoduleDetector
        from p2ch_luna.models.checkpoint import weights_at

        use_threads(threads)
        target = pick_device(device)
        proposer, judge, own = (path and weights_at(path) for path in (segmentation, classifier, malignancy))
        load = partial(NoduleDetector.load, proposer, judge, target, own)
        report = run_diagnosis(load, scan, output, stages, _point(judge, fp_per_scan))
    if as_json:
        echo_json(report.model_dump(mode="json"))
    else:
        click.echo(_as_text(report, output))


def _rate(text: str | None) -> float | None:
    """0.125 of "1/8" or "0.125"."""
    if text is None:
        return None
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is no number; wanted one such as 1/8 or 4") from error


def _point(classifier: Path | None, fp_per_scan: float | None) -> OperatingPoint | None:
    """What `report.schema.operating_point` finds in the card of a classifier, with the same errors."""
    from p2ch_luna.inference.detector import CLASSIFIER
    from p2ch_luna.models.checkpoint import bundled, load_card
    from p2ch_luna.report.schema import operating_point

    return operating_point({CLASSIFIER: load_card(classifier or bundled("nodule"))}, fp_per_scan)


def run_diagnosis(
    load: Callable[[], NoduleDetector],
    scan: Path,
    output: Path,
    stages: Stages,
    point: OperatingPoint | None,
) -> Report:
    """Read, diagnose and write the files.

    point: from where on there are findings, as `report.schema.build_report` takes it.
    Raises LunaError for a scan that cannot be read, then for files that cannot be written, and only then
    does `load` read the weights.
    """
    import time
    from dataclasses import replace

    from p2ch_luna.files import replacing
    from p2ch_luna.io import read_ct, write_detections
    from p2ch_luna.report.images import write_montage
    from p2ch_luna.report.schema import build_report

    stages.stage("reading")
    start = time.perf_counter()
    ct = read_ct(scan)
    reading = time.perf_counter() - start
    with (
        replacing(output / "detections.csv") as table,
        replacing(output / "findings.png") as picture,
        replacing(output / "report.json") as text,
    ):
        stages.stage("networks")
        diagnosis = load()(ct, stages)
        diagnosis = replace(diagnosis, timings_s={"reading": reading, **diagnosis.timings_s})
        report = build_report(diagnosis, ct, scan, point)
        write_detections(table, diagnosis.detections[:MAX_MARKS])
        text.write_text(report.to_json(), encoding="utf-8")
        stages.stage("pictures")
        write_montage(picture, ct, report)
    return report


def _as_text(report: Report, output: Path) -> str:
    """The findings as a table for a person."""
    lines = [f"{report.scan.name}: {report.count}, {len(report.rejected)} places rejected"]
    if report.findings:
        lines.append("  rank  probability   suspicion  diameter mm    x (L)    y (P)    z (S)  slice")
    for finding in report.findings:
        x, y, z = finding.center_lps_mm
        lines.append(
            f"{finding.rank:6d}{finding.nodule_probability:13.2g}{_suspicion(finding):>12}"
            f"{finding.diameter_mm:13.1f}{x:9.1f}{y:9.1f}{z:9.1f}{finding.slice_index:7d}"
        )
    lines.append(_threshold(report))
    if any(finding.malignancy_probability is not None for finding in report.findings):
        lines.append(f"suspicion of malignancy: {report.malignancy_is}")
    lines += [f"warning: {warning}" for warning in report.warnings]
    seconds = sum(report.timings_s.values())
    lines.append(f"{seconds:.1f} s; written: {output}/detections.csv, report.json, findings.png")
    lines.append(report.statement)
    return "\n".join(lines)


def _suspicion(finding: Finding) -> str:
    said = finding.malignancy_probability
    return "not judged" if said is None else f"{said:.2f}"


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
    calibrations = (model.card.calibration for model in report.models)
    hosts = max((calibration.hosts for calibration in calibrations if calibration), default=0)
    return f", in {hosts} chest" + ("s" if hosts > 1 else "") if hosts else ""
