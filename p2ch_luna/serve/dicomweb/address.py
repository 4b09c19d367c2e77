"""Where a DICOMweb server is, and who asks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from requests.auth import HTTPBasicAuth

from p2ch_luna.errors import LunaError

TOKEN, USER, PASSWORD = "LUNA_DICOMWEB_TOKEN", "LUNA_DICOMWEB_USER", "LUNA_DICOMWEB_PASSWORD"
A_URL = "a URL such as http://HOST:8042/dicom-web"
_OF_PROXY = 407


def checked(url: str) -> str:
    """The URL without a slash at its end."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or parts.query or parts.fragment:
        raise LunaError(f"--url: is no address of a server; expected {A_URL}")
    if parts.username is not None or parts.password is not None:
        raise LunaError(f"--url: has credentials in it; expected them in {TOKEN}, or {USER} and {PASSWORD}")
    return url.rstrip("/")


@dataclass(frozen=True, repr=False)
class Credentials:
    """Who asks; each request gets them. Without it `requests` would look for others in ~/.netrc."""

    token: str  # "" if there is none; else the others are not sent
    user: str
    password: str

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The request with its header."""
        request.headers.pop("Host", None)  # dicomweb-client's has no port; http.client knows it
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        elif self.user:
            return HTTPBasicAuth(self.user, self.password)(request)
        return request

    def refusal(self, status: int) -> str:
        """What is told where a server, or a proxy before it, does not accept them."""
        if status == _OF_PROXY:
            return "the proxy wants credentials; expected them in its URL, in HTTP_PROXY"
        if self.token:
            return f"the token in {TOKEN} was refused"
        if self.user:
            return f"the name and password in {USER} and {PASSWORD} were refused"
        return f"no credentials were sent; expected them in {TOKEN}, or {USER} and {PASSWORD}"


def credentials(environment: Mapping[str, str]) -> Credentials:
    """Those of the environment, if there are any.

    Raises LunaError for what no header can carry, and for a name without a password, or the reverse.
    """
    token = environment.get(TOKEN, "").strip()
    user, password = environment.get(USER, ""), environment.get(PASSWORD, "")
    for name, value in ((TOKEN, token), (USER, user), (PASSWORD, password)):
        if not value.isprintable() or not _is_latin(value):
            raise LunaError(
                f"{name}: has characters that no header can carry; expected letters, digits, signs"
            )
    if not token and bool(user) != bool(password):
        missing, given = (PASSWORD, USER) if user else (USER, PASSWORD)
        raise LunaError(f"{missing}: is not set, and {given} is; expected both")
    return Credentials(token, user, password)


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
