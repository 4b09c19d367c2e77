"""A thousand requests and more, most of them malformed, made from the OpenAPI document by schemathesis."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support.served import TOKEN, ended, send, service_in, serving

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
ARGUMENTS = ("--generation-deterministic", "--request-timeout", "20", "--no-color")


def attacked(url: str, folder: Path, *options: str) -> int:
    """How many requests schemathesis has made of a server, and found well answered."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json", *ARGUMENTS]
    ran = subprocess.run(
        [*command, "--checks", ",".join(CHECKS), *options],
        cwd=folder,
        env=os.environ | {"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=500,
    )
    told = f"{ran.stdout}{ran.stderr}"
    generated = re.search(r"(\d+) generated", told)
    assert ran.returncode == 0, told
    assert generated is not None, told
    return int(generated[1])


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What any part of the server has logged as an error."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.slow
def test_no_request_brings_the_server_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(service_in(tmp_path)) as url, httpx.Client(base_url=url) as client:
        ended(client, send(client).json()["id"])  # something to be found, and deleted
        assert attacked(url, tmp_path, "--max-examples", "150") >= 1000
        assert client.get("/health").status_code == 200
    assert errors(caplog) == []


@pytest.mark.slow
def test_nor_does_one_with_the_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bearer = f"Authorization: Bearer {TOKEN}"
    with serving(service_in(tmp_path, token=TOKEN)) as url:
        assert attacked(url, tmp_path, "--max-examples", "20", "--header", bearer) >= 100
        assert httpx.get(f"{url}/health").status_code == 200
    assert errors(caplog) == []
