"""Prepare many scans in several processes: what is done is done, and one bad scan stops no other."""

from __future__ import annotations

import ctypes
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import NamedTuple

import numpy as np

from p2ch_luna.datasets.catalogue import Problem, problem_of
from p2ch_luna.datasets.sources import ScanError, ScanSource, cache_key, find_prepared, noted, prepare_source
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.io.scan_cache import ScanCache, recipe_digest
from p2ch_luna.processes import Crew, Ended

SLACK_MM = 1.0  # that a place may lie beyond the outermost voxels: tables are rounded
WORKER_BYTES = 2**31  # for the longest scans of LUNA16; one of 512 x 512 x 300 takes 0.9 GB
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt
POLL_SECONDS = 0.2  # between looks whether another process has made what is waited for


@dataclass(frozen=True)
class Prepared:
    """A scan that is in the cache now."""

    source: ScanSource
    n_bytes: int  # on disk; 0 where it had to make room for another at once
    seconds: float | None  # of the work; None where it was in the cache already
    warning: str | None  # where no lungs were found


class _Task(NamedTuple):
    source: ScanSource
    waits: bool  # for another process that is making the same scan


_Answer = Prepared | Problem | LunaError | None  # None: another process is making it


def prepare_all(
    sources: Sequence[ScanSource], cache: ScanCache, workers: int = 1
) -> Iterator[Prepared | Problem]:
    """Prepare what is not in the cache; yield each scan, or what is wrong with it, as soon as it is known.

    Files that have not changed since they were prepared are not read again. Several of these may run at
    once: what another process is making is left to the end, and waited for. A scan whose worker process
    is killed is a problem like others. Raises LunaError where the cache cannot be used, as on a full disk.
    """
    stored = {entry.key: entry.n_bytes for entry in cache.entries() if entry.is_whole}
    recipe = recipe_digest()
    tasks: deque[_Task] = deque()
    for source in sources:
        try:
            known = noted(source, cache)
        except ScanError as error:
            yield problem_of(source, error)
            continue
        key = None if known is None else cache_key(source, known.content, cache, recipe)
        if known is None or key not in stored:
            tasks.append(_Task(source, waits=False))
        else:
            yield Prepared(source, stored[key], None, known.warning)
    yield from _in_processes(tasks, cache, workers)


def dropped(prepared: Iterable[Prepared], cache: ScanCache) -> list[Prepared]:
    """Those of the scans that the cache does not have any more: they made room for others."""
    stored = {entry.key for entry in cache.entries()}
    recipe = recipe_digest()
    found = []
    for scan in prepared:
        with suppress(ScanError):  # its own file is gone by now, which is another matter
            known = noted(scan.source, cache)
            if known is not None and cache_key(scan.source, known.content, cache, recipe) not in stored:
                found.append(scan)
    return found


def _in_processes(tasks: deque[_Task], cache: ScanCache, workers: int) -> Iterator[Prepared | Problem]:
    postponed: deque[_Task] = deque()
    crew: Crew[_Task, _Answer] = Crew(workers, partial(_begin, cache))
    try:
        while tasks or postponed or crew.is_busy:
            crew.hand_out(tasks)
            crew.hand_out(postponed)  # to those for whom there was no other
            for (source, _), answer in crew.answers():
                if answer is None:
                    postponed.append(_Task(source, waits=True))
                elif isinstance(answer, LunaError):
                    raise answer
                elif isinstance(answer, Ended):
                    reason = answer.reason("prepared")
                    yield Problem(source.series_uid, str(source.where), reason, source.subset)
                else:
                    yield answer
    finally:
        crew.end()  # what is not stored yet is not there


def _begin(cache: ScanCache) -> Callable[[_Task], _Answer]:
    """What a worker process does first; returns what it does with each scan."""
    import blosc2
    import SimpleITK as sitk  # noqa: N813

    _keep_memory()
    blosc2.set_nthreads(1)  # the work is split by scans
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return partial(_attempt, cache=cache)


def _keep_memory() -> None:
    """Let glibc keep the arrays of one scan for the next: new pages take as long to get as the work."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _attempt(task: _Task, cache: ScanCache) -> _Answer:
    source = task.source
    try:
        while True:
            with cache.claim(source.stat_name()) as is_ours:
                if is_ours:
                    return _prepare(source, cache)
            if not task.waits:
                return None
            time.sleep(POLL_SECONDS)
    except ScanError as error:
        return problem_of(source, error)
    except LunaError as error:
        return error
    except Exception as error:  # of any kind: the other scans go on, and the row of this one says it
        place = extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
        return Problem(source.series_uid, str(source.where), reason, source.subset)


def _prepare(source: ScanSource, cache: ScanCache) -> Prepared:
    start = time.perf_counter()
    before = find_prepared(source, cache)  # by another process, while this one waited for it
    stored = before or prepare_source(source, cache)
    size = 0
    if stored.path is not None:
        with suppress(
            FileNotFoundError
        ):  # in a full cache it may have made room already, which is told later
            size = stored.path.stat().st_size
    return Prepared(source, size, None if before else time.perf_counter() - start, stored.warning)


def misplaced(table: Path, nodules: Iterable[Nodule], sources: Sequence[ScanSource]) -> list[Problem]:
    """The rows of a table that lie outside their scan by more than `SLACK_MM`, by the scans' headers alone.

    Rows of other scans are passed over, and so are scans whose header is no good, which preparing tells.
    """
    by_uid = defaultdict(list)
    for nodule in nodules:
        by_uid[nodule.series_uid].append(nodule)
    problems = []
    for source in (s for s in sources if s.series_uid in by_uid):
        try:
            shape, geometry = source.grid()
        except ScanError:
            continue
        rows = by_uid[source.series_uid]
        irc = geometry.to_irc([n.center_xyz for n in rows])
        beyond = np.maximum(-0.5 - irc, irc - (np.array(shape) - 0.5)) * geometry.spacing_irc
        for row, mm in zip(rows, beyond.max(1), strict=True):
            if mm > SLACK_MM:
                place = ", ".join(f"{x:g}" for x in row.center_xyz)
                reason = f"the place ({place}) mm lies {mm:.1f} mm outside its scan; expected it inside"
                problems.append(Problem(source.series_uid, str(table), reason, source.subset))
    return problems


def default_workers() -> int:
    """One for each processor that this process may use, if there is `WORKER_BYTES` of memory for each."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(processors, memory // WORKER_BYTES))
