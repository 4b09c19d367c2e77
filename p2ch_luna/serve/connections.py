"""Connections to the server: those that bring no request make room, and what is no HTTP hears so in JSON."""

from __future__ import annotations

import asyncio
import resource
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from p2ch_luna.serve.problems import problem
from p2ch_luna.serve.security import SAFE_HEADERS

HEAD_S = 10.0  # until the whole head of a request is there
MOST = 1000  # connections at once, where the system allows as many files
FILES_EACH = 3  # of the files that may be open: a connection, what it reads or writes, and the queue's
BACKLOG = 32  # connections that are taken at one time, before the first of them can be closed


def most_connections() -> int:
    """How many are held at once: well under the files that this process may open."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if files == resource.RLIM_INFINITY else min(MOST, files // FILES_EACH)


class Connection(H11Protocol):
    """uvicorn's, with an end to idleness.

    It is closed where no whole head of a request comes in `HEAD_S`. Where all connections are in use, a new
    one takes the place of the one that has waited longest for its request; if there is none, it hears 503.
    """

    _late: asyncio.TimerHandle | None = None  # is there while a request is waited for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It has been opened."""
        super().connection_made(transport)
        self._make_room()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The next request may come."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._stop_watching()
        super().connection_lost(exc)

    def send_400_response(self, _msg: str) -> None:
        """What has come is no HTTP."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(400, "this is no valid HTTP request; expected HTTP/1.1")
        else:  # in the midst of an answer
            self.transport.close()

    def _watch(self) -> None:
        """The time runs from when a request is first waited for, not anew from each byte of it."""
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_S, self._end)

    def _stop_watching(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self) -> None:
        self._stop_watching()
        self.transport.close()

    def _make_room(self) -> None:
        others = [other for other in self.connections if isinstance(other, Connection) and other is not self]
        if sum(not other.transport.is_closing() for other in others) < most_connections():
            return
        self.logger.warning("all connections are in use")
        waiting = [(other._late.when(), other) for other in others if other._late is not None]
        if waiting:
            min(waiting, key=lambda pair: pair[0])[1]._end()
        else:
            self._refuse(503, "all connections of the server are in use; try again later")

    def _refuse(self, status: int, error: str) -> None:
        answer = problem(status, error, {**SAFE_HEADERS, "Connection": "close"})
        response = h11.Response(
            status_code=status, headers=answer.raw_headers, reason=HTTPStatus(status).phrase.encode()
        )
        for event in (response, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
