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

from support.served import ended, send, service_in, serving

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
ARGUMENTS = ("--max-examples", "150", "--generation-deterministic", "--request-timeout", "20", "--no-color")


def attacked(url: str, folder: Path) -> str:
    """What schemathesis says of a server."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json", *ARGUMENTS]
    ran = subprocess.run(
        [*command, "--checks", ",".join(CHECKS)],
        cwd=folder,
        env=os.environ | {"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=500,
    )
    return f"{ran.stdout}{ran.stderr}\nexit code {ran.returncode}"


@pytest.mark.slow
def test_no_request_brings_the_server_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "p2ch_luna.serve")
    with serving(service_in(tmp_path)) as url, httpx.Client(base_url=url) as client:
        ended(client, send(client).json()["id"])  # something to be found, and deleted
        told = attacked(url, tmp_path)
        assert client.get("/health").status_code == 200
    generated = re.search(r"(\d+) generated", told)
    assert "exit code 0" in told, told
    assert generated is not None, told
    assert int(generated[1]) >= 1000, told
    assert [record for record in caplog.records if "unforeseen" in record.getMessage()] == []
