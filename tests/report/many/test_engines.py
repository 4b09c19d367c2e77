"""Many scans in processes: killed ones, what they share, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing import active_children
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.report.many import engines
from p2ch_luna.report.many.engines import WORKER_BYTES, in_processes, memory_bytes, processors, shares_of
from p2ch_luna.report.many.run import diagnose_many
from p2ch_luna.report.many.summary import Row
from p2ch_luna.report.many.work import Task

from .conftest import ROOT, MakeScans
from .fake_jobs import FakeJob, report

SCRIPT = """
import sys
from pathlib import Path
from p2ch_luna.io.find_scans import find_scans
from p2ch_luna.report.many.run import diagnose_many
from tests.report.many.fake_jobs import FakeJob

if __name__ == "__main__":
    out = Path(sys.argv[2])
    scans, job = find_scans(Path(sys.argv[1])), FakeJob(out.absolute() / "loaded")
    hear = lambda row, _line: (out / f"heard-{row.name}").touch()
    diagnose_many(scans, out, job, engine=sys.argv[3], workers=2, hear=hear)
"""
SECONDS = 120.0  # that a process may take to begin, on a machine that has other things to do


@pytest.fixture(scope="module")
def outcome(make_scans: MakeScans, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], Path]:
    """Six scans in two processes, one of which kills its process, and of that one are older results."""
    out = tmp_path_factory.mktemp("out")
    (out / "b").mkdir()
    (out / "b" / "report.json").write_text(report("b").to_json(), encoding="utf-8")
    (out / "b" / "detections.csv").touch()
    scans = make_scans(a="good", b="kill", c="good", d="bad", e="good", f="good")
    done = diagnose_many(scans, out, FakeJob(out / "loaded"), workers=2)
    return list(done.rows), out


def test_a_killed_process_costs_its_scan_alone(outcome: tuple[list[Row], Path]) -> None:
    rows, _ = outcome
    assert sorted(row.name for row in rows if row.error) == ["b", "d"]
    assert sorted(row.name for row in rows if not row.error) == ["a", "c", "e", "f"]


def test_the_row_says_how_the_process_ended(outcome: tuple[list[Row], Path]) -> None:
    (row,) = (row for row in outcome[0] if row.name == "b")
    assert row.error == (
        "the process that diagnosed it was killed by signal 9 (out of memory?); try again with fewer workers"
    )


def test_what_a_killed_process_has_begun_is_removed_and_so_are_older_results(
    outcome: tuple[list[Row], Path],
) -> None:
    assert not (outcome[1] / "b").exists()


def test_each_process_loads_the_networks_once(outcome: tuple[list[Row], Path]) -> None:
    """Two, and a third in the place of the one that was killed."""
    loads = Counter((outcome[1] / "loaded").read_text(encoding="utf-8").splitlines())
    assert set(loads.values()) == {1}
    assert len(loads) in (2, 3)


def test_processes_share_the_processors(outcome: tuple[list[Row], Path]) -> None:
    workers = [path.read_text(encoding="utf-8").split() for path in outcome[1].glob("*/worker")]
    assert {int(threads) for _, threads in workers} == {max(1, processors() // 2)}
    assert str(os.getpid()) not in {pid for pid, _ in workers}


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 16 processors and memory for 10 workers."""
    monkeypatch.setattr(engines, "processors", lambda: 16)
    monkeypatch.setattr(engines, "memory_bytes", lambda: 10 * WORKER_BYTES)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(
    ("n_tasks", "device", "workers", "threads", "expected"),
    [
        (100, "cpu", None, None, (10, 1)),  # of memory
        (3, "cpu", None, None, (3, 5)),
        (1, "cpu", None, None, (1, 16)),
        (1, "cpu", 8, None, (1, 16)),
        (100, "cpu", 4, None, (4, 4)),
        (100, "cpu", None, 4, (4, 4)),
        (100, "cpu", None, 32, (1, 32)),
        (100, "cpu", 8, 3, (8, 3)),
        (100, "cuda", None, None, (1, 16)),  # which all would share
        (100, "cuda", 2, None, (2, 8)),
    ],
)
def test_there_are_so_many_workers_of_so_many_threads(
    n_tasks: int, device: str, workers: int | None, threads: int | None, expected: tuple[int, int]
) -> None:
    assert shares_of(n_tasks, device, workers, threads) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("4096\n", 4096), ("max\n", None), (f"{1 << 63}\n", None), (None, None)]
)
def test_memory_is_what_the_control_group_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: int | None
) -> None:
    limit = tmp_path / "memory.max"
    if text is not None:
        limit.write_text(text, encoding="utf-8")
    monkeypatch.setattr(engines, "MEMORY_LIMITS", (limit,))
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory_bytes() == (whole if expected is None else expected)


@pytest.mark.usefixtures("outcome")
def test_no_process_is_left() -> None:
    assert active_children() == []


@pytest.mark.slow
def test_a_worker_without_networks_ends_all(make_scans: MakeScans, tmp_path: Path) -> None:
    job = FakeJob(tmp_path / "loaded", load_error="no weights")
    with pytest.raises(LunaError, match="no weights"):
        diagnose_many(make_scans(a="good", b="good"), tmp_path / "out", job, workers=2)
    assert active_children() == []


@pytest.mark.slow
def test_work_that_is_given_up_leaves_no_process(make_scans: MakeScans, tmp_path: Path) -> None:
    tasks = [Task(scan, tmp_path / scan.name) for scan in make_scans(a="good", b="slow")]
    rows = in_processes(tasks, FakeJob(tmp_path / "loaded"), workers=2)
    assert next(rows).name == "a"
    wait_for(tmp_path / "b" / ".0123abcd")
    rows.close()
    assert active_children() == []
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["tidied"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("engine", ["plain", "ray"])
def test_a_signal_ends_it_and_what_is_done_stays(
    make_scans: MakeScans, tmp_path: Path, number: signal.Signals, engine: str
) -> None:
    scans = make_scans(a="good", b="slow", c="slow")
    code = stopped_by(
        number, [str(scans[0].path.parent), str(tmp_path), engine], tmp_path / "b" / ".0123abcd"
    )
    assert code in (-signal.SIGINT, 130)  # how Python tells of a KeyboardInterrupt
    assert (tmp_path / "summary.csv").read_text(encoding="utf-8").splitlines()[1].startswith("a,")
    assert (tmp_path / "a" / "done.json").is_file()
    assert not list(tmp_path.glob("*/.*"))


def stopped_by(number: signal.Signals, arguments: Sequence[str], begun: Path) -> int:
    """The exit code of the script above, which hears the signal once `begun` is there."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        wait_for(begun)
        wait_for(Path(arguments[1]) / "heard-a")
        process.send_signal(number)
        return process.wait(SECONDS)


def wait_for(path: Path) -> None:
    end = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.05)
