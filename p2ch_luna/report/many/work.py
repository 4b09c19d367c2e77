"""What a worker of many scans does, whichever engine runs it."""

from __future__ import annotations

import ctypes
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import SimpleITK as sitk  # noqa: N813
import torch

from p2ch_luna.errors import LunaError, told
from p2ch_luna.files import unfinished
from p2ch_luna.io.find_scans import FoundScan, on_disk
from p2ch_luna.report.many.records import discard, forget, input_digest, remember
from p2ch_luna.report.many.summary import Row, failed, row_of
from p2ch_luna.report.schema import Report

DiagnoseOne = Callable[[Path, Path], Report]  # of a scan, into a folder


class Job(Protocol):
    """What is done with each scan; it is sent to every worker."""

    @property
    def fingerprint(self) -> str:
        """Hex digits that change with all that decides on the results but the scan."""

    @property
    def device(self) -> str:
        """What the networks compute on: cpu, cuda or mps."""

    def load(self) -> DiagnoseOne:
        """Called once in each worker, its threads set. A LunaError ends the work on all scans."""


class Task(NamedTuple):
    """One scan, and the folder of its results."""

    scan: FoundScan
    folder: Path


class Worker:
    """Diagnoses one scan after the other with networks that are loaded once."""

    def __init__(self, job: Job, threads: int) -> None:
        self._job, self._threads = job, threads
        self._diagnose: DiagnoseOne | None = None

    def attempt(self, task: Task) -> Row | LunaError:
        """What came of a scan, in a row, whatever it was; a LunaError where there are no networks."""
        try:
            self._diagnose = self._diagnose or self._load()
        except LunaError as error:
            return error
        except Exception as error:  # in a process of its own nobody else would tell
            return LunaError(f"the networks cannot be loaded: {told(error)}")
        try:
            return _diagnose(task, self._diagnose, self._job.fingerprint)
        except LunaError as error:
            return lost(task, str(error))
        except Exception as error:  # of any kind: the other scans go on, and the row of this one says it
            return lost(task, told(error))
        finally:
            give_memory_back()

    def _load(self) -> DiagnoseOne:
        torch.set_num_threads(self._threads)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(self._threads)
        return self._job.load()


def _diagnose(task: Task, diagnose: DiagnoseOne, fingerprint: str) -> Row:
    start = time.perf_counter()
    digest = input_digest(task.scan)
    forget(task.folder)
    with on_disk(task.scan) as path:
        report = diagnose(path, task.folder)
    seconds = time.perf_counter() - start
    remember(task.folder, digest, fingerprint, seconds)
    return row_of(task.scan, report, seconds)


def give_memory_back() -> None:
    """Return to the system what glibc keeps of freed arrays: in pieces, it grows from scan to scan."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)


def lost(task: Task, reason: str) -> Row:
    """The row of a scan that failed; no earlier results of it stay, nor what was begun."""
    try:
        discard(task.folder)
    except OSError as error:
        reason = f"{reason}; and its older results cannot be removed: {error.strerror}"
    sweep(task.folder)
    return failed(task.scan, reason)


def sweep(folder: Path) -> None:
    """Remove what a killed worker has left of a scan: results that it had not moved in."""
    for path in unfinished(folder):
        shutil.rmtree(path, ignore_errors=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
