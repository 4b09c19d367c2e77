"""A job that worker processes import: the bundled detector, and how much memory its process has."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from p2ch_luna.inference import NoduleDetector
from p2ch_luna.models.checkpoint import bundled
from p2ch_luna.report.many.job import DetectorJob
from p2ch_luna.report.outputs import Wanted
from p2ch_luna.report.schema import Report


@dataclass(frozen=True)
class RealJob:
    """The bundled detector, which also notes the MB of its process before each scan.

    pid_log: gets the process ids of those that have done one.
    """

    pid_log: Path | None = None

    @cached_property
    def _job(self) -> DetectorJob:
        weights = tuple(bundled(name) for name in ("segmentation", "nodule", "malignancy"))
        return DetectorJob(NoduleDetector.load, weights, wanted=Wanted(page=False, dicom=False))

    @property
    def fingerprint(self) -> str:
        return self._job.fingerprint

    @property
    def device(self) -> str:
        return self._job.device

    def load(self) -> Callable[[Path, Path], Report]:
        diagnose = self._job.load()

        def diagnose_and_weigh(scan: Path, folder: Path) -> Report:
            before = resident_mb()
            made = diagnose(scan, folder)
            (folder / "rss").write_text(str(before), encoding="utf-8")
            if self.pid_log is not None:
                with self.pid_log.open("a", encoding="utf-8") as file:
                    file.write(f"{os.getpid()}\n")
            return made

        return diagnose_and_weigh


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
