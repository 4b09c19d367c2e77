"""`luna serve`: its options and its errors; a real run of the command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner

from p2ch_luna.cli import serve as module
from p2ch_luna.cli.serve import serve
from p2ch_luna.errors import LunaError
from p2ch_luna.serve import logs, server
from p2ch_luna.serve.service import Service, Settings

TOKEN = "a-token-for-the-tests-of-luna-serve"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, str, int]]:
    """With what settings, host and port servers would have been run."""
    seen: list[tuple[Settings, str, int]] = []

    def run(make: Callable[[], Service], host: str, port: int, _announce: object) -> None:
        seen.append((make().settings, host, port))

    monkeypatch.setattr(server, "run", run)
    monkeypatch.setattr(logs, "log_to", lambda _stream: None)
    monkeypatch.delenv("LUNA_TOKEN", raising=False)
    return seen


def call(*args: str) -> None:
    CliRunner().invoke(serve, list(args), catch_exceptions=False, standalone_mode=False)


def test_the_options_reach_the_service(started: list[tuple[Settings, str, int]], tmp_path: Path) -> None:
    options = ["--port", "8080", "--folder", str(tmp_path), "--max-upload-gb", "0.5", "--max-waiting", "3"]
    call(*options, "--keep-hours", "2", "--threads", "1")
    wanted = Settings(tmp_path, 500_000_000, device="auto", max_waiting=3, keep_seconds=7200.0, threads=1)
    assert started == [(wanted, "127.0.0.1", 8080)]


def test_the_token_is_read_from_a_file(started: list[tuple[Settings, str, int]], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n", encoding="utf-8")
    call("--host", "0.0.0.0", "--token-file", str(file), "--folder", str(tmp_path / "served"))
    assert started[0][0].token == TOKEN


def test_the_token_is_read_from_the_environment(
    started: list[tuple[Settings, str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUNA_TOKEN", f"{TOKEN}\n")
    call("--folder", str(tmp_path))
    assert started[0][0].token == TOKEN


def test_without_a_token_others_cannot_reach_it(started: list[tuple[Settings, str, int]]) -> None:
    with pytest.raises(LunaError, match=r"--host 0\.0\.0\.0.*expected a token"):
        call("--host", "0.0.0.0")
    assert started == []


@pytest.mark.usefixtures("started")
def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="token: No such file or directory; expected a file"):
        call("--token-file", str(tmp_path / "token"))


@pytest.mark.usefixtures("started")
def test_an_empty_token_is_none(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    with pytest.raises(LunaError, match=r"/token: the token has 0 characters"):
        call("--token-file", str(tmp_path / "token"))


@pytest.mark.usefixtures("started")
def test_a_bad_token_of_the_environment_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNA_TOKEN", "short")
    with pytest.raises(LunaError, match=r"^LUNA_TOKEN: the token has 5 characters"):
        call()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("--keep-hours", value) for value in ("inf", "nan", "0", "1e6")],
        *[("--max-upload-gb", value) for value in ("inf", "nan", "-1", "1001")],
    ],
)
def test_a_limit_that_nobody_can_count_with_is_refused(
    started: list[tuple[Settings, str, int]], option: str, value: str
) -> None:
    with pytest.raises(click.BadParameter) as refused:
        call(option, value)
    assert (refused.value.param and refused.value.param.opts, started) == ([option], [])


@pytest.mark.slow
@pytest.mark.usefixtures("started")
def test_a_device_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(LunaError, match=r"^device cuda: torch .* finds none here"):
        call("--device", "cuda")


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(LunaError, match=r"uvicorn is not installed; wanted pip install 'p2ch-luna\[serve\]'"):
        call()


@pytest.mark.slow
def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "p2ch_luna", "serve", "--port", "0", "--folder", str(tmp_path)]
    env = {name: value for name, value in os.environ.items() if name != "LUNA_TOKEN"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=env, **pipes) as process:  # type: ignore[call-overload]
        try:
            line = process.stdout.readline()
            found = re.fullmatch(
                r"listening on (http://127\.0\.0\.1:\d+) \(Ctrl-C ends it\); "
                r"research use only, not a medical device\n",
                line,
            )
            status = httpx.get(f"{found[1]}/health").status_code if found else None
            loaded = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
            process.send_signal(signal.SIGTERM)
            log = process.communicate(timeout=30)[1]
        finally:
            process.kill()
    assert (status, process.returncode) == (200, 0), line + log
    assert "INFO GET /health 200" in log
    assert "libtorch" not in loaded  # the worker alone needs it
