"""Who may use the service, from where, and what a browser may do with its answers."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2ch_luna.serve.bodies import has_body
from p2ch_luna.serve.problems import problem

COOKIE = "luna_session"
SESSION_SECONDS = 12 * 3600
MAX_BODY = 16 << 10  # bytes, of all requests but an upload
UPLOAD = "/api/scans"
MIN_TOKEN, MAX_TOKEN = 16, 1000  # characters
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_OPEN = ("/", "/health", "/api/session")  # need no token; nor do /static/*

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCS_POLICY = PAGE_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")  # Swagger UI's
REPORT_POLICY = "frame-ancestors 'self'; sandbox allow-scripts"  # beside the policy in the report itself
SAFE_HEADERS = {  # of all answers
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, which no other can reach."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Sessions:
    """Opens, checks and closes sessions of browsers.

    Only closed ones are kept, until they would have ended: a session is its end and a random number, signed
    by the token.
    """

    def __init__(self, token: str | None, clock: Callable[[], float] = time.time) -> None:
        self._token = None if token is None else token.encode()
        self._clock = clock
        self._closed: dict[str, int] = {}  # sessions by their cookies, and their ends

    @property
    def is_needed(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def is_token(self, told: str) -> bool:
        """Whether it is the right one; the comparison takes as long for any."""
        return self._token is not None and hmac.compare_digest(told.encode(), self._token)

    def begin(self) -> str:
        """The cookie of a new session."""
        session = f"{int(self._clock()) + SESSION_SECONDS}.{secrets.token_hex(8)}"
        return f"{session}.{self._signed(session)}"

    def close(self, headers: Headers) -> None:
        """End the session whose cookie a request has, for whoever may have a copy of it."""
        now, cookie = self._clock(), _cookie(headers)
        self._closed = {closed: end for closed, end in self._closed.items() if end > now}
        end = self._end_of(cookie)
        if end > now:
            self._closed[cookie] = end

    def is_open(self, headers: Headers) -> bool:
        """Whether a request has the token, or the cookie of an open session, or needs neither."""
        if self._token is None:
            return True
        kind, _, told = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(told.strip()):
            return True
        cookie = _cookie(headers)
        return cookie not in self._closed and self._end_of(cookie) > self._clock()

    def _end_of(self, cookie: str) -> int:
        """In seconds since 1970; 0 of what is no session of this server."""
        session, _, signed = cookie.rpartition(".")
        if not hmac.compare_digest(signed.encode(), self._signed(session).encode()):
            return 0
        return int(session.partition(".")[0])  # digits, since it was signed here

    def _signed(self, session: str) -> str:
        return hmac.new(self._token or b"", f"{COOKIE}:{session}".encode(), hashlib.sha256).hexdigest()


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value


class Guard:
    """Middleware: answers itself what may not reach the application.

    421: a name that is not this machine's (a page of another site that has its name point here).
    403: another site's page asks for a change.    413, 411: a large body that is no upload.    401: no token.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app, self._sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refused(scope, Headers(scope=scope))
        if refused is None:
            await self._app(scope, receive, send)
            return
        status, error = refused
        answer = problem(status, error, {"WWW-Authenticate": "Bearer"} if status == 401 else None)
        await answer(scope, receive, send)

    def _refused(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Status and reason; None: it may pass."""
        path, host = scope["path"], headers.get("host", "")
        if not self._sessions.is_needed and not is_loopback(_name(host)):
            return 421, "without a token the server answers as localhost alone; expected http://localhost"
        if scope["method"] not in SAFE_METHODS and _is_of_other_site(headers, host):
            return 403, "asked by a page of another site; expected this server's own page, or no browser"
        if path != UPLOAD and has_body(scope):
            length = headers.get("content-length")
            if length is None:
                return 411, "the body has no declared length; expected Content-Length"
            if int(length) > MAX_BODY:
                return 413, f"the body has {length} bytes; expected at most {MAX_BODY}"
        is_free = path in _OPEN or path.startswith("/static/")
        if not is_free and not self._sessions.is_open(headers):
            return (
                401,
                "no token, or not the right one; expected Authorization: Bearer and the server's token",
            )
        return None


def _name(host: str) -> str:
    """Of a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_of_other_site(headers: Headers, host: str) -> bool:
    """What browsers say of who asks; plain HTTP from elsewhere has an Origin alone."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        return True
    return origin is not None and origin not in (f"http://{host}", f"https://{host}")


class SafeHeaders:
    """Middleware: headers that keep browsers from guessing, framing and storing; an answer's own stay."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
