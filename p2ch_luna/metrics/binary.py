"""How well scores tell two classes apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class AtThreshold(NamedTuple):
    """What calling everything from one score on positive gives, each in [0, 1]; NaN where undefined."""

    sensitivity: float  # of the positives, those called; undefined without a positive
    precision: float  # of those called, the positives; undefined if none is called
    f1: float  # twice the positives called by positives plus called; undefined only if both are none


def roc_auc(is_positive: ArrayLike, score: ArrayLike) -> float:
    """Chance that a positive scores above a negative, a tie counting half; (N,) each.

    NaN if a class is absent: there is no pair to compare.
    """
    positive, scores = paired(is_positive, score)
    n_positive = np.count_nonzero(positive)
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    _, rank, ties = np.unique(scores, return_inverse=True, return_counts=True)
    below = np.cumsum(ties) - ties  # how many scores lie below each distinct one
    mean_rank = below + (ties - 1) / 2
    pairs_won = mean_rank[rank[positive]].sum() - n_positive * (n_positive - 1) / 2
    return float(pairs_won / (n_positive * n_negative))


def roc_curve(is_positive: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False positive rate and sensitivity, (K,) each, from (0, 0) to (1, 1); tied scores are one point.

    The area under it by trapezoids is `roc_auc`. The rate of an absent class is NaN.
    """
    positive, last = _by_falling_score(is_positive, score)
    return _share_reached(~positive, last), _share_reached(positive, last)


def average_precision(is_positive: ArrayLike, score: ArrayLike) -> float:
    """Area under the precision-recall curve by steps: precision where each positive is reached; (N,) each.

    Tied scores are one step. Nothing is drawn between the steps: a line there would promise a precision that
    no threshold has (Davis and Goadrich 2006). NaN without a positive; 1 if all are.
    """
    positive, last = _by_falling_score(is_positive, score)
    if not positive.any():
        return float("nan")
    n_hit = np.cumsum(positive)[last]
    precision = n_hit / (last + 1)
    return float(np.average(precision, weights=np.diff(n_hit, prepend=0)))


def at_threshold(is_positive: ArrayLike, score: ArrayLike, threshold: float) -> AtThreshold:
    """Sensitivity, precision and F1 if whoever scores `threshold` or more is called positive; (N,) each."""
    positive, scores = paired(is_positive, score)
    called = scores >= threshold
    n_positive, n_called, n_hit = (int(chosen.sum()) for chosen in (positive, called, positive & called))
    return AtThreshold(
        sensitivity=_quotient(n_hit, n_positive),
        precision=_quotient(n_hit, n_called),
        f1=_quotient(2 * n_hit, n_positive + n_called),
    )


def paired(is_positive: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Truth and score as arrays. Raises ValueError unless both are (N,) and every score is a number."""
    positive, scores = np.asarray(is_positive, bool), np.asarray(score, float)
    if positive.shape != scores.shape or scores.ndim != 1:
        raise ValueError(f"expected two arrays (N,), got {positive.shape} and {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores must be numbers, got NaN")
    return positive, scores


def _by_falling_score(
    is_positive: ArrayLike, score: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Truth (N,) from the highest score down, and (T,) where each run of tied scores ends."""
    positive, scores = paired(is_positive, score)
    order = np.argsort(-scores, kind="stable")
    positive, scores = positive[order], scores[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], len(scores) > 0))
    return positive, last


def _share_reached(of_class: NDArray[np.bool_], last: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,): 0, then the share of the class that lies at or before each of the `last` (K - 1,) places."""
    n = np.count_nonzero(of_class)
    if n == 0:
        return np.full(len(last) + 1, np.nan)
    return np.concatenate([[0.0], np.cumsum(of_class)[last] / n])


def _quotient(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
