"""What the commands share that set nodules into scans and see which are found: options, settings, shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2ch_luna.cli._common import Command

if TYPE_CHECKING:
    import torch

    from p2ch_luna.findings import Nodule
    from p2ch_luna.inference import NoduleDetector
    from p2ch_luna.report.benchmark.run import Bench
    from p2ch_luna.report.benchmark.schema import Settings
    from p2ch_luna.report.evaluation.schema import Interval

MOST_NODULES = 50  # of a set: with more, the 100 marks that count would not reach 8 false positives


def _weights(name: str, what: str) -> Callable[[Command], Command]:
    """An option for a network: what it is given is the model file, also of a run's folder."""

    def read(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
        from p2ch_luna.models.checkpoint import weights_at

        return weights_at(path) if path else None

    told = f"{what}: a model file or a run's folder; the bundled one if left out."
    return click.option(name, type=click.Path(path_type=Path), callback=read, help=told)


_OPTIONS = (
    click.argument("hosts", nargs=-1, required=True, metavar="HOST...", type=click.Path(path_type=Path)),
    click.option(
        "--nodules",
        "lidc",
        type=click.Path(path_type=Path),
        required=True,
        help="Folder of nodules.csv and voi/: LIDC nodules.",
    ),
    click.option(
        "--folds", default="7-9", show_default=True, help="Of the nodules' patients, e.g. 7-9 or 0,3."
    ),
    click.option(
        "--copies",
        type=click.IntRange(min=1),
        default=2,
        show_default=True,
        help="Sets of nodules for each HOST.",
    ),
    click.option(
        "--count",
        type=click.IntRange(1, MOST_NODULES),
        default=20,
        show_default=True,
        help="Nodules a set; of a scan's marks the score counts 100.",
    ),
    click.option(
        "--min-diameter", type=float, default=3.0, show_default=True, help="Leave out smaller nodules, in mm."
    ),
    click.option("--max-diameter", type=float, default=30.0, show_default=True, help="… larger ones."),
    click.option(
        "--known",
        type=click.Path(path_type=Path),
        help="Nodules that the hosts have of their own, LUNA16 columns.",
    ),
    _weights("--segmentation", "What proposes"),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Of nodules, places and whatever else is drawn.",
    ),
)


def proposing_options(command: Command) -> Command:
    """The hosts, the nodules that are set into them and the network that proposes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def implanting_options(command: Command) -> Command:
    """The same, and the network that judges."""
    return proposing_options(_weights("--classifier", "What judges")(command))


def read_bench(
    hosts: Sequence[Path],
    load: Callable[[], NoduleDetector],
    device: torch.device,
    *,
    lidc: Path,
    known: Path | None,
    **wanted: Any,
) -> Bench:
    """The inputs that `_OPTIONS` name, all checked; `load` reads the networks once the options are good."""
    from p2ch_luna.report.benchmark.run import Bench

    settings, own = _settings(device.type, **wanted), _known(known)
    return Bench.read(hosts, lidc, own, load(), settings)


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
    from p2ch_luna.report.benchmark.schema import Settings

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
    """The findings that hosts have of their own; None where no list is given."""
    from p2ch_luna.io import read_nodules

    return read_nodules(path) if path else None


def tell(line: str) -> None:
    """A line of what was done, on stderr."""
    click.echo(line, err=True)


def interval_text(bounds: Interval) -> str:
    """[0.812, 0.903], "" where there is none."""
    return "" if bounds is None else f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"
