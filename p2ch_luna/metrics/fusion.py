"""Several opinions joined to one probability: a logistic regression of their logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from p2ch_luna.metrics.binary import paired

L2 = 0.1  # pull of each weight to that of the mean: as much as one opinion of a few samples, so it is small
MOST_STEPS = 100
CLOSE_ENOUGH = 1e-10  # of a step, in weights


@dataclass(frozen=True)
class Fusion:
    """The joint logit: a weighted sum of the K opinions' and an intercept. It falls with none of them."""

    weights: tuple[float, ...]  # (K,) none below 0
    intercept: float
    dropped: tuple[int, ...]  # opinions that would have counted against themselves: their weight is 0

    def logit(self, logits: ArrayLike) -> NDArray[np.float64]:
        """(..., K) logits of the opinions -> (...,) joint ones."""
        return np.asarray(np.asarray(logits, float) @ np.array(self.weights) + self.intercept)


def fit_fusion(
    is_positive: ArrayLike, logits: ArrayLike, weight: ArrayLike | None = None, l2: float = L2
) -> Fusion:
    """The fusion of least log loss on N samples; (N,), (N, K), and (N,) how often each counts, once if None.

    Platt's scaling (1999) of several scores. A weight below 0 would turn an opinion round: the best fit
    without one is looked for among all sets of opinions. `l2` pulls weights to 1 / K, so that few samples,
    or classes that a threshold tells apart, stay near the mean of the logits; the intercept is free.
    Raises ValueError unless both classes are there, logits are finite and samples count 0 times or more.
    """
    positive, x, counts = _checked(is_positive, logits, weight)
    n = x.shape[1]
    kept = [list(some) for size in range(n, -1, -1) for some in combinations(range(n), size)]
    fits = [_fit(positive, x, counts, some, l2) for some in kept]
    _, best = min((loss, k) for k, (loss, found) in enumerate(fits) if (found[:-1] >= 0).all())
    weights = fits[best][1].tolist()
    dropped = tuple(k for k in range(n) if k not in kept[best])
    return Fusion(tuple(weights[:-1]), weights[-1], dropped)


def _fit(
    positive: NDArray[np.bool_],
    x: NDArray[np.float64],
    counts: NDArray[np.float64],
    kept: Sequence[int],
    l2: float,
) -> tuple[float, NDArray[np.float64]]:
    """Loss and (K + 1,) weights and intercept where only the `kept` opinions may have one that is not 0.

    Newton's steps, each halved until it helps: the loss is convex.
    """
    n = x.shape[1]
    design = np.column_stack([x, np.ones(len(x))])
    free = [*kept, n]
    pull = np.append(np.full(n, l2), 0.0)
    towards = np.append(np.full(n, 1 / max(n, 1)), 0.0)

    def loss_of(theta: NDArray[np.float64]) -> float:
        wrong_way = np.where(positive, -1, 1) * (design @ theta)
        return float(counts @ np.logaddexp(0, wrong_way) + (pull * (theta - towards) ** 2).sum() / 2)

    theta = np.zeros(n + 1)
    loss = loss_of(theta)
    for _ in range(MOST_STEPS):
        said = expit(design @ theta)
        slope = design.T @ (counts * (said - positive)) + pull * (theta - towards)
        bend = (design.T * (counts * said * (1 - said))) @ design + np.diag(pull)
        step = np.zeros(n + 1)
        step[free] = np.linalg.lstsq(bend[np.ix_(free, free)], slope[free], rcond=None)[0]
        while np.abs(step).max() > CLOSE_ENOUGH and loss_of(theta - step) > loss:
            step /= 2
        theta, loss = theta - step, loss_of(theta - step)
        if np.abs(step).max() <= CLOSE_ENOUGH:
            break
    return loss, theta


def _checked(
    is_positive: ArrayLike, logits: ArrayLike, weight: ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    x = np.asarray(logits, float)
    if x.ndim != 2:
        raise ValueError(f"logits must be (N, K), got the shape {x.shape}")
    positive, counts = paired(is_positive, np.ones(len(x)) if weight is None else weight)
    if len(x) != len(positive):
        raise ValueError(f"wanted as many logits as samples, got {len(x)} and {len(positive)}")
    if not np.isfinite(x).all():
        raise ValueError(f"logits must be finite, got {x[~np.isfinite(x)][0]}")
    if not ((counts >= 0) & np.isfinite(counts)).all():
        raise ValueError(f"samples must count 0 times or more, got {counts.min()}")
    if not counts[positive].any() or not counts[~positive].any():
        raise ValueError(f"wanted samples of both classes, got {positive.sum()} positive of {len(positive)}")
    return positive, x, counts
