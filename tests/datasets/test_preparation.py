"""Many scans in several processes: bad ones, killed ones, and two of these at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.datasets import preparation
from p2ch_luna.datasets.catalogue import Problem
from p2ch_luna.datasets.preparation import Prepared, dropped, misplaced, prepare_all
from p2ch_luna.datasets.sources import ScanSource, prepare_source
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import write_ct
from p2ch_luna.io.scan_cache import ScanCache, StoredScan


def chest(uid: str, lung_hu: int) -> CtVolume:
    """Two lungs of even air in a body, 64 x 192 x 192 mm."""
    hu = np.full((16, 48, 48), -1000, np.int16)
    hu[:, 8:40, 4:44] = 40
    hu[2:14, 12:36, 8:20] = hu[2:14, 12:36, 28:40] = lung_hu
    return CtVolume(uid, hu, ImageGeometry.axial((4.0, 4.0, 4.0), (-90.0, -80.0, -200.0)))


@pytest.fixture
def sources(tmp_path: Path) -> list[ScanSource]:
    """Three scans; the one in the middle is cut short."""
    found = []
    for k in range(3):
        path = tmp_path / f"subset{k}" / f"1.2.{k}.mhd"
        write_ct(path, chest(f"1.2.{k}", -850 - k))
        found.append(ScanSource(f"1.2.{k}", path, None, k))
    found[1].path.with_suffix(".raw").write_bytes(b"short")
    return found


@pytest.fixture
def cache(tmp_path: Path) -> ScanCache:
    return ScanCache(tmp_path / "cache")


def uids(outcomes: Sequence[Prepared | Problem], kind: type) -> set[str]:
    return {
        outcome.series_uid if isinstance(outcome, Problem) else outcome.source.series_uid
        for outcome in outcomes
        if isinstance(outcome, kind)
    }


def test_a_bad_scan_stops_no_other(sources: list[ScanSource], cache: ScanCache) -> None:
    outcomes = list(prepare_all(sources, cache, workers=2))
    assert uids(outcomes, Prepared) == {"1.2.0", "1.2.2"}
    assert uids(outcomes, Problem) == {"1.2.1"}


def test_the_problem_says_where_and_why(sources: list[ScanSource], cache: ScanCache) -> None:
    (problem,) = prepare_all(sources[1:2], cache)
    raw = sources[1].path.with_suffix(".raw")
    reason = f"{raw}: 5 bytes; expected 73728 by its header: the file is cut short"
    assert problem == Problem("1.2.1", str(sources[1].path), reason, 1)


def test_what_is_stored_is_what_one_process_stores(
    sources: list[ScanSource], cache: ScanCache, tmp_path: Path
) -> None:
    list(prepare_all(sources[:1], cache))
    (here,) = cache.entries()
    alone = prepare_source(sources[0], ScanCache(tmp_path / "alone"))
    assert alone.path is not None
    assert here.path.read_bytes() == alone.path.read_bytes()


def test_what_is_there_is_not_made_again(
    sources: list[ScanSource], cache: ScanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = {
        p.source.series_uid: p.n_bytes for p in prepare_all(sources[::2], cache) if isinstance(p, Prepared)
    }
    monkeypatch.setattr("p2ch_luna.processes._Process", None)  # no process is started
    assert list(prepare_all(sources[::2], cache)) == [
        Prepared(source, size[source.series_uid], None, None) for source in sources[::2]
    ]


def test_scans_that_are_kept_are_not_dropped(sources: list[ScanSource], cache: ScanCache) -> None:
    prepared = [p for p in prepare_all(sources[::2], cache) if isinstance(p, Prepared)]
    assert (len(prepared), dropped(prepared, cache)) == (2, [])


def test_a_scan_that_made_room_for_another_is_dropped(
    sources: list[ScanSource], cache: ScanCache, tmp_path: Path
) -> None:
    """Also where it is there in another storage."""
    prepare_source(sources[0], ScanCache(tmp_path / "cache", "raw"))
    prepared = [p for p in prepare_all(sources[::2], cache) if isinstance(p, Prepared)]
    (row,) = (row for row in cache._index.rows() if row.label == "blosc2 1.2.0")
    cache._index.remove(row)
    assert uids(dropped(prepared, cache), Prepared) == {"1.2.0"}


def test_a_scan_that_makes_room_at_once_is_no_bad_one(
    sources: list[ScanSource], cache: ScanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another worker stores its scan just then, and the cache is full."""

    def prepare_and_drop(source: ScanSource, cache: ScanCache) -> StoredScan:
        stored = prepare_source(source, cache)
        (row,) = cache._index.rows()
        cache._index.remove(row)
        return stored

    monkeypatch.setattr(preparation, "prepare_source", prepare_and_drop)
    answer = preparation._attempt(preparation._Task(sources[0], waits=False), cache)
    assert isinstance(answer, Prepared), answer
    assert (answer.n_bytes, uids(dropped([answer], cache), Prepared)) == (0, {"1.2.0"})


