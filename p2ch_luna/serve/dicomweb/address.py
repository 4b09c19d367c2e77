"""Where a DICOMweb server is, and who asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import requests
from requests.auth import HTTPBasicAuth

from p2ch_luna.errors import LunaError

TOKEN, USER, PASSWORD = "LUNA_DICOMWEB_TOKEN", "LUNA_DICOMWEB_USER", "LUNA_DICOMWEB_PASSWORD"


def checked(url: str) -> str:
    """The URL without a slash at its end."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or parts.query or parts.fragment:
        raise LunaError("--url: is no address of a server; expected one such as https://HOST/dicom-web")
    if parts.username is not None or parts.password is not None:
        raise LunaError(f"--url: has credentials in it; expected them in {TOKEN}, or {USER} and {PASSWORD}")
    return url.rstrip("/")


def credentials(
    environment: Mapping[str, str],
) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """What puts the credentials of the environment, if there are any, into each request.

    Without it `requests` would look for others in ~/.netrc. Raises LunaError for what no header can carry.
    """
    token = environment.get(TOKEN, "").strip()
    user, password = environment.get(USER, ""), environment.get(PASSWORD, "")
    for name, value in ((TOKEN, token), (USER, user), (PASSWORD, password)):
        if not value.isprintable() or not _is_latin(value):
            raise LunaError(
                f"{name}: has characters that no header can carry; expected letters, digits, signs"
            )

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.pop("Host", None)  # dicomweb-client's has no port; http.client knows it
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return HTTPBasicAuth(user, password)(request) if user and not token else request

    return authorize


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
