"""Whether a scan was diagnosed already: from the same files, by the same networks, with the same settings."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing
from p2ch_luna.io.find_scans import FoundScan
from p2ch_luna.io.whole import files_of
from p2ch_luna.io.zipped import zip_members
from p2ch_luna.report.many.summary import Row, row_of
from p2ch_luna.report.outputs import REPORT, check_folder
from p2ch_luna.report.schema import Report

RECORD = "done.json"  # beside the report


class _Record(BaseModel):
    """What a report was made from; it holds for that report alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: str  # see `input_digest`
    job: str  # a `Job`'s fingerprint
    report: str  # SHA-256 of its file
    seconds: float


def input_digest(scan: FoundScan) -> str:
    """Hex digits that change with the names, sizes and times of a scan's files; no content is read.

    Raises LunaError where the files are not there.
    """
    try:
        return hashlib.blake2b(ascii(_facts_of(scan)).encode(), digest_size=20).hexdigest()
    except OSError as error:
        told = f"{scan.where}: cannot be read: {error.strerror}; expected a disk that every worker sees"
        raise LunaError(told) from error


def _facts_of(scan: FoundScan) -> list[tuple[str, int, int]]:
    """Name, size and time of each file."""
    if scan.member is not None:
        return [(f"{scan.member} {zip_members(scan.path)[scan.member].CRC}", *_stat(scan.path))]
    try:
        files = files_of(scan.path)
    except LunaError:
        files = [scan.path]  # its header is no good, which is told when it is read
    base = scan.path if scan.path.is_dir() else scan.path.parent
    return [(str(file.relative_to(base)), *_stat(file)) for file in files]


def _stat(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def find_done(scan: FoundScan, folder: Path, job: str) -> Row | None:
    """The row of a scan whose whole results are in `folder`, made by a job of this fingerprint; else None."""
    try:
        record = _Record.model_validate_json((folder / RECORD).read_bytes())
        text = (folder / REPORT).read_bytes()
        if (record.job, record.report) != (job, hashlib.sha256(text).hexdigest()):
            return None
        report = Report.model_validate_json(text)
        if record.input != input_digest(scan) or not all((folder / f).is_file() for f in report.files):
            return None
    except (OSError, ValidationError, LunaError):
        return None  # whatever is not whole is made anew
    return row_of(scan, report, record.seconds)


def forget(folder: Path) -> None:
    """Take the record away before other results come into its folder."""
    (folder / RECORD).unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Remove the report in a folder and all files of it; files of another origin stay. Raises OSError."""
    if not folder.is_dir():
        return
    forget(folder)
    with suppress(LunaError):  # what is there is not of a diagnosis: nothing to remove
        for name in (*check_folder(folder), REPORT):
            (folder / name).unlink(missing_ok=True)


def remember(folder: Path, digest: str, job: str, seconds: float) -> None:
    """Note that the report in a folder is whole, and of what. Raises LunaError where that is impossible."""
    report = hashlib.sha256((folder / REPORT).read_bytes()).hexdigest()
    record = _Record(input=digest, job=job, report=report, seconds=round(seconds, 3))
    with replacing(folder / RECORD) as temporary:
        temporary.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
