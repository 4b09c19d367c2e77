"""Series, SEG and SR go into a real PACS and come out of it as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from support.orthanc import Orthanc, running

pytestmark = pytest.mark.slow
BOUNDARY = "between-the-instances"
NAME = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


def japanese(header: Dataset) -> None:
    """Another patient, study and series than that of `case`."""
    header.StudyInstanceUID, header.SeriesInstanceUID = "1.2.4.1", "1.2.4"
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID + ".1"
    header.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    header.PatientName = NAME
    header.PatientID = "JP-1"


@pytest.fixture(scope="module")
def sent_by_rest(orthanc: Orthanc, case: Any) -> dict[Path, str]:
    """Orthanc's name of each instance."""
    paths = (*case.files, case.seg, case.sr)
    return {path: orthanc.json("/instances", path.read_bytes())["ID"] for path in paths}


def stow(orthanc: Orthanc, paths: tuple[Path, ...]) -> Any:
    """DICOMweb's answer to a request to store them all."""
    start = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(start + path.read_bytes() + b"\r\n" for path in paths) + f"--{BOUNDARY}--\r\n".encode()
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    return orthanc.json("/dicom-web/studies", body, Content_Type=kind, Accept="application/dicom+json")


def test_what_was_sent_comes_back_byte_by_byte(orthanc: Orthanc, sent_by_rest: dict[Path, str]) -> None:
    for path, name in sent_by_rest.items():
        assert orthanc.ask(f"/instances/{name}/file") == path.read_bytes()


def test_all_three_series_are_in_one_study(
    orthanc: Orthanc, case: Any, sent_by_rest: dict[Path, str]
) -> None:
    study = orthanc.json(f"/instances/{sent_by_rest[case.seg]}/study")
    series = [orthanc.json(f"/series/{name}")["MainDicomTags"]["Modality"] for name in study["Series"]]
    assert sorted(series) == ["CT", "SEG", "SR"]


def test_dicomweb_stores_and_finds_them(orthanc: Orthanc, changed: Callable[..., Any]) -> None:
    case = changed(japanese)
    paths = (*case.files, case.seg, case.sr)
    answer = stow(orthanc, paths)
    assert "Value" not in answer["00081198"]  # the sequence of those that failed
    assert len(answer["00081199"]["Value"]) == len(paths)
    found = orthanc.json("/dicom-web/series?PatientID=JP-1", Accept="application/dicom+json")
    assert sorted(series["00080060"]["Value"][0] for series in found) == ["CT", "SEG", "SR"]


@pytest.mark.parametrize("kind", ["seg", "sr"])
def test_dicomweb_gives_back_what_was_stored(orthanc: Orthanc, case: Any, kind: str) -> None:
    path = getattr(case, kind)
    stow(orthanc, (path,))
    written = pydicom.dcmread(path)
    where = (
        f"{written.StudyInstanceUID}/series/{written.SeriesInstanceUID}/instances/{written.SOPInstanceUID}"
    )
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    parts = orthanc.ask(f"/dicom-web/studies/{where}", Accept=accept)
    assert path.read_bytes() in parts


@pytest.mark.parametrize("kind", ["seg", "sr"])
def test_the_server_shows_the_japanese_name(orthanc: Orthanc, changed: Callable[..., Any], kind: str) -> None:
    path = getattr(changed(japanese), kind)
    name = orthanc.json("/instances", path.read_bytes())["ID"]
    assert orthanc.json(f"/instances/{name}/simplified-tags")["PatientName"] == NAME
