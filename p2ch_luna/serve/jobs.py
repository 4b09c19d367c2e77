"""A job: one uploaded scan on its way to its results, as clients of the API see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from pydantic import Field

from p2ch_luna.frozen import Frozen

State = Literal["queued", "running", "done", "failed"]
STATES: tuple[State, ...] = get_args(State)
ID_PATTERN = r"^[0-9a-f]{32}$"
MAX_NAME = 120  # characters


class Stage(Frozen):
    """One stage of a diagnosis: under way, or done."""

    name: str = Field(examples=["segmentation"])
    fraction: float | None = Field(None, ge=0, le=1)  # None: how far it is cannot be told
    seconds: float | None = None  # it took; None: it is under way


class ResultFile(Frozen):
    """A file to download."""

    name: str = Field(examples=["report.json"])
    bytes: int
    media_type: str = Field(examples=["application/json"])


class Job(Frozen):
    """One scan and what has become of it. Times are UTC."""

    id: str = Field(pattern=ID_PATTERN)
    name: str  # what who uploaded it calls the scan
    state: State
    position: int | None = None  # in the queue, from 1; None: it does not wait
    attempts: int = 0  # how often it was begun
    stages: tuple[Stage, ...] = ()  # of the attempt under way, or of the last
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    expires: datetime | None = None  # when it will be removed with its results; None: it has not ended
    error: str | None = None  # why it failed, in one line
    is_searched: bool | None = None  # False: no lungs were found, so nothing was searched; None: not done
    n_findings: int | None = None
    warnings: tuple[str, ...] = ()
    results: tuple[ResultFile, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it, but that it expires."""
        return self.state in ("done", "failed")


class Options(Frozen):
    """What a client may ask for beside the scan."""

    fp_per_scan: float | None = None  # the operating point; as `diagnose` takes it
    series_uid: str | None = None  # the DICOM series to read


@dataclass(frozen=True)
class Claim:
    """A job that is to be done now."""

    job_id: str
    attempt: int  # from 1
    name: str
    scan: str  # the name of the uploaded file in the job's folder
    options: Options


class Outcome(Frozen):
    """What came of an attempt, and will stay.

    error: why there are no results, fit to be shown to the client; None: there are.
    """

    error: str | None = None
    is_searched: bool | None = None
    n_findings: int | None = None
    warnings: tuple[str, ...] = ()
    results: tuple[ResultFile, ...] = ()


@dataclass(frozen=True)
class Hindered:
    """An attempt came to nothing, and another may come to results: the disk was full.

    reason: fit to be shown to the client.
    """

    reason: str


Diagnose = Callable[[Claim], Outcome | Hindered]  # what a worker does with a job
