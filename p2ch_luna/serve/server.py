"""The server: a port, the application on it, and an end in good order."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from p2ch_luna.errors import LunaError
from p2ch_luna.processes import terminable
from p2ch_luna.serve.app import create_app
from p2ch_luna.serve.connections import BACKLOG, Connection
from p2ch_luna.serve.security import MAX_TOKEN, MIN_TOKEN, is_loopback
from p2ch_luna.serve.service import Service

GRACE_S = 3  # for requests under way when the server is to end
_MAKE_TOKEN = "python -c 'import secrets; print(secrets.token_urlsafe(32))' > token; chmod 600 token"

_log = logging.getLogger(__name__)


def check_token(host: str, token: str | None, source: str) -> None:
    """Raise LunaError where others can reach the server without a token, or with one that can be guessed.

    source: where the token was found.
    """
    if token is None and not is_loopback(host):
        raise LunaError(
            f"--host {host}: other machines can reach it; expected a token: {_MAKE_TOKEN}, "
            "then --token-file token"
        )
    if token is not None and not MIN_TOKEN <= len(token) <= MAX_TOKEN:
        raise LunaError(
            f"{source}: the token has {len(token)} characters; expected {MIN_TOKEN} to {MAX_TOKEN}: "
            f"{_MAKE_TOKEN}"
        )
    if token is not None and not (token.isascii() and token.isprintable()):
        raise LunaError(
            f"{source}: the token has characters that no header can carry; expected printable ASCII: "
            f"{_MAKE_TOKEN}"
        )


def run(make: Callable[[], Service], host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then give back the job under way. Called in the main thread.

    make: the service, once the port is had: without that no folder is made.
    port: 0 for any that is free.    announce: is told the URL as soon as it can be used.
    Raises LunaError for a port that cannot be had.
    """
    with terminable(), listening(host, port) as listener:
        service = make()
        server = server_of(service)
        service.start()
        try:
            announce(_url(host, listener.getsockname()[1]))
            with suppress(KeyboardInterrupt):  # uvicorn raises the signal again that has ended it
                server.run(sockets=[listener])
        finally:
            service.stop()


class _Server(uvicorn.Server):
    """Says that it ends before it does: it waits for requests under way."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """What follows a signal, or `should_exit`, within a tenth of a second."""
        _log.info("ending")
        await super().shutdown(sockets)


def server_of(service: Service) -> uvicorn.Server:
    """What answers for a service, once it is run on a socket; its `should_exit` ends it."""
    app = create_app(service)
    server = _Server(
        uvicorn.Config(
            app,
            http=Connection,
            backlog=BACKLOG,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    app.state.is_stopping = lambda: server.should_exit
    return server


def listening(host: str, port: int) -> socket.socket:
    """A socket to serve on. Raises LunaError for an address or port that cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # what follows says the address again
        raise LunaError(
            f"--host {host} --port {port}: {reason}; expected a free port of an address of this machine"
        ) from error


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
