"""How well scores tell two classes apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def roc_auc(is_positive: ArrayLike, score: ArrayLike) -> float:
    """Chance that a positive scores above a negative, a tie counting half; (N,) each.

    NaN if a class is absent: there is no pair to compare.
    """
    positive, scores = np.asarray(is_positive, bool), np.asarray(score, float)
    if positive.shape != scores.shape or scores.ndim != 1:
        raise ValueError(f"expected two arrays (N,), got {positive.shape} and {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores must be numbers, got NaN")
    n_positive = np.count_nonzero(positive)
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    _, rank, ties = np.unique(scores, return_inverse=True, return_counts=True)
    below = np.cumsum(ties) - ties  # how many scores lie below each distinct one
    mean_rank = below + (ties - 1) / 2
    pairs_won = mean_rank[rank[positive]].sum() - n_positive * (n_positive - 1) / 2
    return float(pairs_won / (n_positive * n_negative))
