"""`luna diagnose`: from a CT to its findings."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from p2ch_luna.cli._common import (
    device_option,
    echo_json,
    json_option,
    operating_point_option,
    output_option,
    pick_device,
    progress,
    runtime_option,
    threads_option,
    use_threads,
)
from p2ch_luna.cli._many import diagnose_all, scans_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from p2ch_luna.inference import NoduleDetector
    from p2ch_luna.inference.runtime import Runtime
    from p2ch_luna.io.find_scans import FoundScan
    from p2ch_luna.models.checkpoint import OperatingPoint
    from p2ch_luna.report.many.run import EngineName
    from p2ch_luna.report.outputs import Wanted

weights_type = click.Path(path_type=Path)


class _Options(TypedDict):
    """What the command takes beside the scan and the output."""

    series_uid: str | None
    no_html: bool
    segmentation: Path | None
    classifier: Path | None
    malignancy: Path | None
    fp_per_scan: float | None
    search_anyway: bool
    workers: int | None
    engine: EngineName
    again: bool
    runtime: Runtime
    device: str
    threads: int | None
    as_json: bool


@click.command()
@click.argument("scan", type=click.Path(path_type=Path))
@output_option(help="Folder for the report and all that belongs to it; made if it is not there.")
@click.option("--series", "series_uid", metavar="UID", help="The DICOM series to read; luna info lists them.")
@click.option("--no-html", is_flag=True, help="Neither report.html nor pictures.")
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
@operating_point_option
@click.option("--search-anyway", is_flag=True, help="Search also where no lungs are found: the whole body.")
@click.option(
    "--workers", type=click.IntRange(1), help="Processes for a folder of scans; what fits here if left out."
)
@click.option(
    "--engine",
    type=click.Choice(["plain", "ray"]),
    default="plain",
    show_default=True,
    help="What shares out many scans: processes here, or a Ray cluster (the dist extra; RAY_ADDRESS).",
)
@click.option("--again", is_flag=True, help="Diagnose also scans that are done already.")
@runtime_option
@device_option
@threads_option
@json_option
def diagnose(scan: Path, output: Path, **options: Unpack[_Options]) -> int:
    """Find and measure nodules in a CT, or in each CT of a folder.

    SCAN is a .mhd, .mha, NIfTI or NRRD file, a folder of DICOM, a zip of either, or a folder of scans. OUTPUT
    gets report.html to look at (offline, in any browser), report.json, detections.csv in LUNA16's columns,
    nodules.nii.gz, key images; of DICOM also SEG and SR. Many scans get a folder each, and summary.csv; run
    again it goes on where it was stopped. Suspicion is that of radiologists, not pathology. Positions are LPS
    mm. Research use only; not a medical device.

    \b
    luna diagnose CT.mha -o out
    luna diagnose dicom-folder -o out --operating-point 1/4
    luna diagnose study.zip -o out --series 1.2.840.113619.2.55.3
    luna diagnose folder-of-scans -o out --workers 2
    """
    from p2ch_luna.io.find_scans import FoundScan, on_disk

    use_threads(options["threads"])
    device = pick_device(options["device"])
    load, weights = _networks(options, device)
    point = _point(weights[1], options["fp_per_scan"])  # told before anything is read
    scans = scans_in(scan, output)
    if options["series_uid"]:  # it may be any one's
        return _diagnose_one(load, scan, output, point, options)
    is_job = scan.is_dir() and (options["workers"] is not None or options["engine"] != "plain")
    if len(scans) > 1 or (
        scans and is_job
    ):  # a part of a large job may hold one scan, and has its summary.csv
        return _diagnose_many(load, weights, device, scans, output, options)
    one = scans[0] if scans else FoundScan(scan.name, scan)  # where there is none, reading it says why
    with on_disk(one) as path:
        return _diagnose_one(load, path, output, point, options)


def _networks(
    options: _Options, device: torch.device
) -> tuple[Callable[[], NoduleDetector], tuple[Path, ...]]:
    """What reads the weights, and their files. Raises LunaError where one is not there."""
    from p2ch_luna.inference.runtime import check_runtime
    from p2ch_luna.models.checkpoint import bundled, weights_at

    runtime = options["runtime"]
    check_runtime(runtime, device)
    segmentation, classifier, malignancy = (
        weights_at(own).absolute() if own else bundled(name)
        for own, name in (
            (options["segmentation"], "segmentation"),
            (options["classifier"], "nodule"),
            (options["malignancy"], "malignancy"),
        )
    )
    files = (segmentation, classifier, malignancy)
    return partial(_load, files, device.type, runtime, options["search_anyway"]), files


def _load(files: tuple[Path, ...], device: str, runtime: Runtime, search_anyway: bool) -> NoduleDetector:
    """In a process of its own too."""
    from dataclasses import replace

    from p2ch_luna.inference import NoduleDetector

    segmentation, classifier, malignancy = files
    detector = NoduleDetector.load(segmentation, classifier, device, malignancy, runtime=runtime)
    return replace(detector, search_without_lungs=True) if search_anyway else detector


def _wanted(options: _Options) -> Wanted:
    from p2ch_luna.report.outputs import Wanted

    return Wanted(page=not options["no_html"])


def _diagnose_one(
    load: Callable[[], NoduleDetector],
    scan: Path,
    output: Path,
    point: OperatingPoint | None,
    options: _Options,
) -> int:
    from p2ch_luna.cli._findings import as_text
    from p2ch_luna.report.diagnose import run

    wanted, series_uid = _wanted(options), options["series_uid"]
    with progress() as stages:
        report = run(load, scan, output, series_uid=series_uid, point=point, wanted=wanted, progress=stages)
    if options["as_json"]:
        echo_json(report.model_dump(mode="json"))
    else:
        click.echo(as_text(report, output))
    return 0


def _diagnose_many(
    load: Callable[[], NoduleDetector],
    weights: tuple[Path, ...],
    device: torch.device,
    scans: Sequence[FoundScan],
    output: Path,
    options: _Options,
) -> int:
    from p2ch_luna.report.many.job import DetectorJob

    read = tuple(path for path in weights if path.is_file())  # a network of malignancy need not be bundled
    settings = f"{options['runtime']} {options['search_anyway']}"
    job = DetectorJob(load, read, settings, options["fp_per_scan"], _wanted(options), device.type)
    return diagnose_all(
        scans,
        output,
        job,
        engine=options["engine"],
        workers=options["workers"],
        threads=options["threads"],
        again=options["again"],
        as_json=options["as_json"],
    )


def _point(classifier: Path, fp_per_scan: float | None) -> OperatingPoint | None:
    """What `threshold.operating_point` finds in the card of a classifier, with the same errors."""
    from p2ch_luna.inference.detector import CLASSIFIER
    from p2ch_luna.models.checkpoint import load_card
    from p2ch_luna.report.threshold import operating_point

    return operating_point({CLASSIFIER: load_card(classifier)}, fp_per_scan)
