"""The routes of a browser's session: the token is told once, and a cookie stands for it afterwards."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import Field

from p2ch_luna.frozen import Frozen
from p2ch_luna.serve.problems import responses
from p2ch_luna.serve.security import COOKIE, MAX_TOKEN, SESSION_SECONDS, Sessions

router = APIRouter(tags=["session"], responses=responses(400, 411, 413, 421, 500))


class Token(Frozen):
    """What opens a session."""

    token: str = Field(max_length=MAX_TOKEN)


class SessionState(Frozen):
    """Whether this browser may use the API."""

    is_needed: bool  # a session, or the token with each request
    is_open: bool


@router.get("/api/session")
async def get_session(request: Request) -> SessionState:
    """Whether a token is needed, and whether this request has it, or a session."""
    sessions = _sessions(request)
    return SessionState(is_needed=sessions.is_needed, is_open=sessions.is_open(request.headers))


@router.post("/api/session", status_code=204, responses=responses(401, 403, 408, 422))
async def open_session(request: Request, response: Response, told: Token) -> None:
    """Open a session of this browser with the token."""
    sessions = _sessions(request)
    if not sessions.is_needed:
        return
    if not sessions.is_token(told.token):
        raise HTTPException(401, "this is not the server's token", {"WWW-Authenticate": "Bearer"})
    response.set_cookie(
        COOKIE,
        sessions.begin(),
        max_age=SESSION_SECONDS,
        secure=_is_encrypted(request),
        httponly=True,
        samesite="strict",
    )


@router.delete("/api/session", status_code=204, responses=responses(403))
async def close_session(request: Request, response: Response) -> None:
    """End the session of this browser."""
    _sessions(request).close(request.headers)
    response.delete_cookie(COOKIE, secure=_is_encrypted(request), httponly=True, samesite="strict")


def _is_encrypted(request: Request) -> bool:
    """Whether the browser has the page by HTTPS, which a proxy before this server takes off."""
    return request.headers.get("origin", "").startswith("https://")


def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions
