"""What the log says, and what it must not."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from p2ch_luna.serve.logs import REPEAT_S, Seldom, log_to
from support.served import BINARY, SCAN, TOKEN, connected, ended, head, send, service_in, serving

NAME = "Doe^John"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log of a server; its loggers are as before afterwards."""
    names = ("p2ch_luna.serve", "uvicorn", "asyncio")
    before = [(logging.getLogger(name), logging.getLogger(name).handlers) for name in names]
    stream = io.StringIO()
    log_to(stream)
    yield stream
    for logger, handlers in before:
        logger.handlers, logger.propagate = handlers, True
        logger.setLevel(logging.NOTSET)


def test_the_log_has_no_name_and_no_token(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_in(tmp_path, token=TOKEN)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    headers = bytes(128) + b"DICM" + NAME.encode()  # a single DICOM file is refused

    def fail(_limit: int) -> None:
        raise ValueError(f"{NAME} {TOKEN}")

    with serving(service) as url, httpx.Client(base_url=url, headers=bearer) as client:
        ended(client, send(client, name=NAME).json()["id"])
        ended(client, send(client, name=f"fail {NAME}").json()["id"])
        send(client, headers, NAME)
        client.get(f"/{NAME}", params={"token": TOKEN})
        client.get(f"/api/jobs/{NAME}/results/{NAME}")
        client.post("/api/session", json={"token": f"{TOKEN}{NAME}"})
        client.post("/api/scans", params={"fp_per_scan": NAME}, content=SCAN, headers=BINARY)
        with connected(url) as connection:
            connection.sendall(head(10**6, f"/api/scans?name={NAME}") + SCAN)
        monkeypatch.setattr(service, "jobs", fail)
        assert client.get("/api/jobs").status_code == 500
    written = log.getvalue()
    assert "POST /api/scans 202" in written
    assert "unforeseen: ValueError" in written
    assert [secret for secret in ("Doe", TOKEN, "Traceback") if secret in written] == []


def test_an_exception_is_told_by_its_type(log: io.StringIO) -> None:
    try:
        raise ValueError(NAME)
    except ValueError as error:
        words = f"Task exception was never retrieved\nfuture: <Task exception={error!r}>"
        logging.getLogger("asyncio").error(words, exc_info=error)
    assert log.getvalue().endswith("ERROR Task exception was never retrieved: ValueError\n")
    assert log.getvalue().count("\n") == 1


def test_a_library_that_repeats_itself_is_heard_once(log: io.StringIO) -> None:
    for name in ("uvicorn.error", "asyncio", "p2ch_luna.serve.metrics"):
        for _ in range(3):
            logging.getLogger(name).warning("said by %s", name)
    said = [line.rpartition(" ")[2] for line in log.getvalue().splitlines()]
    assert said == ["uvicorn.error", "asyncio", *["p2ch_luna.serve.metrics"] * 3]


def test_what_goes_on_is_said_again_after_a_while() -> None:
    now = [0.0]
    seldom = Seldom(lambda: now[0])
    heard = []
    for now[0] in (0.0, 0.0, REPEAT_S / 2, REPEAT_S, REPEAT_S):
        heard.append(seldom(logging.makeLogRecord({"msg": "out of files"})))
    assert heard == [True, False, False, True, False]
