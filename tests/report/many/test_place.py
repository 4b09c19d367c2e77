"""Which folders the results of many scans may go to, and that only one process at a time writes there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io.find_scans import FoundScan
from p2ch_luna.report.many.place import LOCK, held
from p2ch_luna.report.many.run import diagnose_many
from p2ch_luna.report.many.summary import write_summary

from .conftest import MakeScans
from .fake_jobs import FakeJob

DIES_WITH_THE_LOCK = """
import fcntl, os, signal, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["seriesuids.csv", "detections.csv", "summary.csv"])
def test_tables_of_another_origin_are_not_replaced(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob, name: str
) -> None:
    """Such as LUNA16's list of scans."""
    (tmp_path / name).write_text("1.2.3\n", encoding="utf-8")
    with pytest.raises(LunaError, match=rf"{name}: not of a diagnosis of several scans; expected another"):
        diagnose_many(make_scans(a="good"), tmp_path, job)
    assert (tmp_path / name).read_text(encoding="utf-8") == "1.2.3\n"
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.mha", "subset0/a.mha"])
def test_a_folder_with_the_scans_in_it_is_refused(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(LunaError, match="the scans lie in it; expected another"),
        held(tmp_path, [FoundScan("a", tmp_path / name)]),
    ):
        pass
    assert names(tmp_path) == []


def test_a_scan_that_is_the_folder_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="the scans lie in it"), held(tmp_path, [FoundScan("a", tmp_path)]):
        pass


def test_a_folder_with_the_scans_in_it_is_seen_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "scans")
    scan = FoundScan("a", tmp_path / "scans" / "a.mha")
    with pytest.raises(LunaError, match="the scans lie in it"), held(tmp_path / "link", [scan]):
        pass


def test_results_of_one_scan_are_not_mixed_with_those_of_several(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob
) -> None:
    for name in ("report.json", "detections.csv"):
        (tmp_path / name).touch()
    with pytest.raises(LunaError, match=r"holds report\.json, the results of one scan; expected another"):
        diagnose_many(make_scans(a="good"), tmp_path, job)
    assert names(tmp_path) == ["detections.csv", "report.json"]


def test_tables_of_an_earlier_diagnosis_may_be_replaced(tmp_path: Path) -> None:
    write_summary(tmp_path / "summary.csv", [])
    (tmp_path / "seriesuids.csv").touch()
    with held(tmp_path, []):
        assert names(tmp_path) == [LOCK, "seriesuids.csv", "summary.csv"]


def test_a_second_diagnosis_into_the_folder_is_refused(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob
) -> None:
    scans = make_scans(a="good")
    with held(tmp_path / "out", scans), pytest.raises(LunaError, match="another process diagnoses scans"):
        diagnose_many(scans, tmp_path / "out", job)
    assert not job.log.exists()


def test_the_folder_is_free_afterwards(tmp_path: Path) -> None:
    with held(tmp_path / "out", []):
        pass
    with held(tmp_path / "out", []):
        pass
    assert names(tmp_path / "out") == []


def test_the_lock_of_a_killed_process_is_none(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES_WITH_THE_LOCK, str(tmp_path / LOCK)], check=False)
    assert names(tmp_path) == [LOCK]
    with held(tmp_path, []):
        pass
