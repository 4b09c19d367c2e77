"""A real DICOM server, which can be killed and started again with what it has stored."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class Orthanc:
    """Orthanc with DICOMweb that listens on this machine alone. Its storage stays from start to start."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
        if program is None or not PLUGIN.is_file():
            pytest.fail(
                "Orthanc with its DICOMweb plugin is not installed; run scripts/install_test_tools.sh"
            )
        port = free_port()
        self.url, self.dicomweb = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/dicom-web"
        self._log, self._settings = folder / "log", folder / "orthanc.json"
        self._settings.write_text(json.dumps(settings(folder / "storage", port)), encoding="utf-8")
        self._command = [program, str(self._settings)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        for _ in range(300):
            try:
                self.ask("/system")
                return
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.1)
        pytest.fail(f"Orthanc does not answer: {self._log.read_text(encoding='utf-8')[-2000:]}")

    def stop(self) -> None:
        """In good order, if it runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """The answer to a GET, or to a POST where there is a body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, named)
        with urllib.request.urlopen(request, timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def json(self, path: str, body: bytes | None = None, **headers: str) -> Any:
        return json.loads(self.ask(path, body, **headers))

    def send(self, *paths: Path) -> None:
        """Store DICOM files, by Orthanc's own way."""
        for path in paths:
            self.ask("/instances", path.read_bytes())

    def files(self, modality: str) -> list[bytes]:
        """All instances of a modality that it has."""
        series = [self.json(f"/series/{name}") for name in self.json("/series")]
        names = [
            name
            for each in series
            if each["MainDicomTags"]["Modality"] == modality
            for name in each["Instances"]
        ]
        return [self.ask(f"/instances/{name}/file") for name in names]


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """A new and empty one, stopped at the end."""
    server = Orthanc(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def settings(storage: Path, port: int) -> dict[str, Any]:
    return {
        "StorageDirectory": str(storage),
        "IndexDirectory": str(storage),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
