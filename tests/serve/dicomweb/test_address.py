"""Where a server is, and whose name its requests bear."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from p2ch_luna.errors import LunaError
from p2ch_luna.serve.dicomweb.address import PASSWORD, TOKEN, USER, credentials
from p2ch_luna.serve.dicomweb.client import Server
from p2ch_luna.serve.dicomweb.failures import DeniedError
from support.dicomweb import FakeDicomweb

Scan = Callable[..., list[Path]]


@pytest.mark.parametrize(
    "url", ["", "pacs", "ftp://pacs/dicom-web", "https://", "https://pacs:x/", "https://pacs/?study=1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(LunaError, match="no address of a server"):
        Server(url, {})


def test_credentials_in_the_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(LunaError, match=TOKEN) as refused:
        Server("https://me:secret@pacs/dicom-web", {})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("environment", "sent"),
    [({TOKEN: "abc\n"}, "Bearer abc"), ({USER: "me", PASSWORD: "pw"}, "Basic bWU6cHc="), ({}, None)],
)
def test_credentials_of_the_environment_go_with_each_request(
    environment: dict[str, str], sent: str | None, fake: FakeDicomweb
) -> None:
    with closing(Server(fake.url + "/", environment)) as server:
        server.studies()
    assert fake.authorizations == [sent]


@pytest.mark.parametrize("given", [{USER: "me"}, {USER: "me", PASSWORD: ""}, {PASSWORD: "pw"}])
def test_half_of_a_name_and_password_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(
        LunaError, match=f"^LUNA_DICOMWEB_(USER|PASSWORD): is not set, and {next(iter(given))}"
    ):
        credentials(given)


def test_a_token_needs_no_password() -> None:
    assert credentials({TOKEN: "abc", USER: "me"}).token == "abc"


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({TOKEN: "abc"}, f"the token in {TOKEN} was refused"),
        ({USER: "me", PASSWORD: "pw"}, f"the name and password in {USER} and {PASSWORD} were refused"),
        ({}, f"no credentials were sent; expected them in {TOKEN}, or {USER} and {PASSWORD}"),
    ],
)
def test_a_refusal_says_which_credentials_were_sent(
    environment: dict[str, str], told: str, status: int, fake: FakeDicomweb
) -> None:
    fake.fault = lambda _method, _path: status
    with closing(Server(fake.url, environment)) as server, pytest.raises(DeniedError) as refused:
        server.studies()
    assert str(refused.value) == f"{fake.url}: answers {status}; expected the list of studies: {told}"


def test_a_proxy_that_wants_credentials_is_told_apart() -> None:
    assert "proxy" in credentials({TOKEN: "abc"}).refusal(407)


def test_credentials_are_not_shown() -> None:
    assert "abc" not in repr(credentials({TOKEN: "abc"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [(TOKEN, "abc\ndef"), (TOKEN, "schl\u00fcssel\u2192"), (PASSWORD, "\u2192"), (USER, "me\x00")],
)
def test_credentials_that_no_header_can_carry_are_refused_and_not_repeated(name: str, value: str) -> None:
    with pytest.raises(LunaError, match=f"^{name}: ") as refused:
        Server("http://pacs/dicom-web", {USER: "me", name: value})
    assert value not in str(refused.value)


def test_nobody_elses_credentials_are_sent(
    fake: FakeDicomweb, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password pw\n", encoding="utf-8")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.studies()
    assert fake.authorizations == [None]


def test_the_host_is_named_with_its_port(fake: FakeDicomweb, server: Server, scan: Scan) -> None:
    server.store(scan()[0])
    assert set(fake.hosts) == {urlsplit(fake.url).netloc}


def test_a_host_that_was_cut_at_a_colon_is_not_sent() -> None:
    """As dicomweb-client does with [::1]:8042."""
    request = requests.Request("GET", "http://[::1]:8042/", {"Host": "["}, auth=credentials({})).prepare()
    assert "Host" not in request.headers
