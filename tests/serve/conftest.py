"""A service and its application for the tests of HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from p2ch_luna.serve.service import Service
from support.served import TOKEN, client_of, service_in


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """Not started: jobs wait."""
    return service_in(tmp_path)


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with client_of(service) as client:
        yield client


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[httpx.Client]:
    """The application of a service with a token, which this client does not tell."""
    with client_of(service_in(tmp_path, token=TOKEN)) as client:
        yield client
