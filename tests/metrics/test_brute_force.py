"""The score once more, in the plainest loops that the rules allow: both ways agree on random cases.

Nothing of `p2ch_luna.metrics` is used in the loops, and nothing is shared with them but the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from p2ch_luna.findings import Nodule, Point
from p2ch_luna.metrics.froc import bootstrap, froc
from p2ch_luna.metrics.matching import score_detections

RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)


class Mark(NamedTuple):
    series_uid: str
    center_xyz: Point
    probability: float


class Case(NamedTuple):
    nodules: list[Nodule]
    excluded: list[Nodule]
    scans: list[str]
    marks: list[Mark]


class Tally(NamedTuple):
    """Best score of each nodule (None: missed) and the scores of the false positives."""

    found: list[float | None]
    false: list[float]


def is_inside(mark: Mark, finding: Nodule) -> bool:
    diameter = 10.0 if finding.diameter_mm < 0 else finding.diameter_mm
    squared = 0.0
    for a, b in zip(mark.center_xyz, finding.center_xyz, strict=True):
        squared += (a - b) ** 2
    return squared < (diameter / 2) ** 2


def tally_of_scan(case: Case, uid: str) -> Tally:
    marks = [mark for mark in case.marks if mark.series_uid == uid]
    if len(marks) > 100:
        next_best = sorted((mark.probability for mark in marks), reverse=True)[100]
        marks = [mark for mark in marks if mark.probability > next_best]
    pool = dict(enumerate(marks))
    found: list[float | None] = []
    for nodule in case.nodules:
        if nodule.series_uid == uid:
            matched = [number for number, mark in enumerate(marks) if is_inside(mark, nodule)]
            found.append(max((marks[number].probability for number in matched), default=None))
            for number in matched:
                pool.pop(number, None)
    for finding in case.excluded:
        for number, mark in list(pool.items()):
            if finding.series_uid == uid and is_inside(mark, finding):
                del pool[number]
    return Tally(found, [mark.probability for mark in pool.values()])


def corners(tallies: list[Tally]) -> list[tuple[float, float]]:
    """False positives per scan and sensitivity, from (0, 0) on: a point for each score that occurs."""
    found = [score for tally in tallies for score in tally.found]
    false = [score for tally in tallies for score in tally.false]
    points = [(0.0, 0.0)]
    for threshold in sorted({*false, *(score for score in found if score is not None)}, reverse=True):
        above = sum(score is not None and score >= threshold for score in found)
        points.append((sum(score >= threshold for score in false) / len(tallies), above / len(found)))
    return points


def sensitivity_at(rate: float, points: list[tuple[float, float]]) -> float:
    """On the broken line through the points; of a vertical step, its top; level after the last."""
    before = max(number for number, point in enumerate(points) if point[0] <= rate)
    if before == len(points) - 1:
        return points[-1][1]
    (x, y), (next_x, next_y) = points[before : before + 2]
    return y + (next_y - y) * (rate - x) / (next_x - x)


def random_case(seed: int) -> Case:
    """Up to 5 scans on a small lattice, so that hits, double hits, ties and marks on a surface are common."""
    rng = np.random.default_rng(seed)
    scans = [f"1.{number}" for number in range(rng.integers(1, 6))]

    def place() -> tuple[str, Point]:
        x, y, z = (float(v) for v in rng.integers(0, (14, 14, 4)))
        return str(rng.choice(scans)), (x, y, z)

    def findings(count: int) -> list[Nodule]:
        return [Nodule(*place(), float(rng.choice([-1, 2, 4, 6, 10]))) for _ in range(count)]

    levels = int(rng.choice([3, 20, 150]))
    marks = [Mark(*place(), int(rng.integers(levels)) / levels) for _ in range(rng.choice([0, 5, 40, 300]))]
    return Case(findings(int(rng.integers(1, 8))), findings(int(rng.integers(0, 8))), scans, marks)


@pytest.mark.parametrize("seed", range(200))
def test_sensitivities_agree(seed: int) -> None:
    case = random_case(seed)
    points = corners([tally_of_scan(case, uid) for uid in case.scans])
    expected = [sensitivity_at(rate, points) for rate in RATES]
    np.testing.assert_allclose(froc(score_detections(*case)).at(RATES), expected, atol=1e-12)


def limit_is_met(case: Case) -> bool:
    return any(sum(mark.series_uid == uid for mark in case.marks) > 100 for uid in case.scans)


def a_mark_hits_two(case: Case) -> bool:
    return any(
        sum(n.series_uid == m.series_uid and is_inside(m, n) for n in case.nodules) > 1 for m in case.marks
    )


def scores_are_tied(case: Case) -> bool:
    return len({mark.probability for mark in case.marks}) < len(case.marks)


@pytest.mark.parametrize("trait", [limit_is_met, a_mark_hits_two, scores_are_tied])
def test_the_random_cases_have_what_is_hard(trait: Callable[[Case], bool]) -> None:
    assert sum(trait(random_case(seed)) for seed in range(200)) >= 20


@pytest.mark.parametrize("seed", range(0, 200, 10))
def test_bounds_agree(seed: int) -> None:
    """Scans are copied as often as they are drawn; the 40 resamples are bounded by their 2nd and 40th."""
    case = random_case(seed)
    n = len(case.scans)
    tallies = [tally_of_scan(case, uid) for uid in case.scans]
    rows = np.random.default_rng(seed).multinomial(n, [1 / n] * n, size=40)
    resamples = [[t for t, times in zip(tallies, row, strict=True) for _ in range(times)] for row in rows]
    at_half = sorted(
        sensitivity_at(0.5, corners(drawn)) for drawn in resamples if any(t.found for t in drawn)
    )
    low, high = (at_half[int(p * len(at_half) + 1e-9)] for p in (0.025, 0.975))
    bounds = bootstrap(score_detections(*case), np.random.default_rng(seed), 40).at(0.5)
    expected = [np.nan, np.nan] if n == 1 else [low, high]
    np.testing.assert_allclose([bounds.low, bounds.high], expected, atol=1e-12)
