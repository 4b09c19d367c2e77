"""`luna benchmark`: how well the networks find real nodules in scans of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
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
from p2ch_luna.cli._implanted import implanting_options, interval_text, read_bench, tell
from p2ch_luna.report.rates import rate_text

if TYPE_CHECKING:
    from p2ch_luna.report.benchmark.schema import BenchmarkReport, Figures
    from p2ch_luna.report.benchmark.stages import Stages

SCALES = {  # groups of the report, with what stands above them in the table
    "diameter": "diameter",
    "texture": "texture",
    "contrast": "contrast",
    "pleura": "to the lung's edge",
    "host": "host",
}
WRITTEN = "benchmark.json, nodules.csv, sensitivity_by_*.png"
PICTURES = "found.png, missed.png, false_positives.png"
WIDEST = 24  # of a name in the table; of a longer one, as DICOM's ids are, its end


@click.command()
@implanting_options
@output_option("Folder for the figures, tables and plots; what is there of an earlier run is used again.")
@click.option("--keep-scans", is_flag=True, help="Write the scans and their labels too, to OUT/scans.")
@click.option("--pictures", is_flag=True, help="Write pictures of what was found, missed and falsely found.")
@device_option
@threads_option
@json_option
def benchmark(
    hosts: tuple[Path, ...],
    *,
    output: Path,
    segmentation: Path | None,
    classifier: Path | None,
    keep_scans: bool,
    pictures: bool,
    device: str,
    threads: int | None,
    as_json: bool,
    **inputs: Any,
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
    from p2ch_luna.report.benchmark.run import run_benchmark

    use_threads(threads)
    target = pick_device(device)
    with progress() as stages:
        stages.stage("checking hosts, nodules and networks")
        load = partial(NoduleDetector.load, segmentation, classifier, target)
        bench = read_bench(hosts, lambda: load().two_stages(), target, **inputs)
        report = run_benchmark(bench, output, stages, tell, keep_scans=keep_scans, pictures=pictures)
    if as_json:
        echo_json(report.model_dump(mode="json"))
        return
    written = f"{WRITTEN}, {PICTURES}" if pictures else WRITTEN
    click.echo("\n".join([*_table(report), "", f"written: {output}/{written}"]))


def _table(report: BenchmarkReport) -> Iterator[str]:
    """The figures for a person."""
    figures = report.figures
    n_hosts = len(report.inputs.hosts)
    hosts = f"{n_hosts} host" + ("s" if n_hosts > 1 else "")
    yield f"CPM {figures.cpm:.3f}  {interval_text(figures.cpm_95) or 'no 95% interval'} of {hosts}"
    yield ""
    yield (
        f"{figures.found} of {figures.nodules} nodules found, {figures.nodules - figures.found} missed, "
        f"{figures.false_positives} false positives in {figures.scans} scan(s)"
    )
    yield f"{figures.distinct_nodules} distinct nodules in {hosts}"
    yield ""
    yield "FP/scan  sensitivity  95% interval"
    for point in figures.froc:
        rate, bounds = rate_text(point.fp_per_scan), interval_text(point.sensitivity_95)
        yield f"{rate:>7}  {point.sensitivity:11.3f}  {bounds}".rstrip()
    yield from _groups(figures)
    yield from _stages(figures.stages)
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
            shares = (f"{share.sensitivity:.3f} {interval_text(share.sensitivity_95)}" for share in group.at)
            yield (
                f"{_short(group.name):<{width}}{group.nodules:7}"
                + "".join(f"  {text:<22}" for text in shares).rstrip()
            )


def _stages(stages: Stages) -> Iterator[str]:
    """What is proposed, and how well each probability tells it apart."""
    yield ""
    yield f"{stages.candidates_per_scan:.1f} candidates a scan before the classifier"
    yield "hit by one   nodules  proposed  share"
    for group in stages.proposed:
        share = f"{group.share:.3f} {interval_text(group.share_95)}"
        yield f"{group.name:<13}{group.nodules:7}  {group.proposed:8}  {share}"
    yield ""
    yield f"AUC of {stages.on_nodules} candidates on nodules and {stages.on_nothing} on nothing"
    for name, one in stages.auc.items():
        auc = "not defined" if one.auc is None else f"{one.auc:.3f} {interval_text(one.auc_95)}".rstrip()
        yield f"{name:<13}{auc}"


def _short(name: str) -> str:
    return name if len(name) <= WIDEST else f"...{name[3 - WIDEST :]}"
