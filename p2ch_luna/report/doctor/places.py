"""Where files are written: whether that can be done, and how much room there is."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from p2ch_luna.report.doctor.remark import Remark, gib

RESULTS_BYTES = 1 << 30  # of a large scan, with room to spare
UNPACKED_BYTES = 2 << 30  # the same of a zip
GONE = Remark(
    "this folder", "problem", "has been removed: nothing can be loaded from here", "cd to another folder"
)


class Place(NamedTuple):
    """A folder that something is written to."""

    subject: str
    find: Callable[[], Path]
    used_for: str
    advice: str
    wanted_bytes: int = 0


def places() -> Iterator[Remark]:
    """A remark on each place; one that cannot be found is one more."""
    for place in PLACES:
        try:
            yield remark_on(place, place.find())
        except (OSError, RuntimeError) as error:  # no folder for temporary files, no home
            yield Remark(place.subject, "note", f"{error}; {place.used_for}", place.advice)


def remark_on(place: Place, folder: Path) -> Remark:
    """Whether a file can be written there, by writing one that has no name. The folder is not made."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there, buffering=0) as file:
            file.write(b"\0")
    except OSError as error:
        reason = error.strerror or str(error)
        return Remark(place.subject, "note", f"{folder}: {reason}; {place.used_for}", place.advice)
    free = shutil.disk_usage(there).free
    found = f"{folder}, {gib(free)} free"
    if free < place.wanted_bytes:
        wanted = f"wanted {gib(place.wanted_bytes)}; {place.used_for}"
        return Remark(place.subject, "note", f"{found}; {wanted}", place.advice)
    return Remark(place.subject, "ok", found)


def _cache() -> Path:
    """As `io.scan_cache` has it."""
    from platformdirs import user_cache_path

    return user_cache_path("p2ch-luna") / "scans"


def _served() -> Path:
    """As `luna serve` has it."""
    from platformdirs import user_data_path

    return user_data_path("p2ch-luna") / "serve"


def _matplotlib() -> Path:
    """Where matplotlib keeps its list of fonts; it need not be loaded for that."""
    chosen = os.environ.get("MPLCONFIGDIR")
    if chosen:
        return Path(chosen).resolve()
    if sys.platform.startswith(("linux", "freebsd")):
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matplotlib"
    return Path.home() / ".matplotlib"


PLACES = (
    Place("this folder", Path.cwd, "results go here by default", "give another: -o FOLDER", RESULTS_BYTES),
    Place(
        "temporary files",
        lambda: Path(tempfile.gettempdir()),
        "zips of scans are unpacked there",
        "set TMPDIR to a folder that can be written to, with room for a scan",
        UNPACKED_BYTES,
    ),
    Place("cache", _cache, "training keeps its prepared scans there", "give another: --cache FOLDER"),
    Place("service", _served, "luna serve keeps its jobs there", "give another: luna serve --folder FOLDER"),
    Place(
        "matplotlib",
        _matplotlib,
        "without it plots take longer, and matplotlib warns",
        "set MPLCONFIGDIR to a folder that can be written to",
    ),
)
