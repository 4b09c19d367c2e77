"""An attempt at a job: its results, its stages, and what a client is told where it fails."""

from __future__ import annotations

import errno
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast
from uuid import uuid4

import numpy as np
import pydicom
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.io import write_ct
from p2ch_luna.report.outputs import REPORT
from p2ch_luna.report.schema import Report
from p2ch_luna.serve.attempt import Diagnoser
from p2ch_luna.serve.jobs import Hindered, Job, Options, Outcome
from p2ch_luna.serve.storage import SPARE_BYTES, Storage
from p2ch_luna.serve.store import JobStore
from support.diagnosed import FixedDetector, names
from support.dicom_files import with_words_for_numbers, write_dicom
from support.job_bench import claim

NUMBERS = (  # optional tags
    *("KVP", "SliceThickness", "XRayTubeCurrent", "ExposureTime", "ReconstructionDiameter"),
    *("PatientWeight", "PatientSize", "SeriesNumber", "AcquisitionNumber", "InstanceNumber", "WindowCenter"),
)
NAME = "chest of Mrs Example.mha"


class Attempts:
    """A diagnoser of a job whose scan has been uploaded."""

    def __init__(self, folder: Path, content: bytes, options: Options, suffix: str = ".mha") -> None:
        self.storage = Storage(folder)
        self.store = JobStore(self.storage.database)
        self.diagnoser = Diagnoser(cast(NoduleDetector, FixedDetector()), self.store, self.storage)
        self.job_id = uuid4().hex
        self.storage.new_upload(self.job_id).write_bytes(content)
        self.store.add(self.job_id, NAME, self.storage.adopt(self.job_id, suffix), options)

    def outcome(self) -> Outcome:
        outcome = self.answer()
        assert isinstance(outcome, Outcome)
        return outcome

    def answer(self) -> Outcome | Hindered:
        return self.diagnoser(claim(self.store))

    @property
    def job(self) -> Job:
        job = self.store.get(self.job_id)
        assert job is not None
        return job

    @property
    def results(self) -> Path:
        return self.storage.results_folder(self.job_id)


def block() -> CtVolume:
    """Of tissue in air."""
    hu = np.full((30, 32, 34), -1000, np.int16)
    hu[5:15, 8:22, 9:31] = 20
    return CtVolume("1.2.3", hu, ImageGeometry.axial((1.0, 1.0, 2.0), (10.0, 20.0, -30.0)))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("scan") / "scan.mha"
    write_ct(path, block())
    return path.read_bytes()


@pytest.fixture
def attempts(tmp_path: Path, content: bytes) -> Attempts:
    return Attempts(tmp_path / "serve", content, Options())


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Writing the page does, when other results are there already."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("p2ch_luna.report.html.page.write_html", fail)


def test_the_outcome_is_that_of_the_report(attempts: Attempts) -> None:
    outcome = attempts.outcome()
    report = Report.model_validate_json((attempts.results / REPORT).read_text(encoding="utf-8"))
    assert outcome.error is None
    assert (outcome.is_searched, outcome.n_findings) == (True, len(report.findings))
    assert outcome.warnings == report.warnings


def test_the_report_calls_the_scan_as_the_client_does(attempts: Attempts) -> None:
    attempts.outcome()
    report = Report.model_validate_json((attempts.results / REPORT).read_text(encoding="utf-8"))
    assert report.scan.name == NAME


def test_all_files_are_results_with_their_sizes(attempts: Attempts) -> None:
    results = attempts.outcome().results
    assert sorted(file.name for file in results) == names(attempts.results)
    assert all((attempts.results / file.name).stat().st_size == file.bytes for file in results)


def test_results_have_their_media_types(attempts: Attempts) -> None:
    types = {file.name: file.media_type for file in attempts.outcome().results}
    assert types["report.json"] == "application/json"
    assert types["report.html"] == "text/html"
    assert types["nodules.nii.gz"] == "application/gzip"
    assert types["F1-axial.png"] == "image/png"


