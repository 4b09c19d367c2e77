"""The command `luna` itself: quick help, exit codes, errors in one line."""

import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import torch

from p2ch_luna import __version__
from p2ch_luna.cli import COMMANDS, cli, main
from p2ch_luna.cli._common import echo_json, output_option, pick_device, progress, use_threads
from p2ch_luna.errors import LunaError

HEAVY = ("torch", "numpy", "scipy", "pandas", "SimpleITK", "pydantic", "rich", "matplotlib")


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "p2ch_luna", *args], capture_output=True, text=True, check=False
    )


@pytest.fixture
def exit_code(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], int]:
    """Runs `luna probe`, a command that does what is passed, and gives the exit code."""

    def run_probe(body: Callable[[], None]) -> int:
        monkeypatch.setattr(cli, "get_command", lambda *_: click.Command("probe", callback=body))
        with pytest.raises(SystemExit) as end:
            main(["probe"])
        assert isinstance(end.value.code, int)
        return end.value.code

    return run_probe


def failing(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


def test_help_names_every_command() -> None:
    assert all(f"  {name} " in run("--help").stdout for name in COMMANDS)


def test_help_says_what_it_is_not() -> None:
    assert "Research only, not a medical device" in run("--help").stdout


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from p2ch_luna.cli import cli
cli.main(["--help"], standalone_mode=False)
print([name for name in {HEAVY} if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


def test_help_is_quick() -> None:
    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu_seconds() for _ in range(3)) < 0.3  # not the clock's: another job must not fail it


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"Usage: luna {name} ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"luna, version {__version__}\n"


def test_done_is_0(exit_code: Callable[[Callable[[], None]], int]) -> None:
    assert exit_code(lambda: None) == 0


def test_a_luna_error_is_1(exit_code: Callable[[Callable[[], None]], int]) -> None:
    assert exit_code(failing(LunaError("a.mhd: no such file"))) == 1


def test_a_luna_error_is_one_line_on_stderr(
    exit_code: Callable[[Callable[[], None]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    exit_code(failing(LunaError("a.mhd: no such file")))
    assert capsys.readouterr() == ("", "luna: error: a.mhd: no such file\n")


def test_wrong_usage_is_2(exit_code: Callable[[Callable[[], None]], int]) -> None:
    assert exit_code(failing(click.UsageError("no"))) == 2


def test_an_unknown_command_is_2() -> None:
    with pytest.raises(SystemExit) as end:
        main(["diagnosis"])
    assert end.value.code == 2


def test_interrupted_is_130(exit_code: Callable[[Callable[[], None]], int]) -> None:
    assert exit_code(failing(KeyboardInterrupt())) == 130


def test_a_closed_pipe_is_1_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "p2ch_luna", "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_a_bug_shows_its_traceback(exit_code: Callable[[Callable[[], None]], int]) -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code(failing(ZeroDivisionError()))


def test_a_warning_of_the_library_is_one_line_on_stderr(
    exit_code: Callable[[Callable[[], None]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    exit_code(lambda: logging.getLogger("p2ch_luna.lungs").warning("no lungs in %s", "a.mha"))
    assert capsys.readouterr().err == "luna: warning: no lungs in a.mha\n"


def test_auto_picks_a_device_that_is_there() -> None:
    assert pick_device("auto").type in ("cpu", "cuda")


def test_a_device_that_is_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(LunaError, match=r"^device cuda: .* finds none here; there is cpu"):
        pick_device("cuda")


def test_threads_are_used() -> None:
    before = torch.get_num_threads()
    use_threads(1)
    used = torch.get_num_threads()
    use_threads(before)
    assert used == 1


def test_json_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"found": 5})
    assert capsys.readouterr().out == '{\n  "found": 5\n}\n'


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        echo_json({"auc": float("nan")})


def test_an_output_without_default_must_be_given() -> None:
    command = click.command(output_option("Where to.")(lambda output: None))  # noqa: ARG005
    with pytest.raises(click.MissingParameter):
        command.main([], standalone_mode=False)


def test_progress_in_a_log_is_one_line_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as stages:
        stages.stage("lungs")
        stages.stage("segmentation", total=12)
        stages.advance(12)
    assert capsys.readouterr() == ("", "lungs\nsegmentation (12)\n")


def test_progress_on_a_terminal_shows_every_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress() as stages:
        stages.stage("lungs")
        stages.stage("segmentation", total=2)
        stages.advance()
    shown = capsys.readouterr().err
    assert "lungs" in shown
    assert "segmentation" in shown


@pytest.mark.slow
def test_a_terminated_diagnosis_leaves_nothing(shared_data: Path, tmp_path: Path) -> None:
    """Not even the slices that it had unpacked."""
    (tmp_path / "unpacked").mkdir()
    command = [sys.executable, "-m", "p2ch_luna", "diagnose", str(shared_data / "ct" / "lidc-idri-0001.zip")]
    process = subprocess.Popen(
        [*command, "-o", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "unpacked")},
    )
    assert process.stderr
    told = iter(process.stderr.readline, "lungs\n")
    assert "reading\n" in list(told)
    assert list((tmp_path / "unpacked").iterdir())
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == "luna: terminated"
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "unpacked").iterdir())
