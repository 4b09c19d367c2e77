"""`luna diagnose` of a folder with more than one scan."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import echo_json, progress
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.io.find_scans import FoundScan
    from p2ch_luna.report.many.run import EngineName
    from p2ch_luna.report.many.summary import Row
    from p2ch_luna.report.many.work import Job


def scans_in(path: Path, output: Path) -> list[FoundScan]:
    """What lies at a path. Raises LunaError where that is not there."""
    from p2ch_luna.io.find_scans import find_scans

    if not path.exists():
        raise LunaError(f"{path}: not there; expected a CT file, a folder or a zip")
    return find_scans(path, besides=output)


def diagnose_all(
    scans: Sequence[FoundScan],
    output: Path,
    job: Job,
    *,
    engine: EngineName,
    workers: int | None,
    threads: int | None = None,
    again: bool,
    as_json: bool,
) -> int:
    """Diagnose them into a folder each, tell how it goes and what came of it; the exit code."""
    from p2ch_luna.report.many.run import diagnose_many

    with progress() as stages:
        stages.stage(f"diagnosing {len(scans)} scan{'s' * (len(scans) != 1)}", len(scans))

        def hear(_row: Row, line: str) -> None:
            if not sys.stderr.isatty():
                click.echo(line, err=True)
            stages.advance()

        done = diagnose_many(
            scans, output, job, engine=engine, workers=workers, threads=threads, again=again, hear=hear
        )
    if as_json:
        echo_json([vars(row) for row in done.rows])
    else:
        click.echo(done.text)
    return 1 if done.n_failed else 0
