"""A study of a DICOMweb server, from its images there to the SEG and SR beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from p2ch_luna.errors import LunaError, told
from p2ch_luna.inference.detector import Progress
from p2ch_luna.io.dicom_choice import elsewhere
from p2ch_luna.report.dicom.sources import MANUFACTURER
from p2ch_luna.report.outputs import SEGMENTATION, STRUCTURED_REPORT
from p2ch_luna.report.schema import Report
from p2ch_luna.serve.dicomweb.client import Series, Server

Diagnose = Callable[[Path, Path], Report]  # of a folder of DICOM, into a folder of results


class GoneError(LunaError):
    """What was diagnosed is not on the server any more."""


class UnforeseenError(LunaError):
    """A diagnosis failed in a way of which nobody knows whether the scan or the machine is at fault."""


@dataclass(frozen=True)
class Study:
    """A study and its series, as the server lists them."""

    uid: str
    series: tuple[Series, ...]

    @property
    def ct(self) -> tuple[Series, ...]:
        """The series that images of a scanner are in; SEG, SR and the like are not."""
        return tuple(series for series in self.series if series.modality == "CT")

    @property
    def elsewhere(self) -> str | None:
        """The parts of the body that are shown, if each series says so and none shows a chest."""
        parts = {elsewhere(series.body_part) for series in self.ct}
        named = sorted(part for part in parts if part)
        return ", ".join(named) if named and None not in parts else None

    @property
    def counts(self) -> dict[str, str]:
        """Of the images of each CT series, in no order."""
        return {series.uid: series.count for series in self.ct}


@dataclass(frozen=True)
class Stored:
    """An object that the server has now."""

    kind: str  # SEG or SR
    is_new: bool  # False: it had it already


def find_study(server: Server, uid: str) -> Study:
    """The study, without series if it is not there. The images of CT series are counted."""
    found = server.series(uid)
    uncounted = [series for series in found if series.modality == "CT" and not series.count]
    counts = {series.uid: str(len(server.instances(uid, series.uid))) for series in uncounted}
    return Study(uid, tuple(replace(each, count=counts.get(each.uid, each.count)) for each in found))


def is_reported(server: Server, study: Study) -> bool:
    """Whether the study has an SR by this package: the last that is stored of a diagnosis."""
    return any(
        (series.manufacturer or server.manufacturer(study.uid, series.uid)) == MANUFACTURER
        for series in study.series
        if series.modality == "SR"
    )


@contextmanager
def fetched(server: Server, study: Study, progress: Progress, within: Path | None = None) -> Iterator[Path]:
    """The CT images of a study, in a folder that is there within the block.

    within: where that folder is made; the system's place for such folders if None. Raises LunaError where
    there is no CT, or an image cannot be fetched or written.
    """
    if not study.ct:
        raise LunaError(f"{server.url}: no CT series of study {study.uid}; expected one")
    try:
        with TemporaryDirectory(prefix="luna-", dir=within) as temporary:
            folder = Path(temporary, study.uid)
            folder.mkdir()
            _fetch(server, study, folder, progress)
            yield folder
    except OSError as error:
        raise LunaError(f"study {study.uid}: cannot be written: {error.strerror or error}") from error


def _fetch(server: Server, study: Study, folder: Path, progress: Progress) -> None:
    wanted = [(series.uid, uid) for series in study.ct for uid in server.instances(study.uid, series.uid)]
    progress.stage("fetching", len(wanted))
    for number, (series_uid, uid) in enumerate(wanted):
        server.fetch(study.uid, series_uid, uid, folder / f"{number:06d}.dcm")
        progress.advance()


def diagnosed(diagnose: Diagnose, scan: Path, results: Path) -> Report:
    """Diagnose a fetched study.

    Raises LunaError, whatever goes wrong: its text is of no patient. It is caused by the OSError if there is
    one, and an UnforeseenError if nobody knows why.
    """
    try:
        return diagnose(scan, results)
    except LunaError as error:
        text = str(error).replace(str(scan), f"study {scan.name}")
        raise LunaError(text) from (error.__cause__ or error)
    except Exception as error:  # of any kind: a traceback may quote a header
        kind = LunaError if isinstance(error, OSError) else UnforeseenError
        raise kind(f"study {scan.name}: the diagnosis failed: {told(error)}") from error


def store(server: Server, report: Report, results: Path) -> tuple[Stored, ...]:
    """Store the SEG, if there is one, then the SR that refers to it; what is there already stays as it is.

    Raises GoneError where the series is not there any more, which would come back as a study of findings
    alone, LunaError where there is no SR, or one cannot be stored.
    """
    if STRUCTURED_REPORT not in report.files:
        raise LunaError(f"{report.scan.name}: {(*report.warnings, 'no SR was made')[-1]}; nothing is stored")
    read = report.scan.series[0]
    if read.series_uid not in {series.uid for series in server.series(read.study_uid)}:
        raise GoneError(f"study {read.study_uid}: it is gone from the server; nothing is stored")
    kinds = {SEGMENTATION: "SEG", STRUCTURED_REPORT: "SR"}
    return tuple(
        Stored(kind, server.store(results / name)) for name, kind in kinds.items() if name in report.files
    )
