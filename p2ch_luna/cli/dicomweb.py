"""`luna dicomweb`: studies of a DICOMweb server, diagnosed; SEG and SR go back to it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import (
    Lines,
    device_option,
    pick_device,
    progress,
    threads_option,
    use_threads,
)
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2ch_luna.inference.detector import Progress
    from p2ch_luna.serve.dicomweb.client import Server
    from p2ch_luna.serve.dicomweb.study import Diagnose, Study

PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)  # before another try, where the command is to end
_DATE = re.compile(r"\d{8}|\d{8}-|-\d{8}|\d{8}-\d{8}")

_URL_HELP = "Of the server's DICOMweb, as https://HOST/dicom-web."


def _date(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _DATE.fullmatch(value):
        raise click.BadParameter(
            f"{value!r} is no date or range; wanted one as 20261101-, or 20261101-20261130"
        )
    return value


@click.group(invoke_without_command=True)
@click.option("--url", metavar="URL", help=_URL_HELP)
@click.option("--study", "study_uid", metavar="UID", help="The study to diagnose.")
@click.option(
    "--series", "series_uid", metavar="UID", help="The CT series to read; the best one if left out."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for the results; not kept if left out."
)
@click.option("--no-store", is_flag=True, help="Store nothing in the server.")
@device_option
@threads_option
@click.pass_context
def dicomweb(
    context: click.Context,
    url: str | None,
    study_uid: str | None,
    series_uid: str | None,
    output: Path | None,
    no_store: bool,
    device: str,
    threads: int | None,
) -> None:
    """Fetch a study from a DICOMweb server, diagnose it, store SEG and SR beside it.

    \b
    luna dicomweb --url https://HOST/dicom-web --study 1.2.840.113619.2.55.3
    luna dicomweb watch --url https://HOST/dicom-web --folder watched

    The server may want LUNA_DICOMWEB_TOKEN, or LUNA_DICOMWEB_USER and LUNA_DICOMWEB_PASSWORD, in the
    environment. Research use only; not a medical device.
    """
    if context.invoked_subcommand is not None:
        if url or study_uid:
            raise click.UsageError(f"options of {context.invoked_subcommand} stand behind its name")
        return
    if not url or not study_uid:
        raise click.UsageError("wanted --url URL and --study UID, or watch")
    use_threads(threads)
    with _connected(url, PAUSES_SECONDS) as server, progress() as stages:
        study = _study(server, study_uid, series_uid)
        click.echo(
            "\n".join(_diagnose_one(server, study, _diagnose(device, stages), stages, output, not no_store))
        )


@dicomweb.command()
@click.option("--url", required=True, metavar="URL", help=_URL_HELP)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    required=True,
    help="Where the results and what was done are kept; of one server and one watch.",
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds from look to look; a study is taken once nothing has come for so long.",
)
@click.option("--existing", is_flag=True, help="Also the studies that were there before the first look.")
@click.option(
    "--study-date",
    metavar="RANGE",
    callback=_date,
    help="Only studies of these days, as 20261101- or 20261101-20261130.",
)
@click.option("--once", is_flag=True, help="End when nothing is left to do.")
@device_option
@threads_option
def watch(
    url: str,
    folder: Path,
    interval: float,
    existing: bool,
    study_date: str | None,
    once: bool,
    device: str,
    threads: int | None,
) -> None:
    """Diagnose every chest CT that is new on a DICOMweb server, once; store SEG and SR beside it.

    Stopped or killed, the same command goes on where it was.
    """
    from p2ch_luna.serve.dicomweb.watch import Watch, watching

    use_threads(threads)
    stages = Lines()  # bars of all studies would fill the screen
    with _connected(url, PAUSES_SECONDS if once else ()) as server, watching(folder):
        Watch(
            server,
            folder,
            _diagnose(device, stages),
            click.echo,
            stages,
            study_date=study_date,
            interval=interval,
            existing=existing,
        ).run(once)


@contextmanager
def _connected(url: str, pauses: Sequence[float]) -> Iterator[Server]:
    """Raises LunaError where the package that talks to a server is not installed."""
    from p2ch_luna.report.outputs import can_write_dicom

    try:
        from p2ch_luna.serve.dicomweb.client import Server
    except ModuleNotFoundError as error:
        raise LunaError(f'{error.name} is not installed; wanted pip install "p2ch-luna[serve]"') from error
    if not can_write_dicom():
        raise LunaError('highdicom is not installed; wanted pip install "p2ch-luna[serve]"')
    server = Server(url, os.environ, pauses)
    try:
        yield server
    finally:
        server.close()


def _diagnose(device_name: str, stages: Progress) -> Diagnose:
    """Diagnoses with networks that are read here: without them no study is to blame."""
    from p2ch_luna.inference import NoduleDetector
    from p2ch_luna.report.diagnose import diagnose

    detector = NoduleDetector.load(device=pick_device(device_name))
    return lambda scan, results: diagnose(scan, results, detector=detector, progress=stages)


def _study(server: Server, uid: str, series_uid: str | None) -> Study:
    """The study with the CT series that are to be fetched."""
    from dataclasses import replace

    from p2ch_luna.serve.dicomweb.answers import is_uid
    from p2ch_luna.serve.dicomweb.study import find_study

    for option, value in (("--study", uid), ("--series", series_uid)):
        if value is not None and not is_uid(value):
            raise LunaError(f"{option} {value}: is no DICOM UID; expected digits and dots")
    study = find_study(server, uid)
    if series_uid is None:
        return study
    asked = tuple(series for series in study.ct if series.uid == series_uid)
    if not asked:
        there = ", ".join(series.uid for series in study.ct) or "none"
        raise LunaError(f"study {uid}: no CT series {series_uid}; expected one of {there}")
    return replace(study, series=asked)


def _diagnose_one(
    server: Server, study: Study, diagnose: Diagnose, stages: Progress, output: Path | None, is_stored: bool
) -> list[str]:
    """What is told of it, in lines."""
    from p2ch_luna.cli._findings import as_text
    from p2ch_luna.serve.dicomweb.study import diagnosed, fetched, store

    with TemporaryDirectory(prefix="luna-") as temporary:
        results = output or Path(temporary, "results")
        with fetched(server, study, stages) as scan:
            report = diagnosed(diagnose, scan, results)
        lines = as_text(report, output).splitlines()
        if not is_stored:
            return lines
        if not report.is_searched:
            return [*lines, "nothing is stored: no lungs were found"]
        stages.stage("storing")
        told = {True: "stored in", False: "is already in"}
        return [
            *lines,
            *(f"{each.kind} {told[each.is_new]} {server.url}" for each in store(server, report, results)),
        ]
