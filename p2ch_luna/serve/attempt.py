"""One attempt at a job, in the worker process: from the uploaded scan to the folder of results."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import SimpleITK as sitk  # noqa: N813
import torch

from p2ch_luna.errors import LunaError, told
from p2ch_luna.files import DISK_IS_FULL
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.models.precision import device_of
from p2ch_luna.report.diagnose import run
from p2ch_luna.report.many.work import give_memory_back
from p2ch_luna.report.outputs import REPORT
from p2ch_luna.report.schema import Report
from p2ch_luna.report.threshold import operating_point
from p2ch_luna.serve.jobs import Claim, Hindered, Outcome, ResultFile, Stage
from p2ch_luna.serve.stages import Stages
from p2ch_luna.serve.storage import Storage
from p2ch_luna.serve.store import JobStore
from p2ch_luna.serve.worker import WorkerSettings

MEDIA_TYPES = {  # by the last suffix
    ".csv": "text/csv",
    ".dcm": "application/dicom",
    ".gz": "application/gzip",
    ".html": "text/html",
    ".json": "application/json",
    ".png": "image/png",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Diagnoser:
    """Does one job after the other with networks that are loaded once."""

    detector: NoduleDetector
    store: JobStore
    storage: Storage

    def __call__(self, claim: Claim) -> Outcome | Hindered:
        """What came of an attempt, whatever happened in it; the store has been told of its last stage."""
        stages = Stages(partial(self._tell, claim))
        try:
            report = self._diagnose(claim, stages)
            stages.end()
            return self._outcome(claim, report)
        except Exception as error:  # of any kind: the next jobs go on, and this one says it
            reason = self._reason(claim, error)
            is_hindered = _is_for_lack_of_room(error) or not self.storage.has_room()
            return Hindered(reason) if is_hindered else Outcome(error=reason)
        finally:
            give_memory_back()

    def _diagnose(self, claim: Claim, stages: Stages) -> Report:
        return run(
            lambda: self.detector,
            self.storage.scan_path(claim),
            self.storage.results_folder(claim.job_id),
            name=claim.name,
            series_uid=claim.options.series_uid,
            point=operating_point(self.detector.models, claim.options.fp_per_scan),
            progress=stages,
        )

    def _tell(self, claim: Claim, stages: Sequence[Stage]) -> None:
        try:
            self.store.tell(claim, stages)
        except LunaError as error:  # that nobody hears of its progress is no reason to lose a job
            _log.warning("job %s: its progress is not told: %s", claim.job_id, error)

    def _outcome(self, claim: Claim, report: Report) -> Outcome:
        folder = self.storage.results_folder(claim.job_id)
        return Outcome(
            is_searched=report.is_searched,
            n_findings=len(report.findings) if report.is_searched else None,
            warnings=tuple(self._without_paths(claim, warning) for warning in report.warnings),
            results=tuple(_result(folder / name) for name in (REPORT, *report.files)),
        )

    def _reason(self, claim: Claim, error: Exception) -> str:
        """Why there are no results, fit for the client."""
        if isinstance(error, LunaError):
            return self._without_paths(claim, str(error))
        _log.error("job %s: the diagnosis failed: %s", claim.job_id, told(error))
        return f"the diagnosis failed: {told(error)}"

    def _without_paths(self, claim: Claim, text: str) -> str:
        """The same in words that a client knows, in one line."""
        words = {
            str(self.storage.scan_path(claim)): claim.name,
            str(self.storage.results_folder(claim.job_id)): "the results",
            str(self.storage.folder): "the server's folder",
            "--operating-point": "fp_per_scan",
        }
        for ours, theirs in words.items():
            text = text.replace(ours, theirs)
        return " ".join(text.encode(errors="backslashreplace").decode().split())


def load(settings: WorkerSettings) -> Diagnoser:
    """Read the networks. Raises LunaError where there are none for this device and runtime."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(settings.threads)
    detector = NoduleDetector.load(device=device_of(settings.device), runtime=settings.runtime)
    storage = Storage(settings.folder)
    return Diagnoser(detector, JobStore(storage.database), storage)


def _is_for_lack_of_room(error: BaseException | None) -> bool:
    """Whether the disk was full, at the root of it. Not all libraries say so."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _result(path: Path) -> ResultFile:
    return ResultFile(name=path.name, bytes=path.stat().st_size, media_type=MEDIA_TYPES[path.suffix])
