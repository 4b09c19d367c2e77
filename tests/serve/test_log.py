"""No patient's name comes into the output of a real server, whatever the headers of a scan say."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest

from support.dicom_files import retag, write_dicom
from support.served import ended

NAME = "DOEXJOHN"
NUMBER = 12345678  # the name takes its place in the files: nothing writes a name where numbers belong
KEYWORDS = (
    "PatientName PatientID PatientComments OtherPatientNames PatientBirthName AccessionNumber StudyID "
    "StudyDescription SeriesDescription ProtocolName InstitutionName ReferringPhysicianName OperatorsName "
    "Manufacturer ManufacturerModelName StationName ImageComments BodyPartExamined ConvolutionKernel"
)
SCANS: dict[str, dict[str, Any]] = {  # what else their headers say
    "plain": {},
    "odd": {
        "PatientBirthDate": NAME,
        "StudyDate": NAME,
        "StudyTime": NAME,
        "PatientAge": NAME,
        "KVP": NUMBER,
    },
    "uid": {"StudyInstanceUID": f"1.2.{NAME}", "FrameOfReferenceUID": NAME},
    "number": {"RescaleSlope": NUMBER},
    "place": {"ImagePositionPatient": [NUMBER, NUMBER, NUMBER]},
    "modality": {"Modality": NAME},
    "pixels": {"PixelData": NAME.encode()},
}


def zipped(folder: Path, kind: str) -> bytes:
    """A small DICOM series in whose headers, and in whose files' names, there is a name."""
    series = folder / kind / NAME
    series.mkdir(parents=True)
    with pydicom.config.disable_value_validation():
        retag(write_dicom(series), **{**dict.fromkeys(KEYWORDS.split(), NAME), **SCANS[kind]})
    path = folder / f"{kind}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in series.iterdir():
            written = file.read_bytes().replace(str(NUMBER).encode(), NAME.encode())
            archive.writestr(f"{NAME}/{NAME}-{file.name}", written)
    return path.read_bytes()


@pytest.mark.slow
def test_the_output_of_a_server_has_no_name(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "p2ch_luna", "serve", "--port", "0", "--threads", "1"]
    env = {name: value for name, value in os.environ.items() if name != "LUNA_TOKEN"}
    with (
        (tmp_path / "output").open("w", encoding="utf-8") as output,
        subprocess.Popen(
            [*command, "--folder", str(tmp_path / "served")],
            text=True,
            env=env,
            stdout=subprocess.PIPE,
            stderr=output,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            states = states_at(process.stdout.readline().split()[2], tmp_path)
            process.terminate()
            said = process.communicate(timeout=30)[0]
        finally:
            process.kill()
    said += (tmp_path / "output").read_text(encoding="utf-8")
    assert set(states.values()) == {"done", "failed"}, states
    assert said.count("attempt 1 begins") == len(SCANS)
    assert [line for line in said.splitlines() if NAME in line.upper()] == []


def states_at(url: str, folder: Path) -> dict[str, str]:
    """What becomes of all `SCANS` there."""
    with httpx.Client(base_url=url, headers={"Content-Type": "application/zip"}) as client:
        sent = {
            kind: client.post("/api/scans", params={"name": NAME}, content=zipped(folder, kind)).json()["id"]
            for kind in SCANS
        }
        states = {kind: ended(client, job_id, 120).state for kind, job_id in sent.items()}
        client.get(f"/api/jobs/{NAME}", params={"name": NAME})
        client.delete(f"/api/jobs/{sent['plain']}")
    return states
