"""What `luna doctor` prints, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from p2ch_luna.cli import main
from p2ch_luna.report.doctor import CHECKS, Remark

FINE = Remark("python", "ok", "3.11")
NOTE = Remark("ray", "note", "is not installed", "pip install ray")
BAD = Remark("torch", "problem", "cannot be loaded", "install it anew")


@pytest.fixture
def doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Exit code and output of `luna doctor`, which finds what is passed."""

    def run(*remarks: Remark, options: tuple[str, ...] = ()) -> tuple[int, str]:
        def found() -> Iterator[tuple[str, list[Remark]]]:
            yield "software", list(remarks)

        monkeypatch.setattr("p2ch_luna.report.doctor.examine", found)
        with pytest.raises(SystemExit) as end:
            main(["doctor", *options])
        return int(end.value.code or 0), capsys.readouterr().out

    return run


def test_a_machine_that_is_well_is_0(doctor: Callable[..., tuple[int, str]]) -> None:
    code, said = doctor(FINE)
    assert code == 0
    assert said.splitlines()[-1] == "luna diagnose will work here: 1 ok"


def test_a_note_is_0(doctor: Callable[..., tuple[int, str]]) -> None:
    code, said = doctor(FINE, NOTE)
    assert code == 0
    assert said.splitlines()[-1] == "luna diagnose will work here: 1 ok, 1 note"


def test_a_problem_is_1(doctor: Callable[..., tuple[int, str]]) -> None:
    code, said = doctor(FINE, NOTE, BAD)
    assert code == 1
    assert said.splitlines()[-1] == "luna diagnose will not work here: 1 ok, 1 note, 1 problem"


def test_a_line_says_what_is_so_and_the_next_what_to_do(doctor: Callable[..., tuple[int, str]]) -> None:
    lines = doctor(NOTE)[1].splitlines()
    assert lines[1].split() == ["note", "ray", "is", "not", "installed"]
    assert lines[2].strip() == "-> pip install ray"


def test_json_has_all_of_it(doctor: Callable[..., tuple[int, str]]) -> None:
    code, said = doctor(BAD, options=("--json",))
    assert code == 1
    assert json.loads(said) == {
        "is_fit": False,
        "remarks": [
            {
                "check": "software",
                "subject": "torch",
                "state": "problem",
                "found": "cannot be loaded",
                "advice": "install it anew",
            }
        ],
    }


def test_what_a_terminal_cannot_show_is_replaced(
    doctor: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2ch_luna.cli.doctor._encoding", lambda: "ascii")
    assert "/home/M?ller" in doctor(Remark("this folder", "ok", "/home/Müller"))[1]


def test_a_closed_terminal_is_no_failure(
    doctor: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert doctor(FINE)[0] == 0


@pytest.mark.slow
def test_it_looks_at_everything_on_this_machine() -> None:
    command = [sys.executable, "-m", "p2ch_luna", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    assert [*dict.fromkeys(one["check"] for one in json.loads(done.stdout)["remarks"])] == list(CHECKS)