def test_the_last_stage_is_told_before_the_answer(attempts: Attempts) -> None:
    attempts.outcome()
    stages = attempts.job.stages
    assert [stage.name for stage in stages] == [
        *("reading", "networks", "looking", "measuring", "files", "pictures", "page")
    ]
    assert all(stage.seconds is not None for stage in stages)


def test_of_a_scan_that_is_not_searched_there_is_no_count(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = FixedDetector(1)
    diagnose = detector.__call__
    monkeypatch.setattr(
        FixedDetector,
        "__call__",
        lambda _, ct, progress: replace(diagnose(ct, progress), detections=[], regions=(), prepared=None),
    )
    outcome = attempts.outcome()
    assert (outcome.is_searched, outcome.n_findings) == (False, None)


def test_dicom_whose_numbers_are_words_is_diagnosed_as_if_they_were_not_told(tmp_path: Path) -> None:
    series = write_dicom(tmp_path / "series", block())
    for path in series.iterdir():
        header = pydicom.dcmread(path)
        with_words_for_numbers(header, *NUMBERS)
        header.save_as(path)
    archive = shutil.make_archive(str(tmp_path / "series"), "zip", series)
    outcome = Attempts(tmp_path / "serve", Path(archive).read_bytes(), Options(), ".zip").outcome()
    assert outcome.error is None
    assert {"nodules.seg.dcm", "nodules.sr.dcm"} <= {file.name for file in outcome.results}
    assert "DOE" not in outcome.model_dump_json()


def test_an_error_speaks_of_the_scan_by_its_name(tmp_path: Path) -> None:
    outcome = Attempts(tmp_path / "serve", b"ObjectType = Image\n", Options()).outcome()
    assert outcome.error is not None
    assert outcome.error.startswith(f"{NAME}: ")
    assert str(tmp_path) not in outcome.error


def test_an_operating_point_that_is_not_there_is_told_by_the_name_it_has_here(
    tmp_path: Path, content: bytes
) -> None:
    outcome = Attempts(tmp_path / "serve", content, Options(fp_per_scan=3.0)).outcome()
    assert outcome.error is not None
    assert outcome.error.startswith("fp_per_scan 3: ")


def test_a_series_of_a_volume_file_is_told(tmp_path: Path, content: bytes) -> None:
    outcome = Attempts(tmp_path / "serve", content, Options(series_uid="1.2")).outcome()
    assert outcome.error == f"{NAME}: a volume file has no series; wanted DICOM with 1.2"


def test_a_full_disk_hinders_an_attempt_and_leaves_no_half_results(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    assert attempts.answer() == Hindered("the results: cannot be written: No space left on device")
    assert not attempts.results.exists()


def test_what_fails_while_there_is_no_room_may_have_failed_by_that(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts.storage, "free_bytes", lambda: SPARE_BYTES - 1)
    fail_with(monkeypatch, LunaError("lungs.nii.gz: cannot be written: an error of ITK"))
    assert attempts.answer() == Hindered("lungs.nii.gz: cannot be written: an error of ITK")


def test_with_little_room_a_scan_is_diagnosed(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts.storage, "free_bytes", lambda: SPARE_BYTES - 1)
    assert attempts.outcome().error is None


def test_what_nobody_has_foreseen_is_told_and_logged_without_its_text(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_with(monkeypatch, ValueError("PatientName: Example^Eva"))
    error = attempts.outcome().error or ""
    assert error.startswith("the diagnosis failed: ValueError (test_attempt.py, line ")
    assert error in caplog.text
    assert "Eva" not in error + caplog.text
    assert NAME not in caplog.text


def test_progress_that_cannot_be_told_costs_no_job(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise LunaError("jobs.sqlite: disk is full")

    monkeypatch.setattr(attempts.store, "tell", fail)
    with caplog.at_level(logging.WARNING):
        assert attempts.outcome().error is None
    assert "its progress is not told: jobs.sqlite: disk is full" in caplog.text
