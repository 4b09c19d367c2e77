"""`luna bench`: how fast things are on this machine."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import (
    device_option,
    echo_json,
    json_option,
    pick_device,
    progress,
    threads_option,
    use_threads,
)

if TYPE_CHECKING:
    from p2ch_luna.training.bench_data import Figure

FULL_SIZE = (300, 512, 512)


@click.group()
def bench() -> None:
    """Measure how fast things are on this machine.

    \b
    luna bench data
    luna bench train
    luna bench diagnose
    luna bench runtime
    """


@bench.command()
@click.option(
    "--scans", "count", type=click.IntRange(1), default=12, show_default=True, help="Synthetic scans to make."
)
@click.option(
    "--shape",
    type=click.IntRange(32),
    nargs=3,
    default=FULL_SIZE,
    show_default=True,
    help="Slices, rows and columns of a synthetic scan.",
)
@click.option(
    "--batches", type=click.IntRange(100), default=2000, show_default=True, help="To watch the memory over."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where there is room for it.")
@threads_option
@json_option
def data(
    count: int,
    shape: tuple[int, int, int],
    batches: int,
    folder: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure the way from scans on disk to augmented batches, beside the book's way.

    About five minutes and 1.5 GB of disk, which are freed again. The bounds are for scans of LUNA16's
    size on two cores with nothing else running; figures of other machines compare as ratios.

    \b
    luna bench data
    luna bench data --scans 24
    """
    from multiprocessing import get_context

    from p2ch_luna.training.bench_data import measure
    from p2ch_luna.training.bench_scans import make_scans

    use_threads(threads)
    figures = []
    with progress() as stages, TemporaryDirectory(dir=folder) as temporary:
        work = Path(temporary)
        stages.stage(f"making {count} scans")
        with get_context("spawn").Pool(1) as pool:  # apart: what it frees would count as a worker's memory
            scans = pool.apply(make_scans, (work, count, shape))
        for figure in measure(scans, work, stages.stage, batches):
            figures.append(figure)
    _print(figures, as_json)


@bench.command()
@click.option(
    "--steps", type=click.IntRange(4), default=40, show_default=True, help="Steps to time, of each kind."
)
@click.option(
    "--memory-steps",
    type=click.IntRange(10),
    default=1000,
    show_default=True,
    help="Small steps to watch the memory over.",
)
@device_option
@threads_option
@json_option
def train(steps: int, memory_steps: int, device: str, threads: int | None, as_json: bool) -> None:
    """Measure a training: its steps beside those in plain float32, and all it does beside them.

    About two minutes on two cores. It needs no data. The bounds hold with nothing else running; figures of
    other machines compare as ratios.

    \b
    luna bench train
    luna bench train --device cuda --steps 80
    """
    from p2ch_luna.training.bench_train import measure

    use_threads(threads)
    where = pick_device(device)
    figures = []
    with progress() as stages, TemporaryDirectory() as temporary:
        for figure in measure(where, Path(temporary), stages.stage, steps=steps, memory_steps=memory_steps):
            figures.append(figure)
    _print(figures, as_json)


@bench.command()
@click.option(
    "--runs", type=click.IntRange(1), default=5, show_default=True, help="Medians are over so many."
)
@click.option(
    "--scan", type=click.Path(path_type=Path), help="A CT; a phantom of 300 slices as DICOM if left out."
)
@click.option("--tiles", is_flag=True, help="Compare sizes of tiles and batches, threads and precisions.")
@json_option
def diagnose(runs: int, scan: Path | None, tiles: bool, as_json: bool) -> None:
    """Measure whole runs of luna diagnose: each stage, page and pictures, OpenVINO, a GPU, memory, the start.

    About four minutes on two cores, with --tiles three. The bounds are for the phantom on two cores with
    nothing else running; figures of other machines compare as ratios.

    \b
    luna bench diagnose
    luna bench diagnose --scan CT.mha --tiles
    """
    from p2ch_luna.report.bench.diagnosis import measure, phantom_at
    from p2ch_luna.report.bench.tiles import measure as measure_tiles

    figures = []
    with progress() as stages, TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if scan is None:
            stages.stage("making a phantom")
            scan = phantom_at(folder / "dicom")
        measured = (measure_tiles if tiles else measure)(scan, folder, stages.stage, runs)
        for figure in measured:
            figures.append(figure)
    _print(figures, as_json)


@bench.command()
@click.option(
    "--runs", type=click.IntRange(1), default=5, show_default=True, help="Medians are over so many."
)
@click.option("--compiled", is_flag=True, help="Also as AOTInductor compiles them: a minute for each more.")
@threads_option
@json_option
def runtime(runs: int, compiled: bool, threads: int | None, as_json: bool) -> None:
    """Measure each bundled network on each runtime that is installed, on the CPU, and name the fastest.

    About two minutes on two cores. A pass is over one tile of a chest, or a batch of candidates; differences
    are of probabilities, from torch in float32. The seconds that a conversion takes are not counted: for a
    single scan --runtime torch may be the fastest.

    \b
    luna bench runtime
    luna bench runtime --runs 20 --compiled
    """
    from dataclasses import asdict

    from p2ch_luna.report.bench.runtimes import fastest, measure

    use_threads(threads)
    with progress() as stages, TemporaryDirectory() as temporary:
        timings = list(measure(Path(temporary), stages.stage, runs, compiled=compiled))
    best = fastest(timings)
    if as_json:
        echo_json({"fastest": best, "timings": [asdict(timing) for timing in timings]})
        return
    rows = [
        (
            f"{one.network}, {'x'.join(map(str, one.shape))}",
            one.runtime,
            f"{_short(one.milliseconds)} ms",
            f"{one.times_eager:.2f}",
            f"{one.largest_difference:.2g}",
        )
        for one in timings
    ]
    click.echo(_table([("network", "runtime", "a pass", "times as fast", "largest difference"), *rows]))
    device = "" if pick_device("auto").type == "cpu" else "--device cpu "
    click.echo(f"\nThe fastest on this CPU, for many scans: luna diagnose {device}--runtime {best}")


def _print(figures: list[Figure], as_json: bool) -> None:
    if as_json:
        echo_json([{"what": f.what, "value": f.value, "unit": f.unit, "bound": f.bound} for f in figures])
    else:
        click.echo(_as_text(figures))


def _as_text(figures: list[Figure]) -> str:
    """A line a figure, as a table that Markdown shows too."""
    rows: list[tuple[str, ...]] = [("what", "figure", "bound")]
    for figure in figures:
        bound = ""
        if figure.bound is not None:
            sign = "at least" if figure.at_least else "at most"
            bound = f"{sign} {figure.bound:g}{'' if figure.holds else ' (missed)'}"
        rows.append((figure.what, f"{_short(figure.value)} {figure.unit}", bound))
    return _table(rows)


def _table(rows: list[tuple[str, ...]]) -> str:
    """The first row is the head; Markdown shows it as a table too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _short(value: float) -> str:
    """Three digits that say something."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
