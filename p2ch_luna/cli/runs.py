"""`luna runs`: what was trained here, and how well."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from p2ch_luna.cli._common import echo_json, json_option
from p2ch_luna.errors import LunaError

KEY_METRICS = ("cpm", "dice", "nodule_auc", "malignancy_auc")  # shown beside the best, where there are any
LOWER_IS_BETTER = ("loss", "brier", "error", "false_positives")  # in the names of metrics
KILLED = "killed"  # was running, and no process of this machine trains it
HOW_TO_START = "luna train configs/smoke.toml starts one"


@dataclass(frozen=True)
class Run:
    """One run that can be read.

    best_by: the metric that `best` is of.    best: its best value; None before an epoch has one.
    metrics: all of that epoch, or of the last one where there is no best; numbers only.
    """

    name: str
    task: str
    status: str
    started: str  # ISO 8601
    epochs_done: int
    epochs: int
    best_by: str
    best: float | None
    best_epoch: int | None
    metrics: dict[str, float]
    hours: float


@dataclass(frozen=True)
class Damaged:
    """A run that cannot be read, and why."""

    name: str
    problem: str


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--by", metavar="METRIC", help="Show the best of this metric, and the best run first.")
@json_option
def runs(folder: Path, by: str | None, as_json: bool) -> None:
    """List the runs of FOLDER (runs), the newest first.

    Of each: how far it is, the best value of the metric that picks its model (loop.best_by) with the epoch
    of it, other figures of that epoch, and how long it has trained. A run that cannot be read is listed
    with the reason.

    \b
    luna runs
    luna runs --by cpm
    """
    found = [_read(path, by) for path in _run_folders(folder)]
    sound = [run for run in found if isinstance(run, Run)]
    damaged = [run for run in found if isinstance(run, Damaged)]
    sound.sort(key=_moment, reverse=True)
    if by is not None:
        _check_metric(by, sound)
        sound.sort(key=_badness)
    if as_json:
        echo_json([asdict(run) for run in sound] + [asdict(run) for run in damaged])
        return
    for line in _table(sound):
        click.echo(line)
    for run in damaged:
        click.echo(f"{run.name}: cannot be read: {run.problem}")
    if not found:
        click.echo(f"{folder}: no run there; {HOW_TO_START}", err=True)


def _run_folders(folder: Path) -> list[Path]:
    """The runs in a folder, or the folder if it is a run itself."""
    from p2ch_luna.training.run_dir import is_run

    if folder.is_file():
        raise LunaError(f"{folder}: is a file; wanted the folder that holds runs")
    if is_run(folder) or not folder.is_dir():
        return [folder] if folder.is_dir() else []
    return sorted(path for path in folder.iterdir() if is_run(path))


def _read(path: Path, by: str | None) -> Run | Damaged:
    from p2ch_luna.training.run_dir import CONFIG, RUNNING, is_claimed, load_about, load_history

    name = path.resolve().name
    try:
        config = tomllib.loads((path / CONFIG).read_text(encoding="utf-8"))
        about = load_about(path)
        if about["status"] == RUNNING and not is_claimed(path):
            about["status"] = KILLED
        return _run_of(name, config, about, load_history(path), by)
    except LunaError as error:
        return Damaged(name, str(error))
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not text
        return Damaged(name, f"{path / CONFIG}: {error}")
    except (KeyError, TypeError, AttributeError) as error:
        return Damaged(name, f"{path}: a value is missing or of a wrong kind: {error}")


def _run_of(
    name: str,
    config: Mapping[str, Any],
    about: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    by: str | None,
) -> Run:
    metric = by or str(config["loop"]["best_by"])
    numbers = [{k: v for k, v in entry["metrics"].items() if _is_number(v)} for entry in history]
    having = [k for k, metrics in enumerate(numbers) if metric in metrics]
    best = min(having, key=lambda k: _sign(metric) * numbers[k][metric]) if having else None
    shown = best if best is not None else len(history) - 1
    return Run(
        name=name,
        task=str(config["task"]),
        status=str(about["status"]),
        started=str(about["started"]),
        epochs_done=int(history[-1]["epoch"]) if history else 0,
        epochs=int(config["loop"]["epochs"]),
        best_by=metric,
        best=None if best is None else float(numbers[best][metric]),
        best_epoch=None if best is None else int(history[best]["epoch"]),
        metrics=numbers[shown] if history else {},
        hours=float(history[-1]["seconds"]) / 3600 if history else 0.0,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _sign(metric: str) -> int:
    """1 where less is better, -1 where more is."""
    return 1 if any(word in metric for word in LOWER_IS_BETTER) else -1


def _badness(run: Run) -> float:
    """Rises as runs get worse; those without the metric come last."""
    return math.inf if run.best is None else _sign(run.best_by) * run.best


def _moment(run: Run) -> datetime:
    try:
        started = datetime.fromisoformat(run.started)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return started if started.tzinfo else started.replace(tzinfo=UTC)


def _check_metric(metric: str, found: Sequence[Run]) -> None:
    """Raise LunaError where no run knows the metric: a misspelt one would sort nothing."""
    known = sorted({name for run in found for name in run.metrics})
    if known and all(run.best is None for run in found):
        raise LunaError(f"--by {metric}: no run has it; wanted one of {', '.join(known)}")


def _table(found: Sequence[Run]) -> list[str]:
    """Aligned lines under a heading; a further metric has a column where a run has it."""
    if not found:
        return []
    others = [m for m in KEY_METRICS if any(m in run.metrics and m != run.best_by for run in found)]
    columns: list[tuple[str, Callable[[Run], str]]] = [
        ("run", lambda run: run.name),
        ("task", lambda run: run.task),
        ("status", lambda run: run.status),
        ("epochs", lambda run: f"{run.epochs_done}/{run.epochs}"),
        ("best", _best),
        *((name, partial(_metric, name)) for name in others),
        ("time", lambda run: _duration(run.hours)),
    ]
    rows = [[title for title, _ in columns], *([cell(run) for _, cell in columns] for run in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h"


def _best(run: Run) -> str:
    if run.best is None:
        return f"{run.best_by} -"
    return f"{run.best_by} {run.best:.3f} (epoch {run.best_epoch})"


def _metric(name: str, run: Run) -> str:
    return f"{run.metrics[name]:.3f}" if name in run.metrics else "-"
