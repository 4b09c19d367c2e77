"""`luna serve`: diagnosis over HTTP, with a web page."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from math import isfinite
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from p2ch_luna.cli._common import device_option, pick_device, runtime_option, threads_option
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.inference.runtime import Runtime
    from p2ch_luna.serve.service import Settings

NEEDED = ("fastapi", "uvicorn", "prometheus_client")  # of the extra
TOKEN = "LUNA_TOKEN"
MOST_GB, MOST_HOURS = 1000, 100_000  # of an upload; that results are kept


class _Options(TypedDict):
    """What the command takes beside the address."""

    folder: Path | None
    token_file: Path | None
    max_upload_gb: float
    max_waiting: int
    keep_hours: float
    device: str
    runtime: Runtime
    threads: int | None


def _finite(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    """No range keeps nan out."""
    if not isfinite(value):
        raise click.BadParameter(f"{value} is no number to count with.")
    return value


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to answer at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any that is free."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where jobs and results are kept; the user's data folder if left out.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"A file with the token that clients must have; else {TOKEN} of the environment, if it is set.",
)
@click.option(
    "--max-upload-gb",
    type=click.FloatRange(min=0, max=MOST_GB, min_open=True),
    callback=_finite,
    default=2.0,
    show_default=True,
    help="The largest scan that is taken.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Scans that may wait; more are told to come again later.",
)
@click.option(
    "--keep-hours",
    type=click.FloatRange(min=0, max=MOST_HOURS, min_open=True),
    callback=_finite,
    default=168.0,
    show_default=True,
    help="From the end of a job until its results are removed.",
)
@device_option
@runtime_option
@threads_option
def serve(host: str, port: int, **options: Unpack[_Options]) -> None:
    """Serve diagnosis over HTTP, with a web page.

    Drop a scan on the page, or POST it to /api/scans; /docs tells of the API. Scans wait in a queue on disk,
    which survives a restart, and are diagnosed one at a time. Without a token only this machine can reach the
    server. Research use only; not a medical device.

    \b
    luna serve
    luna serve --port 8080 --runtime openvino --keep-hours 24
    python -c 'import secrets; print(secrets.token_urlsafe(32))' > token; chmod 600 token
    luna serve --host 0.0.0.0 --token-file token
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise LunaError(
            f"luna serve needs the serve extra: {', '.join(missing)} is not installed; "
            "wanted pip install 'p2ch-luna[serve]'"
        )
    from p2ch_luna.serve.logs import log_to
    from p2ch_luna.serve.server import check_token, run
    from p2ch_luna.serve.service import Service

    token, source = _token(options["token_file"])
    check_token(host, token, source)
    _check_device(options["device"], options["runtime"])
    settings = _settings(options, token)
    log_to(sys.stderr)
    run(partial(Service, settings), host, port, _announce)


def _check_device(name: str, runtime: Runtime) -> None:
    """Raise LunaError if what is to compute is not there.

    Another process looks: torch takes 200 MB, and the worker alone needs it.
    """
    if name in ("auto", "cpu") and runtime == "torch":
        return  # always there
    with ProcessPoolExecutor(1, get_context("spawn")) as looking:
        looking.submit(_look_for_device, name, runtime).result()


def _look_for_device(name: str, runtime: Runtime) -> None:
    from p2ch_luna.inference.runtime import check_runtime

    check_runtime(runtime, pick_device(name))


def _announce(url: str) -> None:
    click.echo(f"listening on {url} (Ctrl-C ends it); research use only, not a medical device")


def _settings(options: _Options, token: str | None) -> Settings:
    from platformdirs import user_data_path

    from p2ch_luna.serve.service import Settings

    return Settings(
        folder=options["folder"] or user_data_path("p2ch-luna") / "serve",
        max_upload_bytes=int(options["max_upload_gb"] * 1e9),
        max_waiting=options["max_waiting"],
        keep_seconds=options["keep_hours"] * 3600,
        device=options["device"],
        runtime=options["runtime"],
        threads=options["threads"],
        token=token,
    )


def _token(file: Path | None) -> tuple[str | None, str]:
    """The token of the file, else of the environment, and where it was found."""
    if file is None:
        token = os.environ.get(TOKEN)
        return None if token is None else token.strip(), TOKEN
    try:
        return file.read_text(encoding="utf-8").strip(), str(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise LunaError(f"{file}: {reason}; expected a file with the server's token") from error
