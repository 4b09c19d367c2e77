"""How requests bring their bodies: not too slowly; and one that is refused in its midst hears why."""

from __future__ import annotations

import anyio
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATIENCE_S = 60.0  # without a byte of a body that is to come
LINGER_S = 2.0  # a refused body is read on, so that its sender reads the answer before the connection closes


class Bodies:
    """Middleware: 408 for a body that stops; after an error in mid-body the connection is closed, gently.

    A connection that is closed on bytes which nobody has read is reset, and the answer is lost with it.
    """

    def __init__(self, app: ASGIApp, patience_s: float = PATIENCE_S, linger_s: float = LINGER_S) -> None:
        self._app, self._patience_s, self._linger_s = app, patience_s, linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http" or not has_body(scope):
            await self._app(scope, receive, send)
            return
        body = _Body(receive, send, self._patience_s, self._linger_s)
        await self._app(scope, body.receive, body.send)


class _Body:
    """One request with a body, between the server and the application."""

    def __init__(self, receive: Receive, send: Send, patience_s: float, linger_s: float) -> None:
        self._receive, self._send = receive, send
        self._patience_s, self._linger_s = patience_s, linger_s
        self._is_read = self._is_refused = False

    async def receive(self) -> Message:
        if self._is_read:  # what is waited for now is that the client goes
            return await self._receive()
        try:
            with anyio.fail_after(self._patience_s):
                message = await self._receive()
        except TimeoutError as error:
            waited = f"no byte of the body came for {self._patience_s:g} s"
            raise HTTPException(408, f"{waited}; expected all that was declared") from error
        self._is_read = not message.get("more_body", False)
        return message

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
        with anyio.move_on_after(self._linger_s):
            while (await self._receive()).get("more_body", False):
                pass


def has_body(scope: Scope) -> bool:
    """Whether a request says that it brings a body."""
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
