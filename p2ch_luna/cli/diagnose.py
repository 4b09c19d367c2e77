"""`luna diagnose`: from a CT to its findings."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2ch_luna.inference import NoduleDetector
    from p2ch_luna.report.schema import Report

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
    help="What judges malignancy alone, as above; the classifier itself if left out.",
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
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Find nodules in one CT: SCAN is a .mhd, .mha, NIfTI or NRRD file, or a folder of one DICOM series.

    detections.csv holds all scored places in LUNA16's submission columns, report.json the findings,
    findings.png a picture of the first 12.
    Positions are LPS mm. Research use only; not a medical device.
    """
    with progress() as stages:
        from p2ch_luna.inference import NoduleDetector
        from p2ch_luna.models.checkpoint import weights_at

        use_threads(threads)
        target = pick_device(device)
        proposer, judge, own = (path and weights_at(path) for path in (segmentation, classifier, malignancy))
        load = partial(NoduleDetector.load, proposer, judge, target, own)
        report = run_diagnosis(load, scan, output, stages)
    if as_json:
        echo_json(report.model_dump(mode="json"))
    else:
        click.echo(_as_text(report, output))


def run_diagnosis(load: Callable[[], NoduleDetector], scan: Path, output: Path, stages: Stages) -> Report:
    """Read, diagnose and write the files.

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
        report = build_report(diagnosis, ct, scan)
        write_detections(table, diagnosis.detections[:MAX_MARKS])
        text.write_text(report.to_json(), encoding="utf-8")
        stages.stage("pictures")
        write_montage(picture, ct, report)
    return report


def _as_text(report: Report, output: Path) -> str:
    """The findings as a table for a person."""
    lines = [f"{report.scan.name}: {len(report.findings)} findings, {len(report.rejected)} places rejected"]
    if report.findings:
        lines.append("  rank  probability  malignancy  diameter mm    x (L)    y (P)    z (S)  slice")
    for finding in report.findings:
        x, y, z = finding.center_lps_mm
        lines.append(
            f"{finding.rank:6d}{finding.nodule_probability:13.2f}{finding.malignancy_probability:12.2f}"
            f"{finding.diameter_mm:13.1f}{x:9.1f}{y:9.1f}{z:9.1f}{finding.slice_index:7d}"
        )
    lines += [f"warning: {warning}" for warning in report.warnings]
    seconds = sum(report.timings_s.values())
    lines.append(f"{seconds:.1f} s; written: {output}/detections.csv, report.json, findings.png")
    lines.append(report.statement)
    return "\n".join(lines)
