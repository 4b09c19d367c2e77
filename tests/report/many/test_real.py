"""Many small phantoms through the bundled detector: killed, resumed, by both engines, in bounded memory."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.io import write_ct
from p2ch_luna.io.find_scans import FoundScan, find_scans
from p2ch_luna.report.many.run import ManyDone, diagnose_many
from p2ch_luna.report.many.summary import Row

from .real_job import RealJob

pytestmark = pytest.mark.slow

N_SCANS = 12
WARM = 4  # scans, after which a worker has all it keeps


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[FoundScan]:
    """Slabs of one chest, of different heights and noise."""
    folder = tmp_path_factory.mktemp("phantoms")
    rng = np.random.default_rng(1)
    ct = make_phantom(rng, shape_irc=(24, 112, 112), spacing_xyz=(3.2, 3.2, 4.0), n_nodules=2).ct
    for k in range(N_SCANS):
        hu = ct.hu[: 20 + k % 5]
        noisy = np.rint(hu + rng.normal(0, 5, hu.shape)).astype(np.int16)
        write_ct(folder / f"chest-{k:02}.mha", replace(ct, series_uid=f"chest-{k:02}", hu=noisy))
    return find_scans(folder)


@pytest.fixture(scope="module")
def few(scans: list[FoundScan], tmp_path_factory: pytest.TempPathFactory) -> list[FoundScan]:
    """Three of these, and one that is cut short among them."""
    bad = tmp_path_factory.mktemp("bad") / "bad.mha"
    bad.write_bytes(scans[3].path.read_bytes()[:-1000])
    return [scans[0], FoundScan("bad", bad), *scans[1:3]]


@pytest.fixture(scope="module")
def plain(few: list[FoundScan], tmp_path_factory: pytest.TempPathFactory) -> ManyDone:
    return diagnose_many(few, tmp_path_factory.mktemp("plain"), RealJob(), workers=2)


def results(output: Path) -> dict[str, Any]:
    """Tables and reports, without the seconds."""
    found: dict[str, Any] = {}
    for path in output.glob("*/report.json"):
        found[path.parent.name] = json.loads(path.read_text(encoding="utf-8")) | {"timings_s": None}
    for path in (*output.glob("*/detections.csv"), output / "detections.csv", output / "seriesuids.csv"):
        found[str(path.relative_to(output))] = path.read_bytes()
    return found


def without_seconds(done: ManyDone) -> set[Row]:
    return {replace(row, seconds=None) for row in done.rows}


def test_a_bad_scan_among_good_ones_fails_alone(plain: ManyDone) -> None:
    assert [row.name for row in plain.rows if row.error] == ["bad"]
    assert "the file is cut short" in next(row.error for row in plain.rows if row.error)


def test_ray_has_the_results_of_the_plain_engine(
    plain: ManyDone, few: list[FoundScan], tmp_path: Path
) -> None:
    ray = diagnose_many(few, tmp_path, RealJob(), engine="ray", workers=2)
    assert without_seconds(ray) == without_seconds(plain)
    assert len(results(tmp_path)) == 3 + 3 + 2
    assert results(tmp_path) == results(plain.output)


def test_after_a_kill_only_what_is_missing_is_done(
    plain: ManyDone, few: list[FoundScan], tmp_path: Path
) -> None:
    """The process that is busy with another scan when the first is done is killed."""

    def kill(_row: Row, line: str) -> None:
        if line.startswith("1/"):
            pids = {child.pid for child in active_children()}
            idle = {int(pid) for pid in (tmp_path / "idle").read_text(encoding="utf-8").split()}
            os.kill((pids - idle or pids).pop() or 0, signal.SIGKILL)

    good = [scan for scan in few if scan.name != "bad"]
    job = RealJob(pid_log=tmp_path / "idle")
    first = diagnose_many(good, tmp_path / "out", job, workers=2, hear=kill)
    assert [row.error[:50] for row in first.rows if row.error] == [
        "the process that diagnosed it was killed by signal"
    ]
    second = diagnose_many(good, tmp_path / "out", job, workers=2)
    assert (second.n_before, second.n_failed) == (2, 0)
    assert without_seconds(second) == {row for row in without_seconds(plain) if not row.error}


def test_memory_does_not_grow_with_the_number_of_scans(scans: list[FoundScan], tmp_path: Path) -> None:
    done = diagnose_many(scans, tmp_path, RealJob(), workers=1)
    assert done.n_failed == 0
    before = [float((tmp_path / row.name / "rss").read_text(encoding="utf-8")) for row in done.rows]
    assert before[-1] < before[WARM] * 1.05, before
