"""A browser's session."""

from __future__ import annotations

import httpx
import pytest

from p2ch_luna.serve.security import COOKIE
from support.served import TOKEN


def test_a_browser_opens_a_session_with_the_token(locked: httpx.Client) -> None:
    before = locked.get("/api/session").json()
    answer = locked.post("/api/session", json={"token": TOKEN})
    after = locked.get("/api/session").json()
    assert (before, answer.status_code, after) == (
        {"is_needed": True, "is_open": False},
        204,
        {"is_needed": True, "is_open": True},
    )


def test_scripts_cannot_read_the_session(locked: httpx.Client) -> None:
    cookie = locked.post("/api/session", json={"token": TOKEN}).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie


@pytest.mark.parametrize(("origin", "is_secure"), [("https://127.0.0.1", True), ("http://127.0.0.1", False)])
def test_a_session_begun_by_https_stays_there(locked: httpx.Client, origin: str, is_secure: bool) -> None:
    answer = locked.post("/api/session", json={"token": TOKEN}, headers={"Origin": origin})
    assert ("; secure" in answer.headers["set-cookie"].lower()) is is_secure


def test_a_closed_session_opens_nothing(locked: httpx.Client) -> None:
    locked.post("/api/session", json={"token": TOKEN})
    locked.delete("/api/session")
    assert locked.get("/api/jobs").status_code == 401


def test_a_copy_of_a_closed_session_opens_nothing(locked: httpx.Client) -> None:
    first, second = (locked.post("/api/session", json={"token": TOKEN}).cookies[COOKIE] for _ in range(2))
    locked.cookies.clear()
    locked.delete("/api/session", headers={"Cookie": f"{COOKIE}={first}"})
    status = {
        locked.get("/api/jobs", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code: cookie
        for cookie in (first, second)
    }
    assert status == {401: first, 200: second}


def test_a_wrong_token_opens_no_session(locked: httpx.Client) -> None:
    answer = locked.post("/api/session", json={"token": TOKEN + "x"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)


def test_a_token_is_not_said_back(locked: httpx.Client) -> None:
    answer = locked.post("/api/session", json={"token": [TOKEN], "other": TOKEN})
    assert answer.status_code == 422
    assert TOKEN not in answer.text


def test_without_a_token_no_session_is_needed(client: httpx.Client) -> None:
    assert client.get("/api/session").json() == {"is_needed": False, "is_open": True}
    assert client.post("/api/session", json={"token": "any"}).status_code == 204
