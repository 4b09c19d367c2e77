"""`luna evaluate`: LUNA16's score of lists of detections."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import json_option, progress

if TYPE_CHECKING:
    from p2ch_luna.report.evaluation.pictures import Pictures
    from p2ch_luna.report.evaluation.schema import Evaluation


@click.command()
@click.argument("detections", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    required=True,
    help="CSV of the nodules, as LUNA16's annotations.csv, or a folder with LUNA16's three lists.",
)
@click.option(
    "--excluded",
    type=click.Path(path_type=Path),
    help="CSV of findings that count neither as nodules nor as false positives, as annotations_excluded.csv.",
)
@click.option(
    "--scans",
    type=click.Path(path_type=Path),
    help="CSV of the ids of all scans that were diagnosed, as seriesuids.csv.",
)
@click.option(
    "--min-diameter",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="MM",
    help="Treat smaller nodules as excluded findings.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the scans drawn for the 95% intervals.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder to write, new or empty: evaluation.json, froc.csv, figures and a page, index.html.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    multiple=True,
    help="CTs, or folders of them, for pictures of misses and false positives on the page; repeatable.",
)
@json_option
def evaluate(
    detections: tuple[Path, ...],
    *,
    truth: Path,
    excluded: Path | None,
    scans: Path | None,
    min_diameter: float,
    seed: int,
    output: Path | None,
    images: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Score one or several CSVs of DETECTIONS by the rules of LUNA16.

    DETECTIONS has the columns seriesuid, coordX, coordY, coordZ (LPS mm) and probability, as written by
    `luna diagnose`. The score, CPM, is the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives
    per scan; intervals come from drawing the scans anew 1000 times. Further submissions are compared with the
    first on the same drawn scans.

    \b
    luna evaluate out/detections.csv --truth data/scans/lidc-idri-0001/annotations.csv
    luna evaluate mine.csv other.csv --truth LUNA16 --images LUNA16 --output evaluation
    """
    from p2ch_luna.files import replacing_folder
    from p2ch_luna.report.evaluation.files import write_evaluation
    from p2ch_luna.report.evaluation.run import lists_of, run_evaluation

    if images and output is None:
        raise click.UsageError("--images is for the page that --output writes: give --output too.")
    with replacing_folder(output) if output else nullcontext() as folder:
        answer = run_evaluation(detections, lists_of(truth, excluded, scans), min_diameter, seed)
        evaluation, pictures = _with_pictures(answer.evaluation, images)
        if folder:
            write_evaluation(folder, evaluation, answer.results, pictures)
    _tell(evaluation, output, as_json=as_json)


def _tell(evaluation: Evaluation, output: Path | None, *, as_json: bool) -> None:
    """Figures on stdout; on stderr warnings, and where the page lies."""
    from p2ch_luna.report.evaluation.text import as_text

    for warning in evaluation.warnings:
        click.echo(warning, err=True)
    click.echo(evaluation.to_json() if as_json else as_text(evaluation), nl=not as_json)
    if output:
        beside = "evaluation.json, froc.csv, froc.png, sizes.png"
        click.echo(f"{output / 'index.html'} written, beside it {beside}", err=True)


def _with_pictures(evaluation: Evaluation, images: tuple[Path, ...]) -> tuple[Evaluation, Pictures]:
    """Pictures of what the page shows; why some are not there becomes a warning."""
    from p2ch_luna.report.evaluation.pictures import find_cts, places_of, take_pictures

    if not images:
        return evaluation, {}
    places = places_of(evaluation.all_scores)
    uids = {place.series_uid for place in places}
    with progress() as stages:
        stages.stage("looking for CTs")
        cts = find_cts(images, uids)
        stages.stage("taking pictures", len(uids))
        pictures, problems = take_pictures(places, cts, stages.advance)
    return evaluation.model_copy(update={"warnings": (*evaluation.warnings, *problems)}), pictures
