"""Whether one submission is better than another: paired differences of LUNA16's score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.metrics.froc import CPM_FP_PER_SCAN, Bounds, draw_scans, froc, middle, resample
from p2ch_luna.metrics.matching import Outcome

_ROUNDING = 1e-12  # of equal sensitivities, summed in other orders


@dataclass(frozen=True, eq=False)
class Paired:
    """A difference, how far it would vary with other scans, and whether that leaves it above or below 0.

    value: (...).    bounds: (...) 95 %.    p: (...) two-sided, of no difference; NaN, as the bounds, where
    fewer than two scans say nothing.
    """

    value: NDArray[np.float64]
    bounds: Bounds
    p: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Difference:
    """A submission less the first one: positive where it is better.

    cpm: ().    sensitivity: (7,) at the false positives per scan of the CPM.
    """

    cpm: Paired
    sensitivity: Paired


def compare(
    outcomes: Sequence[Outcome], rng: np.random.Generator, n_resamples: int = 1000
) -> list[Difference]:
    """Each further submission less the first, all on the same truth and on the same resamples of scans.

    What makes a resample hard is hard for all of them, and falls out of the difference. One generator in one
    state gives the resamples of `bootstrap`. With fewer than two scans, bounds and p are NaN. Raises
    LunaError if there is no nodule.
    """
    _check_same_truth(outcomes)
    values = np.array([froc(outcome).at(CPM_FP_PER_SCAN) for outcome in outcomes])  # (submissions, 7)
    times_drawn = draw_scans(outcomes[0], rng, n_resamples)
    first = resample(outcomes[0], times_drawn, CPM_FP_PER_SCAN)
    return [
        _difference(value - values[0], resample(outcome, times_drawn, CPM_FP_PER_SCAN) - first)
        for value, outcome in zip(values[1:], outcomes[1:], strict=True)
    ]


def two_sided_p(resampled: NDArray[np.float64]) -> NDArray[np.float64]:
    """The p of no difference, from (R, ...) resampled differences; NaN if R = 0.

    Twice the share of resamples on the rarer side of 0, a difference of 0 being on both; one is added to
    resamples and to those on either side, so that p is never 0 (Davison and Hinkley 1997, chapter 4).
    """
    n = len(resampled)
    if not n:
        return np.full(resampled.shape[1:], np.nan)
    rarer = np.minimum((resampled <= _ROUNDING).sum(axis=0), (resampled >= -_ROUNDING).sum(axis=0))
    return np.asarray(np.minimum(1.0, 2 * (rarer + 1) / (n + 1)))


def _difference(value: NDArray[np.float64], resampled: NDArray[np.float64]) -> Difference:
    """Of (7,) differences and the (R, 7) resampled ones."""
    return Difference(
        _paired(np.asarray(value.mean()), resampled.mean(axis=1)),
        _paired(value, resampled),
    )


def _paired(value: NDArray[np.float64], resampled: NDArray[np.float64]) -> Paired:
    return Paired(value, middle(resampled), two_sided_p(resampled))


def _check_same_truth(outcomes: Sequence[Outcome]) -> None:
    if len(outcomes) < 2:
        raise ValueError(f"{len(outcomes)} submission(s) to compare; wanted at least two")
    first = outcomes[0]
    for number, other in enumerate(outcomes[1:], start=2):
        same = first.n_scans == other.n_scans and np.array_equal(first.nodule_index, other.nodule_index)
        if not (same and np.array_equal(first.nodule_scan, other.nodule_scan)):
            raise ValueError(
                f"submission {number}: {len(other.nodule_index)} nodule(s) in {other.n_scans} scan(s), the "
                f"first: {len(first.nodule_index)} in {first.n_scans}; wanted the same truth for all"
            )
