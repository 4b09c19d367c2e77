"""`luna dicomweb`: studies of a DICOMweb server, diagnosed; SEG and SR go back to it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypedDict, Unpack

import click
from click.core import ParameterSource

from p2ch_luna.cli._common import (
    Command,
    Lines,
    device_option,
    operating_point_option,
    pick_device,
    progress,
    runtime_option,
    threads_option,
    use_threads,
)
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from p2ch_luna.inference.detector import Progress
    from p2ch_luna.inference.runtime import Runtime
    from p2ch_luna.report.schema import Report
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


class _Computing(TypedDict):
    """What both commands take."""

    fp_per_scan: float | None
    device: str
    runtime: Runtime
    threads: int | None


class _One(_Computing):
    """What a study takes beside its UID."""

    series_uid: str | None
    output: Path | None
    no_store: bool


class _Watching(_Computing):
    """What a watch takes beside its folder."""

    interval: float
    existing: bool
    study_date: str | None


def _computing(command: Command) -> Command:
    """The options of `_Computing`."""
    for option in (threads_option, device_option, runtime_option, operating_point_option):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.option("--url", metavar="URL", help=_URL_HELP)
@click.option("--study", "study_uid", metavar="UID", help="The study to diagnose.")
@click.option(
    "--series", "series_uid", metavar="UID", help="The CT series to read; the best one if left out."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the results; not kept if left out.",
)
@click.option("--no-store", is_flag=True, help="Store nothing in the server.")
@_computing
@click.pass_context
def dicomweb(context: click.Context, url: str | None, study_uid: str | None, **options: Unpack[_One]) -> None:
    """Fetch a study from a DICOMweb server, diagnose it, store SEG and SR beside it.

    \b
    luna dicomweb --url https://HOST/dicom-web --study 1.2.840.113619.2.55.3
    luna dicomweb watch --url https://HOST/dicom-web --folder watched

    The server may want LUNA_DICOMWEB_TOKEN, or LUNA_DICOMWEB_USER and LUNA_DICOMWEB_PASSWORD, in the
    environment. Research use only; not a medical device.
    """
    if context.invoked_subcommand is not None:
        _check_nothing_before(context)
        return
    if not url or not study_uid:
        raise click.UsageError("wanted --url URL and --study UID, or watch")
    use_threads(options["threads"])
    with _connected(url, PAUSES_SECONDS) as server, progress() as stages:
        click.echo("\n".join(_diagnose_one(server, study_uid, stages, options)))


def _check_nothing_before(context: click.Context) -> None:
    """Raise UsageError for an option before the name of a command: it would change nothing."""
    name = context.invoked_subcommand
    for option in context.command.params:
        if context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE:
            wanted = f"luna dicomweb {name} --url URL --folder FOLDER"
            raise click.UsageError(f"{option.opts[-1]}: put options after {name}, as in {wanted}")


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
@click.option("--once", is_flag=True, help="End when nothing is left to do, or the server is away.")
@_computing
def watch(url: str, folder: Path, once: bool, **options: Unpack[_Watching]) -> None:
    """Diagnose every chest CT that is new on a DICOMweb server, once; store SEG and SR beside it.

    Stopped or killed, the same command goes on where it was.
    """
    use_threads(options["threads"])
    try:
        with _connected(url, PAUSES_SECONDS if once else ()) as server:
            _watch(server, folder, once, options)
    except KeyboardInterrupt:
        click.echo("\nthe same command goes on where this one was", nl=False, err=True)  # click ends the line
        raise


def _watch(server: Server, folder: Path, once: bool, options: _Watching) -> None:
    from p2ch_luna.serve.dicomweb.watch import Watch, watching

    stages = Lines()  # bars of all studies would fill the screen
    with watching(folder):
        diagnose = _diagnose(options, stages)
        following = Watch(
            server,
            folder,
            diagnose,
            click.echo,
            stages,
            study_date=options["study_date"],
            interval=options["interval"],
            existing=options["existing"],
        )
        if not once:
            click.echo(f"{server.url}: looks every {options['interval']:g} s; Ctrl-C ends it")
        following.run(once)


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


def _diagnose(options: _Computing, stages: Progress) -> Diagnose:
    """Diagnoses with what is read here: without the networks or the operating point no study is to blame."""
    from p2ch_luna.inference import NoduleDetector
    from p2ch_luna.report.diagnose import run
    from p2ch_luna.report.threshold import operating_point

    detector = NoduleDetector.load(device=pick_device(options["device"]), runtime=options["runtime"])
    point = operating_point(detector.models, options["fp_per_scan"])
    return lambda scan, results: run(lambda: detector, scan, results, point=point, progress=stages)


def _study(server: Server, uid: str, series_uid: str | None) -> Study:
    """The study with the CT series that are to be fetched."""
    from dataclasses import replace

    from p2ch_luna.serve.dicomweb.answers import is_uid
    from p2ch_luna.serve.dicomweb.study import find_study

    for option, value in (("--study", uid), ("--series", series_uid)):
        if value is not None and not is_uid(value):
            raise LunaError(f"{option} {value}: is no DICOM UID; expected digits and dots")
    study = find_study(server, uid)
    if not study.series:
        raise LunaError(f"{server.url}: the server has no study {uid}")
    if series_uid is None:
        return study
    asked = tuple(series for series in study.ct if series.uid == series_uid)
    if not asked:
        there = ", ".join(series.uid for series in study.ct) or "none"
        raise LunaError(f"study {uid}: no CT series {series_uid}; expected one of {there}")
    return replace(study, series=asked)


def _diagnose_one(server: Server, uid: str, stages: Progress, options: _One) -> list[str]:
    """What is told of it, in lines."""
    from p2ch_luna.cli._findings import as_text
    from p2ch_luna.serve.dicomweb.study import diagnosed, fetched

    study, output = _study(server, uid, options["series_uid"]), options["output"]
    if output:
        _check_output(output, [series.uid for series in study.ct])
    diagnose = _diagnose(options, stages)
    with TemporaryDirectory(prefix="luna-") as temporary:
        results = output or Path(temporary, "results")
        with fetched(server, study, stages) as scan:
            report = diagnosed(_into_its_own(diagnose) if output else diagnose, scan, results)
        lines = as_text(report, output).splitlines()
        return lines if options["no_store"] else [*lines, *_stored(server, report, results, stages)]


def _into_its_own(diagnose: Diagnose) -> Diagnose:
    """The same where the folder holds no results of another series of the study."""
    from p2ch_luna.io.dicom import choose_series

    def checked(scan: Path, results: Path) -> Report:
        _check_output(results, [choose_series(scan).found[0].series_uid])
        return diagnose(scan, results)

    return checked


def _check_output(output: Path, series_uids: Collection[str]) -> None:
    """Raise LunaError where a folder holds results of another series than these: they would be lost."""
    from p2ch_luna.report.outputs import REPORT, check_folder

    check_folder(output)
    try:
        held = json.loads((output / REPORT).read_text(encoding="utf-8"))["scan"]["series_uid"]
    except (FileNotFoundError, NotADirectoryError):
        return
    except (LookupError, TypeError):  # of another version
        held = "of no name"
    if held not in series_uids:
        raise LunaError(f"{output}: holds the results of series {held}; wanted another folder")


def _stored(server: Server, report: Report, results: Path, stages: Progress) -> list[str]:
    """What is told of SEG and SR, in lines."""
    from p2ch_luna.serve.dicomweb.study import store

    if not report.is_searched:
        return ["nothing is stored: no lungs were found"]
    stages.stage("storing")
    told = {True: "stored in", False: "is already in"}
    return [f"{each.kind} {told[each.is_new]} {server.url}" for each in store(server, report, results)]
