"""A DICOMweb server, asked and told: what it answers, and the ways in which it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from p2ch_luna.errors import LunaError
from p2ch_luna.serve.dicomweb import client
from p2ch_luna.serve.dicomweb.client import Server
from p2ch_luna.serve.dicomweb.failures import (
    DeniedError,
    MissingError,
    OddAnswerError,
    UnreachableError,
    WrongServerError,
)
from support.dicomweb import FakeDicomweb

Scan = Callable[..., list[Path]]
ODD_GROUP = bytes.fromhex("00000000 04000000 01000000")  # pydicom reads a group 0000, and does not write it
IMAGE_TYPE = b"\x08\x00\x08\x00"


@pytest.mark.parametrize(
    ("most", "ignores"),
    [(10_000, set()), (3, set()), (10_000, {"offset"}), (10_000, {"limit"}), (10_000, {"limit", "offset"})],
)
def test_a_list_is_whole_however_the_server_cuts_it(
    most: int,
    ignores: set[str],
    fake: FakeDicomweb,
    server: Server,
    scan: Scan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "PAGE", 7)
    fake.send(*scan())
    fake.most, fake.ignores = most, ignores
    assert set(server.instances("1.2.3", "1.2.3.1")) == set(fake.instances)


def test_a_study_without_ct_is_not_listed_even_if_the_server_does_not_filter(
    fake: FakeDicomweb, server: Server, scan: Scan
) -> None:
    fake.send(*scan("1.2.3"), *scan("1.2.4", Modality="MR"))
    fake.listed = lambda path, _query, listed=fake.listed: listed(path, {})  # type: ignore[method-assign]
    assert server.studies() == ["1.2.3"]


def test_a_uid_that_could_be_a_path_is_not_listed(fake: FakeDicomweb, server: Server) -> None:
    fake.listed = lambda _path, query: (  # type: ignore[method-assign]
        [] if query.get("offset") != "0" else [{"0020000D": {"vr": "UI", "Value": [".."]}}]
    )
    assert server.studies() == []


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "x",
        {"0020000D": None},
        {"0020000D": {"Value": "1.2"}},
        {"0020000D": {"Value": ["1.2"]}, "00080061": 3},
    ],
)
def test_an_odd_entry_of_a_list_is_an_odd_answer(entry: object, fake: FakeDicomweb, server: Server) -> None:
    fake.listed = lambda _path, _query: [entry]  # type: ignore[method-assign, list-item]
    with pytest.raises(UnreachableError, match="no DICOMweb answer; expected the list of studies"):
        server.studies()


def test_a_study_that_is_not_there_has_no_series(fake: FakeDicomweb, server: Server) -> None:
    fake.fault = lambda _method, path: 404 if "1.2.3" in path else None
    assert server.series("1.2.3") == []


@pytest.mark.parametrize("ask", [Server.studies, lambda server: server.series("1.2.3")])
def test_a_url_without_dicomweb_is_told(
    ask: Callable[[Server], object], fake: FakeDicomweb, server: Server
) -> None:
    """Orthanc itself, one level above its DICOMweb, answers 400 to the list."""
    fake.fault = lambda _method, path: 400 if path == "studies" else 404
    with pytest.raises(
        WrongServerError, match="no DICOMweb is there; wanted a URL such as http://HOST:8042/d"
    ):
        ask(server)
    assert len(fake.asked) == 2


def test_the_lists_of_another_interface_are_no_dicomweb(fake: FakeDicomweb, server: Server) -> None:
    fake.fault = lambda _method, path: 404 if "series" in path else None
    fake.listed = lambda _path, _query: ["0a9b3153-2512774b"]  # type: ignore[method-assign, list-item]
    with pytest.raises(WrongServerError):
        server.series("1.2.3")


@pytest.mark.parametrize(
    "kind", ["multipart/related; type=application/dicom; boundary=zz", "application/dicom"]
)
def test_an_instance_comes_byte_by_byte(
    kind: str, fake: FakeDicomweb, server: Server, scan: Scan, tmp_path: Path
) -> None:
    fake.kind = kind
    fake.send(*scan())
    uid, content = next(iter(fake.instances.items()))
    fake.sent[uid] = content = content.replace(IMAGE_TYPE, ODD_GROUP + IMAGE_TYPE, 1)
    assert ODD_GROUP in content
    server.fetch("1.2.3", "1.2.3.1", uid, tmp_path / "one.dcm")
    assert (tmp_path / "one.dcm").read_bytes() == content


def test_half_an_instance_is_none(fake: FakeDicomweb, server: Server, scan: Scan, tmp_path: Path) -> None:
    fake.send(*scan())
    fake.fault = lambda _method, _path: "cut"
    with pytest.raises(UnreachableError):
        server.fetch("1.2.3", "1.2.3.1", next(iter(fake.instances)), tmp_path / "one.dcm")
    assert not (tmp_path / "one.dcm").exists()


@pytest.mark.parametrize("garble", [lambda _: b"no DICOM" * 50, lambda c: c[:132] + b"\xff" * 99])
def test_what_cannot_be_read_is_odd(
    garble: Callable[[bytes], bytes], fake: FakeDicomweb, server: Server, scan: Scan, tmp_path: Path
) -> None:
    fake.send(*scan())
    uid, content = next(iter(fake.instances.items()))
    fake.sent[uid] = garble(content)
    with pytest.raises(OddAnswerError, match=f"no whole DICOM file; expected instance {uid}"):
        server.fetch("1.2.3", "1.2.3.1", uid, tmp_path / "one.dcm")


def test_a_corrupt_uid_tells_no_patient(
    fake: FakeDicomweb, server: Server, scan: Scan, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Its length reaches into the elements that say who the patient is."""
    fake.send(*scan())
    uid, content = next(iter(fake.instances.items()))
    start = content.index(b"\x08\x00\x18\x00") + 4  # its length, as VRs are implicit
    reach = content.index(b"Yamada") + 12 - (start + 4)
    fake.sent[uid] = content[:start] + reach.to_bytes(4, "little") + content[start + 4 :]
    with pytest.raises(OddAnswerError) as told:
        server.fetch("1.2.3", "1.2.3.1", uid, tmp_path / "one.dcm")
    assert "Yamada" not in str(told.value)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, LunaError),
        (401, DeniedError),
        (403, DeniedError),
        (404, MissingError),
        (408, UnreachableError),
        (429, UnreachableError),
        (500, UnreachableError),
        (503, UnreachableError),
        (507, UnreachableError),
    ],
)
def test_a_refusal_says_whether_to_try_again(
    status: int, kind: type[LunaError], fake: FakeDicomweb, server: Server
) -> None:
    fake.fault = lambda _method, _path: status
    with pytest.raises(LunaError, match=str(status)) as refused:
        server.instances("1.2.3", "1.2.3.1")
    assert type(refused.value) is kind
    assert "Yamada" not in str(refused.value)  # which the answer says
    assert len(fake.asked) == 1


