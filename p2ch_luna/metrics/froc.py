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
_WEIGHTS_AT_ONCE = 1_000_000  # of resamples x marks: some 50 MB
_ENOUGH = 1.25  # false positives to count first, of those a resample needs on average
_ROUNDING = 1e-9  # of p R: (1 - 0.9) / 2 x 1000 is a little less than 50


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
    """How far the curve would vary with other scans, or other groups of scans if those were drawn.

    NaN where fewer than two say nothing of that.

    fp_per_scan: (K,) LUNA16's grid and the seven points of the CPM between its points.
    sensitivity: (K,) bounds there.    cpm: () bounds.
    """

    fp_per_scan: NDArray[np.float64]
    sensitivity: Bounds
    cpm: Bounds

    def at(self, fp_per_scan: ArrayLike) -> Bounds:
        """The bounds of sensitivity at these false positives per scan: linear between those computed."""
        wanted = np.asarray(fp_per_scan, float)
        low = np.interp(wanted, self.fp_per_scan, self.sensitivity.low)
        high = np.interp(wanted, self.fp_per_scan, self.sensitivity.high)
        return Bounds(np.asarray(low), np.asarray(high))


def froc(outcome: Outcome) -> Froc:
    """The FROC curve. Raises LunaError if there is no nodule: sensitivity is not defined then."""
    _check_not_empty(outcome)
    steps = _Steps.of(outcome)
    fp, tp = steps.cumulate(np.ones((1, outcome.n_scans), np.int64))
    threshold = np.concatenate([[np.inf], steps.score[steps.last]])
    return Froc(fp[0] / outcome.n_scans, tp[0] / len(outcome.nodule_score), threshold)


def bootstrap(
    outcome: Outcome,
    rng: np.random.Generator,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    groups: ArrayLike | None = None,
) -> Bootstrap:
    """Draw as many scans as there are, with replacement, over and over, and bound the middle of the curves.

    LUNA16's script bounds the curve on a grid that lacks 1/4, 1/2, 2 and 4 false positives per scan. At a
    step of the curve an interval from its neighbours can miss its own estimate: these points are added.
    A resample without a nodule has no sensitivity and is left out. With fewer than two scans, or `groups` as
    in `draw_scans`, every resample is the same: the bounds are NaN, not an interval of no width. Raises
    LunaError if there is no nodule.
    """
    _check_not_empty(outcome)
    times_drawn = draw_scans(outcome, rng, n_resamples, groups)
    fp_per_scan = np.union1d(BOOTSTRAP_GRID, CPM_FP_PER_SCAN)
    curves = resample(outcome, times_drawn, fp_per_scan)
    cpms = curves[:, np.searchsorted(fp_per_scan, CPM_FP_PER_SCAN)].mean(axis=1)
    return Bootstrap(fp_per_scan, middle(curves, confidence), middle(cpms, confidence))


def draw_scans(
    outcome: Outcome, rng: np.random.Generator, n_resamples: int, groups: ArrayLike | None = None
) -> NDArray[np.int64]:
    """(R, S): how often each scan is in a resample; resamples without a nodule are left out.

    groups: (S,) number or name of each scan's group. As many groups are drawn as there are, each with all of
    its scans: those of one patient, or copies of one scan, are alike and say less than as many others
    (Davison and Hinkley 1997, chapter 3.8). Left out: each scan is a group of its own.

    There is none (R = 0) if there are fewer than two groups to draw from.
    """
    group = _numbered(groups, outcome.n_scans)
    n = len(np.unique(group))
    if n < 2:
        return np.empty((0, outcome.n_scans), np.int64)
    times_drawn = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)[:, group]
    n_nodules = times_drawn @ np.bincount(outcome.nodule_scan, minlength=outcome.n_scans)
    return times_drawn[n_nodules > 0]


def _numbered(groups: ArrayLike | None, n_scans: int) -> NDArray[np.int64]:
    """(S,): the number of each scan's group, from 0 on."""
    if groups is None:
        return np.arange(n_scans)
    named = np.asarray(groups)
    if named.shape != (n_scans,):
        raise ValueError(f"groups of scans: shape {named.shape}; wanted one for each of {n_scans} scan(s)")
    return np.unique(named, return_inverse=True)[1].reshape(-1)


def resample(outcome: Outcome, times_drawn: NDArray[np.int64], fp_per_scan: ArrayLike) -> NDArray[np.float64]:
    """(R, K): sensitivity at each of `fp_per_scan` (K,), as of `Froc.at`, if scans count (R, S) times."""
    wanted = np.asarray(fp_per_scan, float)
    n_scans = times_drawn.sum(axis=1)  # groups that are drawn whole may differ in size
    n_nodules = times_drawn @ np.bincount(outcome.nodule_scan, minlength=outcome.n_scans)
    every = _Steps.of(outcome)
    n_false = n_scans * wanted.max(initial=0)  # as far as each resample's curve is looked at
    few = every.until(math.ceil(_ENOUGH * n_false.max(initial=0)))
    curves = np.empty((len(times_drawn), len(wanted)))
    block = max(1, _WEIGHTS_AT_ONCE // (len(few.score) + 1))
    for start in range(0, len(times_drawn), block):
        rows = slice(start, start + block)
        fp, tp = few.cumulate(times_drawn[rows])
        if few is not every and (fp[:, -1] <= n_false[rows]).any():
            fp, tp = every.cumulate(times_drawn[rows])
        for i, (scans, nodules) in enumerate(zip(n_scans[rows], n_nodules[rows], strict=True)):
            curves[start + i] = np.interp(wanted, fp[i] / scans, tp[i] / nodules)
    return curves


def middle(resamples: NDArray[np.float64], confidence: float = 0.95) -> Bounds:
    """Bounds of (R, ...) values: sorted[floor(p R)] at both ends, as in the official script; NaN if R = 0."""
    n = len(resamples)
    if not n:
        nothing = np.full(resamples.shape[1:], np.nan)
        return Bounds(nothing, nothing)
    tail = (1 - confidence) / 2
    low, high = (math.floor(p * n + _ROUNDING) for p in (tail, 1 - tail))
    ordered = np.partition(resamples, (low, high), axis=0)
    return Bounds(ordered[low], ordered[high])


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

    def until(self, n_false: int) -> _Steps:
        """Those down to the score of false positive number `n_false`."""
        false = np.flatnonzero(~self.is_nodule)
        if len(false) <= n_false:
            return self
        last = self.last[: np.searchsorted(self.last, false[n_false]) + 1]
        end = last[-1] + 1
        return _Steps(self.score[:end], self.scan[:end], self.is_nodule[:end], last)

    def cumulate(self, times_drawn: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(R, T + 1) false positives and found nodules down to each score, if scans count (R, S) times."""
        weight = times_drawn.astype(np.int32)[:, self.scan]
        counts = np.zeros((2, len(weight), len(self.last) + 1), np.int64)
        counts[0, :, 1:] = np.cumsum(weight * ~self.is_nodule, axis=1)[:, self.last]
        counts[1, :, 1:] = np.cumsum(weight * self.is_nodule, axis=1)[:, self.last]
        return counts[0], counts[1]
