"""Series, SEG and SR go into a real PACS and come out of it as they were."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

pytestmark = pytest.mark.slow
BOUNDARY = "between-the-instances"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
NAME = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@dataclass(frozen=True)
class Orthanc:
    """A DICOM server that listens on this machine alone."""

    url: str

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """The answer to a GET, or to a POST where there is a body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, named)
        with urllib.request.urlopen(request, timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def json(self, path: str, body: bytes | None = None, **headers: str) -> Any:
        return json.loads(self.ask(path, body, **headers))


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """A new and empty one with DICOMweb, stopped at the end."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None or not PLUGIN.is_file():
        pytest.fail("Orthanc with its DICOMweb plugin is not installed; run scripts/install_test_tools.sh")
    folder = tmp_path_factory.mktemp("orthanc")
    port = free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log)
        try:
            server = Orthanc(f"http://127.0.0.1:{port}")
            wait_for(server, process, folder / "log")
            yield server
        finally:
            process.terminate()
            process.wait(30)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def wait_for(server: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        try:
            server.ask("/system")
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    pytest.fail(f"Orthanc does not answer: {log.read_text(encoding='utf-8')[-2000:]}")


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