def test_a_server_that_is_not_there_is_unreachable() -> None:
    server = Server("http://127.0.0.1:9/dicom-web", {})
    with closing(server), pytest.raises(UnreachableError, match="cannot be reached"):
        server.studies()


def test_a_certificate_that_is_not_accepted_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise requests.exceptions.SSLError("self-signed")

    monkeypatch.setattr(server._session, "send", refused)
    with pytest.raises(WrongServerError, match="its certificate is not accepted; expected a trusted one"):
        server.studies()


def test_a_server_that_says_nothing_is_not_waited_for(
    fake: FakeDicomweb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", (1.0, 0.1))
    fake.fault = lambda _method, _path: time.sleep(0.4)
    with closing(Server(fake.url, {})) as server, pytest.raises(UnreachableError, match="in time"):
        server.studies()


def test_what_is_no_json_is_unreachable(fake: FakeDicomweb, server: Server) -> None:
    fake.fault = lambda _method, _path: "cut"
    with pytest.raises(UnreachableError, match="no DICOMweb answer"):
        server.studies()


def test_an_unreachable_server_is_asked_again_after_each_pause(
    fake: FakeDicomweb, caplog: pytest.LogCaptureFixture
) -> None:
    answers: Iterator[int | None] = iter([503, 503, None])
    fake.fault = lambda _method, _path: next(answers)
    pauses: list[float] = []
    with closing(Server(fake.url, {}, (1.0, 2.0, 4.0), pauses.append)) as server:
        assert server.studies() == []
    assert pauses == [1.0, 2.0]
    assert "answers 503; expected the list of studies; another try in 1 s" in caplog.text


def test_a_server_that_stays_away_is_not_waited_for_at_each_request(fake: FakeDicomweb) -> None:
    fake.fault = lambda _method, _path: 503
    pauses: list[float] = []
    with closing(Server(fake.url, {}, (1.0, 2.0), pauses.append)) as server:
        for _ in range(3):
            with pytest.raises(UnreachableError):
                server.studies()
        assert pauses == [1.0, 2.0]
        fake.fault = lambda _method, _path: None
        server.studies()
        fake.fault = lambda _method, _path: 503
        with pytest.raises(UnreachableError):
            server.studies()
    assert pauses == [1.0, 2.0] * 2


def test_what_is_stored_is_there_byte_by_byte(fake: FakeDicomweb, server: Server, scan: Scan) -> None:
    path = scan()[0]
    assert server.store(path)
    assert list(fake.instances.values()) == [path.read_bytes()]


def test_what_is_there_is_not_stored_again(fake: FakeDicomweb, server: Server, scan: Scan) -> None:
    path = scan()[0]
    fake.send(path)
    assert not server.store(path)
    assert "POST" not in [method for method, _ in fake.asked]


@pytest.mark.parametrize("status", [200, 202, 409])
@pytest.mark.parametrize(("reason", "kind"), [(0x0110, LunaError), (0xA700, UnreachableError)])
def test_an_instance_that_is_not_stored_is_told(
    reason: int, kind: type[LunaError], status: int, fake: FakeDicomweb, server: Server, scan: Scan
) -> None:
    fake.refused_reason, fake.refusal_status = reason, status
    with pytest.raises(LunaError, match=f"0x{reason:04X}") as refused:
        server.store(scan()[0])
    assert type(refused.value) is kind


def test_a_conflict_without_a_reason_is_told(fake: FakeDicomweb, server: Server, scan: Scan) -> None:
    fake.fault = lambda method, _path: 409 if method == "POST" else None
    with pytest.raises(LunaError, match="answers 409; expected to store instance") as refused:
        server.store(scan()[0])
    assert type(refused.value) is LunaError


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_answer_that_says_nothing_is_checked(
    is_kept: bool, fake: FakeDicomweb, server: Server, scan: Scan
) -> None:
    def store(body: bytes, store: Callable[[bytes], object] = fake.store) -> dict[str, object]:
        if is_kept:
            store(body)
        return {}

    fake.store = store  # type: ignore[method-assign]
    if is_kept:
        assert server.store(scan()[0])
    else:
        with pytest.raises(UnreachableError, match="does not have it"):
            server.store(scan()[0])


def test_a_server_that_dies_once_it_has_stored_is_not_sent_it_twice(
    fake: FakeDicomweb, server: Server, scan: Scan
) -> None:
    path = scan()[0]
    fake.fault = lambda method, _path: "cut" if method == "POST" else None
    with pytest.raises(UnreachableError):
        server.store(path)
    assert not server.store(path)
