"""Who may use the service, and the headers of its answers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers

from p2ch_luna.serve.security import COOKIE, SESSION_SECONDS, Sessions, is_loopback
from p2ch_luna.serve.service import Service
from support.served import BINARY, SCAN, TOKEN, answer_to, done, send, service_in, serving

CLOSED = [
    "/api/jobs",
    "/api/jobs/x",
    "/api/jobs/x/events",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/api",
    "/x",
]
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize("path", CLOSED)
def test_without_the_token_nothing_is_told(locked: httpx.Client, path: str) -> None:
    answer = locked.get(path)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("path", ["/health", "/api/session", "/static/fflate.js"])
def test_some_things_need_no_token(locked: httpx.Client, path: str) -> None:
    assert locked.get(path).status_code in (200, 503)


@pytest.mark.parametrize("path", ["/api/jobs", "/metrics", "/openapi.json", "/docs"])
def test_the_token_opens(locked: httpx.Client, path: str) -> None:
    assert locked.get(path, headers=BEARER).status_code == 200


@pytest.mark.parametrize(
    "told", [f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ", "Bearer", TOKEN, "Bearer é"]
)
def test_another_token_does_not(locked: httpx.Client, told: str) -> None:
    headers = {"Authorization": told.encode()}
    assert locked.get("/api/jobs", headers=headers).status_code == 401  # type: ignore[arg-type]


def test_an_upload_needs_the_token(locked: httpx.Client) -> None:
    assert send(locked).status_code == 401


def test_no_way_leads_around_the_token(tmp_path: Path) -> None:
    ways = [
        "/static/../api/jobs",
        "/static/%2e%2e/api/jobs",
        "//api/jobs",
        "/health/../metrics",
        "/API/jobs",
        "/api/jobs?/static/",
        "/api/jobs;/static/",
        "/%61pi/jobs",
        "http://127.0.0.1/api/jobs",
    ]
    with serving(service_in(tmp_path, token=TOKEN)) as url:
        answers = {way: answer_to(url, way) for way in ways}
    assert {
        way: answer[9:12] for way, answer in answers.items() if answer[9:12] not in (b"401", b"404")
    } == {}
    assert [way for way, answer in answers.items() if b'"jobs"' in answer] == []


def with_cookie(value: str) -> Headers:
    return Headers({"cookie": f"{COOKIE}={value}"})


def test_a_session_ends() -> None:
    now = [1000.0]
    sessions = Sessions(TOKEN, lambda: now[0])
    headers = with_cookie(sessions.begin())
    was_open = sessions.is_open(headers)
    now[0] += SESSION_SECONDS
    assert (was_open, sessions.is_open(headers)) == (True, False)


def test_a_session_cannot_be_made_longer() -> None:
    end, _, rest = Sessions(TOKEN).begin().partition(".")
    assert Sessions(TOKEN).is_open(with_cookie(f"{end}.{rest}"))
    assert not Sessions(TOKEN).is_open(with_cookie(f"{int(end) + 1}.{rest}"))


def test_closed_sessions_are_kept_no_longer_than_they_could_be_used() -> None:
    now = [1000.0]
    sessions = Sessions(TOKEN, lambda: now[0])
    for _ in range(3):
        sessions.close(with_cookie(sessions.begin()))
        sessions.close(with_cookie("9999999999.x.y"))
        now[0] += SESSION_SECONDS
    assert len(sessions._closed) == 1


def test_another_token_ends_all_sessions() -> None:
    assert not Sessions(TOKEN + "2").is_open(with_cookie(Sessions(TOKEN).begin()))


@pytest.mark.parametrize("value", ["", ".", "9999999999.", "9999999999.0", "x.y", '"', "é.é", "\x01;=="])
def test_an_odd_cookie_opens_nothing(value: str) -> None:
    assert not Sessions(TOKEN).is_open(with_cookie(value))


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "127.8.9.1"])
def test_names_of_this_machine_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/api/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "10.0.0.1", "", "[", "127.0.0.1@evil"]
)
def test_a_name_that_only_points_here_is_not(client: httpx.Client, host: str) -> None:
    assert client.get("/api/jobs", headers={"Host": host}).status_code == 421


def test_with_a_token_any_name_will_do(locked: httpx.Client) -> None:
    assert locked.get("/api/jobs", headers={"Host": "luna.example", **BEARER}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:99"},
    ],
)
def test_another_site_can_change_nothing(
    client: httpx.Client, service: Service, headers: dict[str, str]
) -> None:
    job = done(service)
    post = client.post("/api/scans", content=SCAN, headers={**BINARY, **headers})
    delete = client.delete(f"/api/jobs/{job.id}", headers=headers)
    assert (post.status_code, delete.status_code, service.jobs(9)) == (403, 403, [job])


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_the_page_can_upload(client: httpx.Client, site: str) -> None:
    headers = {**BINARY, "Sec-Fetch-Site": site, "Origin": "http://127.0.0.1"}
    assert client.post("/api/scans", content=SCAN, headers=headers).status_code == 202


@pytest.mark.parametrize("path", ["/", "/api/jobs", "/api/jobs/x", "/health", "/docs", "/nothing"])
def test_every_answer_has_safe_headers(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", ["/api/jobs", "/api/session", "/health", "/metrics"])
def test_answers_are_not_stored(client: httpx.Client, path: str) -> None:
    assert client.get(path).headers["cache-control"] == "no-store"


def test_only_an_upload_may_be_large(client: httpx.Client) -> None:
    assert client.post("/api/session", content=b" " * 20_000).status_code == 413


def test_only_an_upload_may_be_of_unknown_length(client: httpx.Client) -> None:
    assert client.post("/api/session", content=iter([b"{}"])).status_code == 411


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("luna", False),
    ],
)
def test_a_loopback_address_is_known(host: str, is_own: bool) -> None:
    assert is_loopback(host) is is_own
