"""A small DICOMweb server for tests: it has what real ones have, and goes wrong as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
from pydicom.dataset import Dataset

Fault = int | str | None  # a status to answer, or "cut": half an answer; None: all goes well
LEVELS = {"studies": "StudyInstanceUID", "series": "SeriesInstanceUID", "instances": "SOPInstanceUID"}
SAID = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "Modality",
    "BodyPartExamined",
    "StudyDate",
)
PARTS = "multipart/related; type=application/dicom; boundary=zz"


class FakeDicomweb:
    """Instances by UID, and how the server behaves.

    fault: of a method and path.    silent: keywords that lists do not tell.
    ignores: parameters of a list that it does not know.    most: entries of a list, whatever is asked for.
    sent: what comes in place of an instance, by its UID.    refused_reason: why nothing is stored, if so.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.instances: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.authorizations: list[str | None] = []
        self.hosts: list[str] = []
        self.sent: dict[str, bytes] = {}
        self.fault: Callable[[str, str], Fault] = lambda _method, _path: None
        self.silent: set[str] = set()
        self.ignores: set[str] = set()
        self.most = 10_000
        self.kind = PARTS
        self.refused_reason: int | None = None
        self.refusal_status = 409  # as the standard wants it where nothing at all is stored

    def send(self, *paths: Path) -> None:
        for path in sorted(paths):
            content = path.read_bytes()
            self.instances[str(header(content).SOPInstanceUID)] = content

    def of(self, modality: str) -> list[Dataset]:
        """All instances of a modality."""
        read = [pydicom.dcmread(BytesIO(content)) for content in self.instances.values()]
        return [dataset for dataset in read if dataset.Modality == modality]

    def listed(self, path: str, query: dict[str, str]) -> list[dict[str, Any]]:
        """The entries of a list, or the metadata of an instance."""
        *uids, level = path.split("/")
        wanted = {LEVELS[uids[k]]: uids[k + 1] for k in range(0, len(uids) - 1, 2)}
        wanted |= {key: value for key, value in query.items() if key == "SOPInstanceUID"}
        headers = [header(content) for content in list(self.instances.values())]
        found = [h for h in headers if all(h.get(key) == value for key, value in wanted.items())]
        if level == "metadata":
            return [h.to_json_dict() for h in found]
        groups: dict[str, list[Dataset]] = {}
        for each in found:
            groups.setdefault(str(each[LEVELS[level]].value), []).append(each)
        entries = [self._entry(own) for own in groups.values()]
        if level == "studies" and query.get("ModalitiesInStudy"):
            entries = [
                e for e in entries if query["ModalitiesInStudy"] in e.get("00080061", {}).get("Value", ["CT"])
            ]
        start = 0 if "offset" in self.ignores else int(query.get("offset", 0))
        limit = self.most if "limit" in self.ignores else min(self.most, int(query.get("limit", self.most)))
        return entries[start : start + limit]

    def _entry(self, own: list[Dataset]) -> dict[str, Any]:
        entry = Dataset()
        for keyword in (*SAID, "Manufacturer"):
            if keyword not in self.silent and keyword in own[0]:
                setattr(entry, keyword, own[0][keyword].value)
        entry.ModalitiesInStudy = sorted({h.Modality for h in own})
        entry.NumberOfSeriesRelatedInstances = len(own)
        for keyword in self.silent & {"ModalitiesInStudy", "NumberOfSeriesRelatedInstances"}:
            delattr(entry, keyword)
        return entry.to_json_dict()

    def store(self, body: bytes) -> dict[str, Any]:
        answer = Dataset()
        for part in body.split(b"\r\n--0f3cf5c0")[1:-1]:
            content = part[part.index(b"\r\n\r\n") + 4 :]
            item = Dataset()
            item.ReferencedSOPInstanceUID = header(content).SOPInstanceUID
            if self.refused_reason is not None:
                item.FailureReason = self.refused_reason
                answer.FailedSOPSequence = [item]
            else:
                self.instances[str(item.ReferencedSOPInstanceUID)] = content
                answer.ReferencedSOPSequence = [item]
        return answer.to_json_dict()


def kinds(fake: FakeDicomweb) -> list[str]:
    """Modalities of what is there beside CT."""
    return sorted(str(dataset.Modality) for kind in ("SEG", "SR") for dataset in fake.of(kind))


def header(content: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(content), stop_before_pixels=True)


@contextmanager
def serving() -> Iterator[FakeDicomweb]:
    """One that listens within the block."""
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    fake = FakeDicomweb(f"http://127.0.0.1:{listener.server_port}/dicom-web")
    listener.fake = fake  # type: ignore[attr-defined]
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield fake
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, query, fault = self._asked()
        if isinstance(fault, int):
            self._answer(b"PatientName^Yamada", "text/plain", fault)
        elif "/instances/" in path and not path.endswith("metadata"):
            fake = self._fake
            uid = path.split("/")[-1]
            body = content = fake.sent.get(uid) or fake.instances[uid]
            if fake.kind.startswith("multipart"):
                body = b"--zz\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--zz--\r\n"
            self._answer(body, fake.kind, cut=fault == "cut")
        else:
            told = json.dumps(self._fake.listed(path, query)).encode()
            self._answer(told, "application/dicom+json", cut=fault == "cut")

    def do_POST(self) -> None:
        _, _, fault = self._asked()
        body = self._body()
        if isinstance(fault, int):
            self._answer(b"PatientName^Yamada", "text/plain", fault)
        elif fault == "cut":
            self._fake.store(body)  # and dies before it says so
        else:
            status = 200 if self._fake.refused_reason is None else self._fake.refusal_status
            self._answer(json.dumps(self._fake.store(body)).encode(), "application/dicom+json", status)

    @property
    def _fake(self) -> FakeDicomweb:
        return self.server.fake  # type: ignore[attr-defined, no-any-return]

    def _asked(self) -> tuple[str, dict[str, str], Fault]:
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/dicom-web/")
        self._fake.asked.append((self.command, path))
        self._fake.authorizations.append(self.headers["Authorization"])
        self._fake.hosts.append(self.headers["Host"])
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        return path, query, self._fake.fault(self.command, path)

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, body: bytes, kind: str, status: int = 200, *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if not cut:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""
