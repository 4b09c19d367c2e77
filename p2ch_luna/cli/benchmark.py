"""`luna benchmark`: how well the networks find real nodules in scans of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2ch_luna.cli._common import (
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
    from p2ch_luna.findings import Nodule
    from p2ch_luna.report.benchmark import BenchmarkReport, Figures, Settings
    from p2ch_luna.report.evaluation import Interval

SCALES = {  # groups of the report, with what stands above them in the table
    "diameter": "diameter",
    "texture": "texture",
    "contrast": "contrast",
    "pleura": "to the lung's edge",
    "host": "host",
}
WRITTEN = "benchmark.json, nodules.csv, sensitivity_by_*.png"
WIDEST = 24  # of a name in the table; of a longer one, as DICOM's ids are, its end
RATES = {0.125: "1/8", 0.25: "1/4", 0.5: "1/2"}

weights_type = click.Path(dir_okay=False, path_type=Path)

MOST_NODULES = 50  # of a set: with more, the 100 marks that count would not reach 8 false positives


@click.command()
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...", type=click.Path(path_type=Path))
@click.option(
    "--nodules",
    "lidc",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of nodules.csv and voi/: LIDC nodules.",
)
@output_option("Folder for the figures, tables and plots; what is there of an earlier run is used again.")
@click.option("--folds", default="7-9", show_default=True, help="Of the nodules' patients, e.g. 7-9 or 0,3.")
@click.option(
    "--copies",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Sets of nodules for each HOST.",
)
@click.option(
    "--count",
    type=click.IntRange(1, MOST_NODULES),
    default=20,
    show_default=True,
    help="Nodules a set; of a scan's marks the score counts 100.",
)
@click.option(
    "--min-diameter", type=float, default=3.0, show_default=True, help="Leave out smaller nodules, in mm."
)
@click.option("--max-diameter", type=float, default=30.0, show_default=True, help="… larger ones.")
@click.option(
    "--known",
    type=click.Path(path_type=Path),
    help="Nodules that the hosts have of their own, LUNA16 columns.",
)
@click.option("--segmentation", type=weights_type, help="Weights that propose; the bundled ones if left out.")
@click.option("--classifier", type=weights_type, help="Weights that judge; the bundled ones if left out.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of nodules, places and the 95% intervals.",
)
@click.option("--keep-scans", is_flag=True, help="Write the scans and their labels too, to OUT/scans.")
@device_option
@threads_option
@json_option
def benchmark(
    hosts: tuple[Path, ...],
    *,
    lidc: Path,
    output: Path,
    known: Path | None,
    segmentation: Path | None,
    classifier: Path | None,
    keep_scans: bool,
    device: str,
    threads: int | None,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Set real LIDC nodules into each HOST at places that are known exactly, and see which are found.

    HOST is any CT that `luna diagnose` reads. A set of nodules depends on --seed, its host and the number of
    the copy alone. OUT gets benchmark.json (all figures), nodules.csv (contrast, distance to the edge of the
    lung and best score of each nodule), plots, and the lists that `luna evaluate` takes. Stopped, it goes on
    where it was.

    \b
    luna benchmark scanner/*.mha --nodules lidc --known own.csv -o out
    """
    from p2ch_luna.inference import NoduleDetector
    from p2ch_luna.report.benchmark_run import Bench, run_benchmark

    use_threads(threads)
    target = pick_device(device)
    with progress() as stages:
        stages.stage("checking hosts, nodules and networks")
        settings, own = _settings(target.type, **wanted), _known(known)
        bench = Bench.read(hosts, lidc, own, NoduleDetector.load(segmentation, classifier, target), settings)
        report = run_benchmark(bench, output, stages, _tell, keep_scans=keep_scans)
    if as_json:
        echo_json(report.model_dump(mode="json"))
    else:
        click.echo("\n".join([*_table(report), "", f"written: {output}/{WRITTEN}"]))


def _settings(
    device: str,
    *,
    folds: str,
    copies: int,
    count: int,
    min_diameter: float,
    max_diameter: float,
    seed: int,
) -> Settings:
    """What decides on the sets of nodules."""
    from p2ch_luna.datasets.splits import parse_folds
    from p2ch_luna.report.benchmark import Settings

    return Settings(
        copies=copies,
        count=count,
        folds=tuple(parse_folds(folds)),
        min_diameter_mm=min_diameter,
        max_diameter_mm=max_diameter,
        seed=seed,
        device=device,
    )


def _known(path: Path | None) -> list[Nodule] | None:
    from p2ch_luna.io import read_nodules

    return read_nodules(path) if path else None


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _table(report: BenchmarkReport) -> Iterator[str]:
    """The figures for a person."""
    figures = report.figures
    n_hosts = len(report.inputs.hosts)
    hosts = f"{n_hosts} host" + ("s" if n_hosts > 1 else "")
    yield f"CPM {figures.cpm:.3f}  {_interval(figures.cpm_95) or 'no 95% interval'} of {hosts}"
    yield ""
    yield (
        f"{figures.found} of {figures.nodules} nodules found, {figures.nodules - figures.found} missed, "
        f"{figures.false_positives} false positives in {figures.scans} scan(s)"
    )
    yield f"{figures.distinct_nodules} distinct nodules in {hosts}"
    yield ""
    yield "FP/scan  sensitivity  95% interval"
    for point in figures.froc:
        rate = RATES.get(point.fp_per_scan, f"{point.fp_per_scan:g}")
        yield f"{rate:>7}  {point.sensitivity:11.3f}  {_interval(point.sensitivity_95)}".rstrip()
    yield from _groups(figures)
    yield from (f"warning: {warning}" for warning in report.warnings)
    yield ""
    yield report.statement


def _groups(figures: Figures) -> Iterator[str]:
    """A block for each property: its groups, how many they are, how many were found at each rate."""
    names = [_short(group.name) for groups in figures.groups.values() for group in groups]
    width = max(map(len, [*names, *SCALES.values()])) + 2
    for scale, title in SCALES.items():
        groups = figures.groups[scale]
        rates = "".join(f"  at {share.fp_per_scan:g} FP/scan".ljust(24) for share in groups[0].at)
        yield ""
        yield f"{title:<{width}}nodules{rates}".rstrip()
        for group in groups:
            shares = (f"{share.sensitivity:.3f} {_interval(share.sensitivity_95)}" for share in group.at)
            yield (
                f"{_short(group.name):<{width}}{group.nodules:7}"
                + "".join(f"  {text:<22}" for text in shares).rstrip()
            )


def _short(name: str) -> str:
    return name if len(name) <= WIDEST else f"...{name[3 - WIDEST :]}"


def _interval(bounds: Interval) -> str:
    return "" if bounds is None else f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"