def test_the_recipe_is_worked_out_once_for_all_scans(
    sources: list[ScanSource], cache: ScanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(prepare_all(sources[::2], cache))
    monkeypatch.setattr("p2ch_luna.io.scan_keys.recipe_digest", None)
    assert len(list(prepare_all(sources[::2], cache))) == 2


def test_a_scan_that_is_gone_is_a_problem(sources: list[ScanSource], cache: ScanCache) -> None:
    sources[0].path.unlink()
    (problem,) = prepare_all(sources[:1], cache)
    assert isinstance(problem, Problem)
    assert problem.reason == "cannot be read: No such file or directory; expected a scan"


def test_what_another_process_makes_is_left_to_the_end(sources: list[ScanSource], cache: ScanCache) -> None:
    with cache.claim(sources[0].stat_name()) as is_ours:
        assert is_ours
        outcomes = prepare_all(sources[::2], cache)
        first = next(outcomes)
    assert uids([first], Prepared) == {"1.2.2"}
    assert uids(list(outcomes), Prepared) == {"1.2.0"}


def test_a_killed_worker_is_a_problem_and_the_rest_goes_on(
    sources: list[ScanSource], cache: ScanCache
) -> None:
    with cache.claim(sources[0].stat_name()):  # so that the worker waits with it
        outcomes = prepare_all([sources[0], sources[2]], cache)
        next(outcomes)
        for child in active_children():
            os.kill(child.pid or 0, signal.SIGKILL)
        (problem,) = outcomes
    assert isinstance(problem, Problem)
    assert problem.series_uid == "1.2.0"
    assert "was killed by signal 9 (out of memory?); try again with fewer workers" in problem.reason


def test_no_process_is_left_where_the_work_ends_early(sources: list[ScanSource], cache: ScanCache) -> None:
    outcomes = prepare_all(sources, cache)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert active_children() == []


def test_a_cache_that_cannot_be_used_ends_all(sources: list[ScanSource], tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="one scan takes"):
        list(prepare_all(sources[:1], ScanCache(tmp_path / "small", size_limit=1)))


def test_an_error_of_any_kind_is_a_problem_with_its_line(
    sources: list[ScanSource], cache: ScanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setattr(preparation, "prepare_source", fail)
    answer = preparation._attempt(preparation._Task(sources[0], waits=False), cache)
    assert isinstance(answer, Problem)
    assert answer.reason.startswith("ZeroDivisionError: no (test_preparation.py, line ")


def test_a_place_outside_its_scan_is_named(sources: list[ScanSource]) -> None:
    """The centre of the outermost column lies at x = 98 mm, its border at 100."""
    nodules = [Nodule("1.2.0", (102.5, 0.0, -180.0), 5.0), Nodule("1.2.0", (100.5, 0.0, -180.0), 5.0)]
    (problem,) = misplaced(Path("a.csv"), nodules, sources)
    reason = "the place (102.5, 0, -180) mm lies 2.5 mm outside its scan; expected it inside"
    assert problem == Problem("1.2.0", "a.csv", reason, 0)


def test_places_of_scans_that_are_not_there_are_passed_over(sources: list[ScanSource]) -> None:
    assert misplaced(Path("a.csv"), [Nodule("9.9.9", (0.0, 0.0, 0.0), 5.0)], sources) == []


def test_places_of_a_scan_with_a_bad_header_are_passed_over(sources: list[ScanSource]) -> None:
    sources[0].path.write_text("no header")
    assert misplaced(Path("a.csv"), [Nodule("1.2.0", (0.0, 0.0, 0.0), 5.0)], sources) == []


def test_a_scan_whose_file_is_gone_is_prepared_again(sources: list[ScanSource], cache: ScanCache) -> None:
    list(prepare_all(sources[:1], cache))
    (entry,) = cache.entries()
    entry.path.unlink()
    (outcome,) = prepare_all(sources[:1], cache)
    assert isinstance(outcome, Prepared)
    assert outcome.seconds is not None
    assert cache.entries()[0].is_whole
