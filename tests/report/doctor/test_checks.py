"""No check can end the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2ch_luna.report.doctor import Remark, examine
from p2ch_luna.report.doctor.checks import CHECKS, Check, look
from p2ch_luna.report.doctor.places import GONE
from support.ailing import FINE, crashing, ending, fine, hanging, raising


def told(check: Check, patience_s: float = 20.0) -> list[Remark]:
    """Of a check, after which a sound one must still be done."""
    found = dict(examine({"ailing": check, "sound": Check(fine)}, patience_s))
    assert found["sound"] == [FINE]
    return found["ailing"]


def test_a_check_is_heard(capfd: pytest.CaptureFixture[str]) -> None:
    assert told(Check(fine)) == [FINE]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("ailing", "how"),
    [(raising, "RuntimeError: no such thing"), (crashing, "it crashes, SIGKILL"), (ending, "with code 2")],
)
def test_a_check_that_goes_wrong_is_a_remark(ailing: object, how: str) -> None:
    (remark,) = told(Check(ailing))  # type: ignore[arg-type]
    assert remark.state == "note"
    assert how in remark.found


def test_a_check_that_hangs_is_given_up() -> None:
    (remark,) = told(Check(hanging), patience_s=1.5)
    assert "no answer within 1.5 s" in remark.found


def test_a_needed_check_that_goes_wrong_is_a_problem() -> None:
    (remark,) = look({"needed": Check(raising, is_needed=True)}, "needed")
    assert remark.state == "problem"
    assert "install it anew" in remark.advice


def test_without_processes_all_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr("p2ch_luna.processes.Crew.hand_out", fail)
    assert list(examine({"a": Check(fine), "b": Check(fine)})) == [("a", [FINE]), ("b", [FINE])]


def test_a_folder_that_is_gone_is_the_one_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert list(examine()) == [("places", [GONE])]


@pytest.mark.parametrize("name", CHECKS)
def test_no_check_fails_here(name: str) -> None:
    remarks = look(CHECKS, name)
    assert remarks
    assert not [remark for remark in remarks if "cannot be checked" in remark.found]


@pytest.mark.parametrize("name", CHECKS)
def test_what_is_not_well_comes_with_advice(name: str) -> None:
    assert all(remark.advice for remark in look(CHECKS, name) if remark.state != "ok")
