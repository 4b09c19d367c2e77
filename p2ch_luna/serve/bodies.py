"""How requests bring their bodies: not too slowly; and one that is refused in its midst hears why."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLL_S = 0.25  # after which it is noticed that the server is to end
RETRY_AFTER_S = 10  # when the server is being ended; it may be started again


@dataclass(frozen=True)
class Limits:
    """What a client may take.

    silence_s: without a byte of a body that is to come.    bytes_per_s: at least, on average, beside it.
    linger_s: a refused body is read on, so that its sender reads the answer before the connection closes.
    """

    silence_s: float = 60.0
    bytes_per_s: float = 50e3
    linger_s: float = 2.0


class Bodies:
    """Middleware: 408 for a body that stops or trickles, 503 for one that the server's end cuts off.

    After an error in mid-body the connection is closed, gently: one that is closed on bytes which nobody has
    read is reset, and the answer is lost with it.
    """

    def __init__(self, app: ASGIApp, is_stopping: Callable[[], bool], limits: Limits | None = None) -> None:
        self._app, self._is_stopping, self._limits = app, is_stopping, limits or Limits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http" or not has_body(scope):
            await self._app(scope, receive, send)
            return
        body = _Body(receive, send, self._is_stopping, self._limits)
        await self._app(scope, body.receive, body.send)


class _Body:
    """One request with a body, between the server and the application."""

    def __init__(self, receive: Receive, send: Send, is_stopping: Callable[[], bool], limits: Limits) -> None:
        self._receive, self._send = receive, send
        self._is_stopping, self._limits = is_stopping, limits
        self._is_read = self._is_refused = False
        self._size = 0  # bytes that have come
        self._waited_s = 0.0  # for the client: the server's own work is not its fault

    async def receive(self) -> Message:
        if self._is_read:  # what is waited for now is that the client goes
            return await self._receive()
        begun = time.monotonic()
        message = await self._in_time(begun)
        self._waited_s += time.monotonic() - begun
        self._size += len(message.get("body", b""))
        self._is_read = not message.get("more_body", False)
        return message

    async def _in_time(self, begun: float) -> Message:
        silence_s, rate = self._limits.silence_s, self._limits.bytes_per_s
        until = begun + min(silence_s, silence_s + self._size / rate - self._waited_s)
        while not self._is_stopping():
            now = time.monotonic()
            with anyio.move_on_after(min(POLL_S, max(until - now, 0))):
                return await self._receive()
            if now >= until:
                slow = f"the body stopped for {silence_s:g} s, or came at less than {rate / 1e3:g} kB/s"
                raise HTTPException(408, f"{slow}; expected all that was declared")
        raise HTTPException(
            503, "the server is being ended; try again later", {"Retry-After": str(RETRY_AFTER_S)}
        )

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._is_read and message["status"] >= 400:
            self._is_refused = True
            MutableHeaders(scope=message)["connection"] = "close"
        if self._is_refused and message["type"] == "http.response.body" and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _linger(self) -> None:
        with anyio.move_on_after(self._limits.linger_s):
            while (await self._receive()).get("more_body", False):
                pass


def has_body(scope: Scope) -> bool:
    """Whether a request says that it brings a body."""
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
