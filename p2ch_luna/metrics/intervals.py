"""How sure an AUC or another figure of two classes is, and whether one score is better than another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtr, ndtri

from p2ch_luna.metrics.binary import paired, roc_auc, roc_curve

_ROUNDING = 1e-12  # of a share; far below 1 / (number of samples)


class Estimate(NamedTuple):
    """A figure and the ends of its interval; NaN where undefined."""

    value: float
    low: float
    high: float


class AucDifference(NamedTuple):
    """How much larger the first of two AUCs is; p: two-sided, of there being no difference."""

    difference: float
    low: float
    high: float
    p: float


def auc_with_interval(is_positive: ArrayLike, score: ArrayLike, confidence: float = 0.95) -> Estimate:
    """The area under the ROC curve of (N,) samples, and its interval by DeLong et al. 1988.

    The variance is computed from midranks, as by Sun and Xu 2014, and the interval is symmetric round the
    logit of the area, so that it lies within 0 and 1. Samples count as independent: where many are of one
    patient, use `bootstrap_by_patient`. All NaN if a class is absent; the bounds are NaN if it has one
    sample. An area of 1 has no variance: its low bound is the area with which min(M, N) pairs, no two with a
    sample in common, are all won in (1 - confidence) / 2 of the cases; of 0 likewise. Another area without
    variance, as of equal scores, tells nothing of its spread: the bounds are NaN.
    """
    positive, scores = paired(is_positive, score)
    auc = roc_auc(positive, scores)
    n_smaller = min(np.count_nonzero(positive), np.count_nonzero(~positive))
    if n_smaller < 2:
        return Estimate(auc, np.nan, np.nan)
    tail = (1 - confidence) / 2
    if auc in (0, 1):
        far = float(tail ** (1 / n_smaller))
        return Estimate(auc, far, 1.0) if auc == 1 else Estimate(auc, 0.0, 1 - far)
    variance = _variance(*_pairs_won(positive, scores))
    if variance == 0:
        return Estimate(auc, np.nan, np.nan)
    reach = -ndtri(tail) * np.sqrt(variance) / (auc * (1 - auc))
    return Estimate(auc, float(expit(logit(auc) - reach)), float(expit(logit(auc) + reach)))


def compare_auc(
    is_positive: ArrayLike, first: ArrayLike, second: ArrayLike, confidence: float = 0.95
) -> AucDifference:
    """How much better the first score tells the same (N,) samples apart, by the paired test of DeLong et al.

    As in `auc_with_interval` samples count as independent: none may be there twice. The interval is cut at
    -1 and 1. Scores of one order differ by 0, and p is 1. All NaN if a class is absent. Bounds and p are NaN
    where the data tell nothing of the spread: with one sample of a class, or with a difference that is the
    same whichever samples are looked at, such as that of a perfect score and a constant one.
    """
    positive, scores = paired(is_positive, first)
    _, others = paired(is_positive, second)
    difference = roc_auc(positive, scores) - roc_auc(positive, others)
    if min(np.count_nonzero(positive), np.count_nonzero(~positive)) < 2:
        return AucDifference(difference, np.nan, np.nan, np.nan)
    # of each sample's difference: no covariance is needed, and that of equals is exactly 0
    pairs = zip(_pairs_won(positive, scores), _pairs_won(positive, others), strict=True)
    variance = _variance(*(first_won - second_won for first_won, second_won in pairs))
    if variance == 0:
        known = (0.0, 0.0, 1.0) if difference == 0 else (np.nan, np.nan, np.nan)
        return AucDifference(difference, *known)
    error = np.sqrt(variance)
    reach = -ndtri((1 - confidence) / 2) * error
    low, high = np.clip([difference - reach, difference + reach], -1, 1).tolist()
    return AucDifference(difference, low, high, float(2 * ndtr(-abs(difference) / error)))


def paired_difference(gained: int, lost: int, of: int, confidence: float = 0.95) -> Estimate:
    """The difference of two shares of the same things: `gained` are of the first only, `lost` of the second.

    The interval is Wald's with a thing of either kind added (Bonett and Price 2012), which has a width also
    where nothing was gained or lost. Things count as independent. All NaN if there is none.
    """
    if not of:
        return Estimate(np.nan, np.nan, np.nan)
    more, less = (gained + 1) / (of + 2), (lost + 1) / (of + 2)
    middle = more - less
    reach = -ndtri((1 - confidence) / 2) * np.sqrt((more + less - middle**2) / (of + 2))
    low, high = np.clip([middle - reach, middle + reach], -1, 1).tolist()
    return Estimate((gained - lost) / of, low, high)


def bootstrap_by_patient(
    metric: Callable[..., float],
    patients: ArrayLike,
    *arrays: ArrayLike,
    rng: np.random.Generator,
    n_resamples: int = 1000,
    confidence: float = 0.95,
) -> Estimate:
    """`metric(*arrays)` and the middle of its values if as many patients are drawn with replacement.

    patients: (N,) whose each sample is.    arrays: (N, ...) each; a patient's rows are drawn together, as
    samples of one patient are alike. Draws of which the metric is NaN are left out. The bounds are NaN if
    all are, or with fewer than 2 patients.
    """
    columns = [np.asarray(array) for array in arrays]
    labels = np.asarray(patients)
    if any(len(column) != len(labels) for column in columns):
        raise ValueError(f"expected {len(labels)} rows as of patients, got {[len(c) for c in columns]}")
    value = float(metric(*columns))
    _, patient, size = np.unique(labels, return_inverse=True, return_counts=True)
    if len(size) < 2:
        return Estimate(value, np.nan, np.nan)
    by_patient = np.argsort(patient, kind="stable")
    found = np.array(
        [
            metric(*(column[rows] for column in columns))
            for rows in (by_patient[_drawn(size, rng)] for _ in range(n_resamples))
        ]
    )
    found = found[~np.isnan(found)]
    if not len(found):
        return Estimate(value, np.nan, np.nan)
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return Estimate(value, low, high)


def sensitivity_at_specificity(is_positive: ArrayLike, score: ArrayLike, specificity: float) -> float:
    """The highest sensitivity of a threshold that has at least this specificity; (N,) each.

    Tied scores lie on one side of it. NaN if a class is absent. Its interval: `bootstrap_by_patient`.
    """
    if not 0 <= specificity <= 1:
        raise ValueError(f"specificity must lie in [0, 1], got {specificity}")
    rate, sensitivity = roc_curve(is_positive, score)
    if np.isnan(rate).any():
        return float("nan")
    return float(sensitivity[rate <= 1 - specificity + _ROUNDING].max())


def _pairs_won(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many of the other class score lower, a tie counting half: for each positive, for each negative.

    It is the rank among all less that in the own class (Sun and Xu 2014). Halves of whole numbers: exact.
    """
    of_all, own = _midrank(scores), (_midrank(scores[positive]), _midrank(scores[~positive]))
    return of_all[positive] - own[0], of_all[~positive] - own[1]


def _variance(by_positive: NDArray[np.float64], by_negative: NDArray[np.float64]) -> float:
    """DeLong's, of an AUC or a difference, from the pairs that (M,) positives and (N,) negatives won."""
    m, n = len(by_positive), len(by_negative)
    return float(np.var(by_positive, ddof=1) / (m * n**2) + np.var(by_negative, ddof=1) / (n * m**2))


def _midrank(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) from 0 up; tied scores share their mean rank."""
    _, rank, ties = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank: NDArray[np.float64] = np.cumsum(ties) - (ties + 1) / 2
    return mean_rank[rank]


def _drawn(size: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of as many patients as there are, drawn with replacement; theirs are `size` (P,) rows, in turn."""
    patient = rng.integers(len(size), size=len(size))
    first, n_rows = (np.cumsum(size) - size)[patient], size[patient]
    already = np.cumsum(n_rows) - n_rows  # rows drawn before each patient
    return np.asarray(np.repeat(first - already, n_rows) + np.arange(n_rows.sum()), np.int64)
