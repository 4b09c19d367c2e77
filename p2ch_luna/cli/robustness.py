"""`luna robustness`: what other slices, noise, kernels and views do to what is found."""

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
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.report.robustness.schema import RobustnessReport, VariantFigures

WRITTEN = "robustness.json, robustness.png"


@click.command()
@implanting_options
@output_option("Folder for the figures; what is there of an earlier run, or of a benchmark, is used again.")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    help="One of the variants alone, as the table names it; repeatable. All if left out.",
)
@device_option
@threads_option
@json_option
def robustness(
    hosts: tuple[Path, ...],
    *,
    output: Path,
    variants: tuple[str, ...],
    segmentation: Path | None,
    classifier: Path | None,
    device: str,
    threads: int | None,
    as_json: bool,
    **inputs: Any,
) -> None:
    """Set real LIDC nodules into each HOST as `luna benchmark` does, and look for them in variants of it.

    The variants: slices of 0.6 to 5 mm, more noise, a softer and a sharper kernel, the array turned round
    along its axes, and parts of the view. All of them are of one scan, so differences are paired. OUT gets
    robustness.json (all figures) and a plot. Stopped, it goes on where it was.

    \b
    luna robustness scanner/*.mha --nodules lidc --known own.csv -o out
    """
    from p2ch_luna.inference import NoduleDetector
    from p2ch_luna.report.robustness.run import run_robustness

    names = _names(variants)
    use_threads(threads)
    target = pick_device(device)
    with progress() as stages:
        stages.stage("checking hosts, nodules and networks")
        load = partial(NoduleDetector.load, segmentation, classifier, target)
        bench = read_bench(hosts, lambda: load().two_stages(), target, **inputs)
        report = run_robustness(bench, names, output, stages, tell)
    if as_json:
        echo_json(report.model_dump(mode="json"))
    else:
        click.echo("\n".join([*_table(report), "", f"written: {output}/{WRITTEN}"]))


def _names(variants: tuple[str, ...]) -> list[str]:
    """Those to make; all where none is named."""
    from p2ch_luna.datasets.variants import VARIANTS

    unknown = [name for name in variants if name not in VARIANTS]
    if unknown:
        raise LunaError(
            f"--variant {unknown[0]}: there is none of that name; there are {', '.join(VARIANTS)}"
        )
    return list(variants or VARIANTS)


def _table(report: RobustnessReport) -> Iterator[str]:
    """The figures for a person."""
    from p2ch_luna.report.benchmark.schema import RATES
    from p2ch_luna.report.robustness.schema import FIXED_RATE

    score = "no score gives" if report.score is None else f"the score {report.score:.3f} gives"
    yield f"{report.scans} implanted scan(s) of {len(report.inputs.hosts)} host(s), each in all variants"
    yield f"{score} at most {FIXED_RATE:g} FP/scan as it is; kept: what it gives in a variant"
    yield "change: of the nodules in view, less as it is, with its 95% interval"
    yield ""
    rates = "".join(f"  at {rate:g} FP/scan  {'change':<23}" for rate in RATES)
    width = max(len(one.name) for one in report.variants)
    yield f"{'variant':<{width}}  nodules    CPM{rates}  kept: FP/scan  sensitivity"
    yield from (_row(one, width, len(RATES)) for one in report.variants)
    yield from (f"warning: {warning}" for warning in report.warnings)
    yield ""
    yield report.statement


def _row(one: VariantFigures, width: int, n_rates: int) -> str:
    cpm = "-" if one.cpm is None else f"{one.cpm:.3f}"
    cells = []
    for k in range(n_rates):
        sensitivity = f"{one.at[k].sensitivity:.3f}" if one.at else "-"
        change = ""
        if one.changes:
            change = f"{one.changes[k].difference:+.3f} {interval_text(one.changes[k].difference_95)}"
        cells.append(f"  {sensitivity:>12}  {change:<23}")
    kept = "-" if one.sensitivity is None else f"{one.sensitivity:.3f}"
    return (
        f"{one.name:<{width}}  {one.nodules:7}  {cpm:>5}{''.join(cells)}  {one.fp_per_scan:13.2f}  {kept:>11}"
    )
