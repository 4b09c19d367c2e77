"""Where a DICOMweb server is, who asks it, and whether its answers are whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

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


def credentials(environment: Mapping[str, str]) -> Any:
    """What `requests` takes: a function, name and password, or nothing."""
    token, user = environment.get(TOKEN, "").strip(), environment.get(USER, "")
    if not token:
        return (user, environment.get(PASSWORD, "")) if user else None

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authorize


def check_whole(response: requests.Response, **_: object) -> None:
    """Raise ConnectionError for images whose closing delimiter has not come: the server died meanwhile."""
    kind = response.headers.get("Content-Type", "").lower()
    has_parts = kind.startswith("multipart/related") and "boundary" in kind
    if has_parts and not response.content.rstrip().endswith(b"--"):
        raise requests.ConnectionError("the answer was cut off")
