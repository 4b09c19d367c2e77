"""What a client is told that goes wrong: always JSON, one line, never a traceback."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.exceptions import HTTPException

from p2ch_luna.errors import LunaError
from p2ch_luna.frozen import Frozen
from p2ch_luna.serve.refused import Refused

BUSY = "the server cannot reach its jobs at present; try again later"
WRONG = "something went wrong in the server; its log says where"
MOST_TOLD, LONGEST_PLACE = 5, 80  # invalid fields, and characters of where each is
RETRY_AFTER_S = 10  # when the queue of jobs cannot be read

_log = logging.getLogger(__name__)


class Problem(Frozen):
    """Why a request was not answered as it was meant to be."""

    error: str = Field(description="One line.", examples=["there is no job of this id"])


def problem(status: int, error: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer that tells of it."""
    return JSONResponse(Problem(error=error).model_dump(), status, headers)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of these statuses."""
    return {status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in statuses}


def tell_problems(app: FastAPI) -> None:
    """Answer all errors that `app` foresees as `problem` does."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(LunaError, _unreachable)


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    told = str(error.detail)
    if told == HTTPStatus(error.status_code).phrase:  # nobody has said more
        told = _unanswered(request, error) or told
    return problem(error.status_code, told, error.headers)


def _unanswered(request: Request, error: HTTPException) -> str | None:
    """Of a request that no route takes."""
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return f"{request.method} is not for this address; /docs shows what is"
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "there is nothing at this address; /docs shows what there is"
    return None


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """Where it is invalid, and why; not the value, which may be a token or a name."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    told = (f"{_in_one_line('.'.join(str(part) for part in one['loc']))}: {_reason(one)}" for one in found)
    return problem(422, "; ".join(islice(told, MOST_TOLD)) or "the request is not valid")


def _reason(one: Mapping[str, Any]) -> str:
    """Of one invalid field: in the words of whoever raised it, without pydantic's before them."""
    return str(one["msg"]).removeprefix("Value error, ")


def _in_one_line(place: str) -> str:
    """A place names what a client calls its fields."""
    shown = "".join(letter if letter.isprintable() else " " for letter in place)
    return " ".join(shown.split())[:LONGEST_PLACE]


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, Refused):
        raise error
    wait = None if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return problem(error.status, str(error), wait)


async def _unreachable(_request: Request, error: Exception) -> JSONResponse:
    """The queue of jobs cannot be used. Its path, and what else the error says, is not for clients."""
    cause = error.__cause__
    _log.error("the queue of jobs: %s", cause if isinstance(cause, sqlite3.Error) else type(error).__name__)
    return problem(503, BUSY, {"Retry-After": str(RETRY_AFTER_S)})
