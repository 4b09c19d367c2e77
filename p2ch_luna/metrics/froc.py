"""The FROC curve and LUNA16's score: sensitivity against false positives per scan."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.metrics.matching import Outcome

CPM_FP_PER_SCAN = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
BOOTSTRAP_GRID = np.linspace(0.125, 8, 10000)  # false positives per scan
_WEIGHTS_AT_ONCE = 4_000_000  # of resamples x marks: some 100 MB


@dataclass(frozen=True, eq=False)
class Froc:
    """A curve of K points from (0, 0) on; tied scores are one point.

    fp_per_scan, sensitivity: (K,) neither falls.    threshold: (K,) the lowest score counted there.
    """

    fp_per_scan: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    threshold: NDArray[np.float64]

    def at(self, fp_per_scan: ArrayLike) -> NDArray[np.float64]:
        """Sensitivity at these false positives per scan: linear in between, constant after the last point."""
        return np.asarray(np.interp(np.asarray(fp_per_scan, float), self.fp_per_scan, self.sensitivity))

    @property
    def cpm(self) -> float:
        """Competition performance metric: mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 FP per scan."""
        return float(self.at(CPM_FP_PER_SCAN).mean())


@dataclass(frozen=True, eq=False)
class Bounds:
    """Ends of an interval."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """How far the curve would vary with other scans.

    sensitivity: (K,) bounds at `fp_per_scan` (K,).    cpm: () bounds.
    """

    fp_per_scan: NDArray[np.float64]
    sensitivity: Bounds
    cpm: Bounds

    def at(self, fp_per_scan: ArrayLike) -> Bounds:
        """The bounds of sensitivity at these false positives per scan."""
        wanted = np.asarray(fp_per_scan, float)
        low = np.interp(wanted, self.fp_per_scan, self.sensitivity.low)
        high = np.interp(wanted, self.fp_per_scan, self.sensitivity.high)
        return Bounds(np.asarray(low), np.asarray(high))


def froc(outcome: Outcome) -> Froc:
    """The FROC curve. Raises LunaError if there is no nodule: sensitivity is not defined then."""
    _check_not_empty(outcome)
    steps = _Steps.of(outcome)
    fp, tp = steps.cumulate(np.ones((1, outcome.n_scans)))
    threshold = np.concatenate([[np.inf], steps.score[steps.last]])
    return Froc(fp[0] / outcome.n_scans, tp[0] / len(outcome.nodule_score), threshold)


def bootstrap(
    outcome: Outcome, rng: np.random.Generator, n_resamples: int = 1000, confidence: float = 0.95
) -> Bootstrap:
    """Draw as many scans as there are, with replacement, over and over, and bound the middle of the curves.

    A resample without a nodule has no sensitivity and is left out. Raises LunaError if there is no nodule.
    """
    _check_not_empty(outcome)
    curves, cpms = _resampled(outcome, rng, n_resamples)
    return Bootstrap(BOOTSTRAP_GRID, _middle(curves, confidence), _middle(cpms, confidence))


def _resampled(
    outcome: Outcome, rng: np.random.Generator, n_resamples: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(R, K) sensitivity on the grid and (R,) CPM of the resamples that have a nodule."""
    n = outcome.n_scans
    times_drawn = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(float)  # (R, S)
    n_nodules = times_drawn @ np.bincount(outcome.nodule_scan, minlength=n)
    times_drawn, n_nodules = times_drawn[n_nodules > 0], n_nodules[n_nodules > 0]
    steps = _Steps.of(outcome)
    curves = np.empty((len(times_drawn), len(BOOTSTRAP_GRID)), np.float32)
    cpms = np.empty(len(times_drawn), np.float32)
    block = max(1, _WEIGHTS_AT_ONCE // (len(steps.score) + 1))
    for start in range(0, len(times_drawn), block):
        fp, tp = steps.cumulate(times_drawn[start : start + block])
        for i in range(len(fp)):
            points = fp[i] / n, tp[i] / n_nodules[start + i]
            curves[start + i] = np.interp(BOOTSTRAP_GRID, *points)
            cpms[start + i] = np.interp(CPM_FP_PER_SCAN, *points).mean()
    return curves, cpms


def _middle(resamples: NDArray[np.float32], confidence: float) -> Bounds:
    """Bounds of (R, ...) values: sorted[floor(p R)] at both ends, as the official script has it."""
    ordered = np.sort(resamples, axis=0)
    tail = (1 - confidence) / 2
    low, high = (ordered[math.floor(p * len(ordered))] for p in (tail, 1 - tail))
    return Bounds(low, high)


def _check_not_empty(outcome: Outcome) -> None:
    if not len(outcome.nodule_score):
        raise LunaError(f"truth: no nodule in {outcome.n_scans} scan(s); expected at least one to find")


@dataclass(frozen=True, eq=False)
class _Steps:
    """Found nodules and false positives by falling score.

    score, scan, is_nodule: (E,).    last: (T,) where each run of tied scores ends.
    """

    score: NDArray[np.float64]
    scan: NDArray[np.int64]
    is_nodule: NDArray[np.bool_]
    last: NDArray[np.int64]

    @classmethod
    def of(cls, outcome: Outcome) -> _Steps:
        found = outcome.nodule_score > -np.inf
        score = np.concatenate([outcome.nodule_score[found], outcome.false_score])
        scan = np.concatenate([outcome.nodule_scan[found], outcome.false_scan])
        is_nodule = np.arange(len(score)) < found.sum()
        order = np.argsort(-score, kind="stable")
        score = score[order]
        last = np.flatnonzero(np.append(score[1:] != score[:-1], len(score) > 0))
        return cls(score, scan[order], is_nodule[order], last)

    def cumulate(self, times_drawn: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(R, T + 1) false positives and found nodules down to each score, if scans count (R, S) times."""
        weight = times_drawn[:, self.scan]
        found = np.cumsum(weight * self.is_nodule, axis=1)[:, self.last]
        false = np.cumsum(weight * ~self.is_nodule, axis=1)[:, self.last]
        origin = np.zeros((len(weight), 1))
        return np.hstack([origin, false]), np.hstack([origin, found])
