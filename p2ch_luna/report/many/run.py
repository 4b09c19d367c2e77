"""Diagnose many scans: each in a folder of its own, what is done is not done again, and a table of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from p2ch_luna.io.find_scans import FoundScan
from p2ch_luna.processes import terminable
from p2ch_luna.report.countdown import ToGo
from p2ch_luna.report.many.engines import in_processes
from p2ch_luna.report.many.on_ray import in_ray
from p2ch_luna.report.many.place import held
from p2ch_luna.report.many.records import find_done
from p2ch_luna.report.many.summary import SUMMARY, Row, failures_text, write_joined, write_summary
from p2ch_luna.report.many.work import Job, Task

EngineName = Literal["plain", "ray"]
Engine = Callable[[Sequence[Task], Job, int | None, int | None], Generator[Row]]
Hear = Callable[[Row, str], None]

ENGINES: dict[EngineName, Engine] = {"plain": in_processes, "ray": in_ray}
ENGINE_NAMES: tuple[EngineName, ...] = get_args(EngineName)
REWRITE_SECONDS = 5.0  # at most so often is the summary written while the work goes on


@dataclass(frozen=True)
class ManyDone:
    """What came of all scans."""

    output: Path
    rows: tuple[Row, ...]
    n_before: int  # of the rows: done by an earlier run
    seconds: float

    @property
    def n_failed(self) -> int:
        """Of the rows."""
        return sum(bool(row.error) for row in self.rows)

    @property
    def text(self) -> str:
        """Counts, what failed, and where everything is."""
        n_new = len(self.rows) - self.n_before - self.n_failed
        findings = sum(row.findings or 0 for row in self.rows)
        lines = [
            f"{len(self.rows)} scan{'s' * (len(self.rows) != 1)}: {n_new} diagnosed in {self.seconds:.1f} s, "
            f"{self.n_before} before, "
            f"{self.n_failed} failed; {findings} findings",
            *filter(None, [failures_text(self.rows)]),
            f"written: {self.output}/{SUMMARY}, detections.csv, seriesuids.csv, and a folder for each scan",
        ]
        return "\n".join(lines)


def diagnose_many(
    scans: Sequence[FoundScan],
    output: Path,
    job: Job,
    *,
    engine: EngineName = "plain",
    workers: int | None = None,
    threads: int | None = None,
    again: bool = False,
    hear: Hear = lambda _row, _line: None,
) -> ManyDone:
    """Diagnose each scan into the folder of its name in `output`, and write the tables of all.

    A scan whose name is another than last time, as `FoundScan.name` may be, is done anew into another folder.
    workers: processes, or Ray's actors; as many as fit if None.    threads: of each; its share if None.
    again: also what is done already.    hear: called with each row, and a line for a log with what is to go.
    SIGTERM is a KeyboardInterrupt, as Ctrl-C is; what is done by then stays, and is in summary.csv.
    Raises LunaError where the networks cannot be loaded, and where the output cannot be written, is in use,
    or holds the scans or tables of another origin.
    """
    start, fingerprint = time.monotonic(), job.fingerprint
    tasks = [Task(replace(scan, path=scan.path.absolute()), output.absolute() / scan.name) for scan in scans]
    with held(output, scans):
        rows = [] if again else _done_before(tasks, fingerprint)
        write_summary(output / SUMMARY, rows)  # where that is impossible, it is told before the work
        told = _Told(hear, len(tasks), len(tasks) - len(rows))
        for row in rows:
            told.before(row)
        n_before, known = len(rows), {row.name for row in rows}
        left = [task for task in tasks if task.scan.name not in known]
        if left:
            _run(ENGINES[engine](left, job, workers, threads), output, rows, told)
        write_joined(output, rows)
    return ManyDone(output, tuple(rows), n_before, time.monotonic() - start)


def _done_before(tasks: Sequence[Task], fingerprint: str) -> list[Row]:
    rows = (find_done(task.scan, task.folder, fingerprint) for task in tasks)
    return [row for row in rows if row is not None]


def _run(outcomes: Generator[Row], output: Path, rows: list[Row], told: _Told) -> None:
    """Add the outcomes to the rows; whatever ends this, the summary has all rows there are."""
    written = time.monotonic()
    try:
        with terminable():
            for row in outcomes:
                rows.append(row)
                told.now(row)
                if time.monotonic() - written > REWRITE_SECONDS:
                    write_summary(output / SUMMARY, rows)
                    written = time.monotonic()
    finally:
        outcomes.close()  # which ends its processes
        write_summary(output / SUMMARY, rows)


class _Told:
    """Counts what is done and says how long the rest takes."""

    def __init__(self, hear: Hear, n_all: int, n_new: int) -> None:
        self._hear, self._n_all, self._n = hear, n_all, 0
        self._to_go = ToGo(n_new)

    def before(self, row: Row) -> None:
        """A scan that was done already."""
        self._n += 1
        self._hear(row, f"{self._n}/{self._n_all} {row.text}, done before")

    def now(self, row: Row) -> None:
        """A scan that was not."""
        self._n += 1
        self._hear(row, f"{self._n}/{self._n_all} {row.text}; to go {self._to_go.after_one()}")
