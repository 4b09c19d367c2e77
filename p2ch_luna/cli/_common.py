"""What the commands share: options, the device, progress on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress, TaskID

    from p2ch_luna.io.scan_cache import ScanCache

Command = TypeVar("Command", bound=Callable[..., Any])

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto: CUDA if it is there, else the CPU.",
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(["torch", "openvino", "onnxruntime"]),
    default="torch",
    show_default=True,
    help="What computes the networks; openvino and onnxruntime (extras of these names) are for CPUs.",
)
operating_point_option = click.option(
    "--operating-point",
    "fp_per_scan",
    metavar="RATE",
    callback=lambda _context, _option, value: _rate(value),
    help="Findings are what brings so many false positives a scan, 1/8, 1/4, 1/2, 1, 2, 4 or 8, by the "
    "classifier's card; 1 if left out.",
)
cache_option = click.option(
    "--cache",
    "cache_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to keep prepared scans in; the user's cache folder if left out.",
)
cache_size_option = click.option(
    "--cache-size",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB",
    default=64.0,
    show_default=True,
    help="What the cache may grow to; what was stored longest ago makes room.",
)
storage_option = click.option(
    "--storage",
    type=click.Choice(["blosc2", "raw"]),
    default="blosc2",
    show_default=True,
    help="How prepared scans are kept: compressed, or three times as large and read four times as fast.",
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one value of the config; repeatable.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads to use; one a core if left out."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")


def _rate(text: str | None) -> float | None:
    """0.125 of "1/8" or "0.125"."""
    if text is None:
        return None
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is no number; wanted one such as 1/8 or 4") from error


def output_option(help: str, default: str | None = None) -> Callable[[Command], Command]:
    """`-o/--output PATH`: the parameter `output` is a Path; it must be given if there is no default."""
    wanted: dict[str, Any] = (
        {"required": True} if default is None else {"default": default, "show_default": True}
    )
    return click.option("-o", "--output", type=click.Path(path_type=Path), help=help, **wanted)


def pick_device(name: str) -> torch.device:
    """The device that a value of `--device` stands for. Raises LunaError if it is not there."""
    from p2ch_luna.models.precision import device_of

    return device_of(name)


def use_threads(threads: int | None) -> None:
    """Let torch compute with so many CPU threads; None leaves its own choice."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def open_cache(folder: Path | None, storage: str, size_gb: float) -> ScanCache:
    """The cache that `--cache`, `--storage` and `--cache-size` stand for."""
    from p2ch_luna.io.scan_cache import ScanCache

    return ScanCache(folder, storage, int(size_gb * 1e9))  # type: ignore[arg-type]


def echo_json(value: object) -> None:
    """Print plain dicts, lists, numbers and strings as JSON on stdout; NaN is refused, as JSON has none."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


class Stages(Protocol):
    """Tells a person on stderr what is being done."""

    def stage(self, text: str, total: float | None = None) -> None:
        """The stage before is done and this one begins; `total` is its number of steps, if that is known."""

    def advance(self, steps: float = 1) -> None:
        """So many more steps of this stage are done."""


@contextmanager
def progress() -> Iterator[Stages]:
    """Show stages on stderr: bars on a terminal, else one line a stage."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, TextColumn("to go"), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        stages = _Bars(bars)
        yield stages
        stages.finish()


class Lines:
    """One line a stage, for a log."""

    def stage(self, text: str, total: float | None = None) -> None:
        click.echo(text if total is None else f"{text} ({total:g})", err=True)

    def advance(self, steps: float = 1) -> None:
        """A log wants no bars."""


class _Bars:
    """One bar a stage, for a terminal."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._current: TaskID | None = None

    def stage(self, text: str, total: float | None = None) -> None:
        self.finish()
        self._current = self._bars.add_task(text, total=total)

    def advance(self, steps: float = 1) -> None:
        if self._current is not None:
            self._bars.advance(self._current, steps)

    def finish(self) -> None:
        """Show the current stage as done, also one whose steps were not known."""
        if self._current is not None:
            task = next(task for task in self._bars.tasks if task.id == self._current)
            done = task.total or 1
            self._bars.update(self._current, total=done, completed=done)
