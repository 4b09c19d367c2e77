"""How bodies of requests are read, and what becomes of those that are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message

from p2ch_luna.serve.bodies import Bodies, Limits, has_body


async def refuse(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("no", 413)


async def read(request: Request) -> PlainTextResponse:
    return PlainTextResponse((await request.body()).decode(), 400)


class Connection:
    """A client that sends some pieces and then nothing; keeps what it is answered. pause_s: before each."""

    def __init__(self, *pieces: bytes, is_whole: bool = False, pause_s: float = 0.0) -> None:
        self.pieces, self.is_whole, self.pause_s = list(pieces), is_whole, pause_s
        self.answer = list[Message]()

    async def receive(self) -> Message:
        await asyncio.sleep(self.pause_s)
        if not self.pieces:
            await asyncio.Event().wait()
        piece = self.pieces.pop(0)
        more = bool(self.pieces) or not self.is_whole
        return {"type": "http.request", "body": piece, "more_body": more}

    async def send(self, message: Message) -> None:
        self.answer.append(message)

    def post(
        self, path: str, bytes_per_s: float = 1e9, is_stopping: Callable[[], bool] = lambda: False
    ) -> dict[bytes, bytes]:
        """Ask the application; the headers of its answer."""
        app = Starlette(
            routes=[Route("/refuse", refuse, methods=["POST"]), Route("/read", read, methods=["POST"])]
        )
        scope = scope_of(path, (b"content-length", b"99"))
        limits = Limits(silence_s=0.2, bytes_per_s=bytes_per_s, linger_s=0.05)
        asyncio.run(Bodies(app, is_stopping, limits)(scope, self.receive, self.send))
        return dict(self.answer[0]["headers"])


def scope_of(path: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": path, "headers": list(headers), "query_string": b""}


def test_a_body_that_stops_is_given_up() -> None:
    connection = Connection(b"some")
    connection.post("/read")
    assert connection.answer[0]["status"] == 408


def test_a_body_that_trickles_is_given_up() -> None:
    connection = Connection(*[b"x"] * 30, is_whole=True, pause_s=0.02)
    connection.post("/read")
    assert connection.answer[0]["status"] == 408
    assert len(connection.pieces) > 10


def test_a_body_may_take_longer_the_more_of_it_comes() -> None:
    connection = Connection(*[b"x"] * 30, is_whole=True, pause_s=0.02)
    connection.post("/read", bytes_per_s=20)
    assert connection.answer[0]["status"] == 400  # read to its end


def test_the_time_that_the_server_takes_is_not_the_clients() -> None:
    async def slow(request: Request) -> PlainTextResponse:
        async for _ in request.stream():
            await asyncio.sleep(0.05)
        return PlainTextResponse("")

    connection = Connection(*[b"x"] * 10, is_whole=True)
    app = Starlette(routes=[Route("/slow", slow, methods=["POST"])])
    bodies = Bodies(app, lambda: False, Limits(silence_s=0.2, bytes_per_s=1e9))
    asyncio.run(bodies(scope_of("/slow", (b"content-length", b"99")), connection.receive, connection.send))
    assert connection.answer[0]["status"] == 200


def test_a_body_that_stops_when_the_server_ends_hears_so() -> None:
    looks = iter([False, False])
    connection = Connection(b"some")
    headers = connection.post("/read", is_stopping=lambda: next(looks, True))
    assert (connection.answer[0]["status"], headers[b"retry-after"]) == (503, b"10")


def test_a_body_that_comes_is_read() -> None:
    connection = Connection(b"some", b" more", is_whole=True)
    connection.post("/read")
    assert b"".join(message.get("body", b"") for message in connection.answer) == b"some more"


def test_after_a_refused_body_the_connection_is_closed() -> None:
    assert Connection(b"some").post("/refuse")[b"connection"] == b"close"


def test_after_a_whole_body_it_stays_open() -> None:
    assert b"connection" not in Connection(b"some", is_whole=True).post("/read")


def test_a_refused_body_is_read_on_for_a_while() -> None:
    connection = Connection(b"some", b"more", b"and more")
    connection.post("/refuse")
    assert connection.pieces == []


def test_the_answer_is_there_before_the_body_is_read_on() -> None:
    connection = Connection(b"some")
    connection.post("/refuse")
    assert [message.get("body") for message in connection.answer] == [None, b"no", b""]
    assert not connection.answer[-1].get("more_body", False)


@pytest.mark.parametrize(
    ("headers", "brings"),
    [
        ([], False),
        ([(b"content-length", b"0")], False),
        ([(b"content-length", b"1")], True),
        ([(b"transfer-encoding", b"chunked")], True),
    ],
)
def test_a_body_is_announced(headers: list[tuple[bytes, bytes]], brings: bool) -> None:
    assert has_body(scope_of("/", *headers)) is brings
