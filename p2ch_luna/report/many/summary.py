"""What came of many scans: a row each in summary.csv, their detections in one table, and what failed."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from p2ch_luna.files import replacing
from p2ch_luna.io.find_scans import FoundScan
from p2ch_luna.io.tables import DETECTION_COLUMNS, UID
from p2ch_luna.report.outputs import DETECTIONS
from p2ch_luna.report.schema import Report

SUMMARY, SERIES_UIDS = "summary.csv", "seriesuids.csv"


@dataclass(frozen=True)
class Row:
    """What came of one scan; the fields are the columns of summary.csv.

    name: of its folder of results.    findings: None where nothing was searched.
    largest_mean_diameter_mm, highest_…: of its findings; None without any, as where the scan failed.
    seconds: from its file to its results.    error: empty where it went well.
    """

    name: str
    scan: str
    series_uid: str = ""
    findings: int | None = None
    largest_mean_diameter_mm: float | None = None
    highest_probability: float | None = None
    highest_suspicion: float | None = None
    warnings: int | None = None
    seconds: float | None = None
    error: str = ""

    @property
    def text(self) -> str:
        """In a line of a log."""
        if self.error:
            return f"{self.name}: failed: {self.error}"
        count = f"{self.findings} finding" + ("s" if self.findings != 1 else "")
        if self.findings is None:
            count = "not searched, as no lungs were found"
        return f"{self.name}: {count}, {self.seconds:.1f} s"


def row_of(scan: FoundScan, report: Report, seconds: float) -> Row:
    """The row of a scan that went well."""
    found = report.findings
    suspicions = [f.malignancy_probability for f in found if f.malignancy_probability is not None]
    return Row(
        name=scan.name,
        scan=scan.where,
        series_uid=report.scan.series_uid,
        findings=len(found) if report.is_searched else None,
        largest_mean_diameter_mm=max((f.mean_diameter_mm for f in found), default=None),
        highest_probability=max((f.nodule_probability for f in found), default=None),
        highest_suspicion=max(suspicions, default=None),
        warnings=len(report.warnings),
        seconds=round(seconds, 3),
    )


def failed(scan: FoundScan, reason: str) -> Row:
    """The row of a scan of which there is no report, its reason in one line."""
    text = reason.encode(errors="backslashreplace").decode()  # the names of some files are not UTF-8
    return Row(scan.name, scan.where, error=" ".join(text.split()) or "no reason given")


def write_summary(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows, ordered by name. Raises LunaError where that is impossible."""
    names = [field.name for field in fields(Row)]
    cells = [[_cell(getattr(row, name)) for name in names] for row in _by_name(rows)]
    _write(path, [names, *cells])


def is_summary(path: Path) -> bool:
    """Whether a file is what `write_summary` has written, of whatever version."""
    try:
        with path.open("rb") as file:
            return file.readline(1000).startswith(b"name,scan,")
    except OSError:
        return False  # also where there is none


def write_joined(output: Path, rows: Sequence[Row]) -> None:
    """Write detections.csv and seriesuids.csv of all scans that went well, as `luna evaluate` takes them.

    Where several scans have one series uid, as files of one name in several folders have, the scans' names
    stand in its place. Raises LunaError where a file cannot be written.
    """
    good = [row for row in _by_name(rows) if not row.error]
    counts = Counter(row.series_uid for row in good)
    uids = {row.name: row.series_uid if counts[row.series_uid] == 1 else row.name for row in good}
    _write(output / SERIES_UIDS, [[UID], *([uid] for uid in uids.values())])
    _write(output / DETECTIONS, _joined(output, uids))


def _joined(output: Path, uids: dict[str, str]) -> Iterator[Sequence[str]]:
    """The rows of all tables, one table at a time in memory."""
    yield DETECTION_COLUMNS
    for name, uid in uids.items():
        with (output / name / DETECTIONS).open(encoding="utf-8", newline="") as file:
            for _, *cells in list(csv.reader(file))[1:]:
                yield [uid, *cells]


def failures_text(rows: Sequence[Row]) -> str:
    """A line for each scan that failed, under its count; empty where none did."""
    lost = [row for row in _by_name(rows) if row.error]
    if not lost:
        return ""
    width = max(len("name"), *(len(row.name) for row in lost))
    head = f"{len(lost)} of {len(rows)} scans failed"
    return "\n".join(
        [head, f"{'name':{width}}  what is wrong", *(f"{r.name:{width}}  {r.error}" for r in lost)]
    )


def _by_name(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.name)


def _cell(value: str | float | None) -> str:
    return "" if value is None else str(value)


def _write(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """A path may hold bytes that are no text, which are written as a backslash and their number."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="", errors="backslashreplace") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows(rows)
