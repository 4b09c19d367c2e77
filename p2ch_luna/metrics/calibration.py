"""How far probabilities can be taken at their word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.special import logit as logit_of

from p2ch_luna.metrics.binary import paired

TEMPERATURES = (0.01, 100.0)  # between them a temperature is looked for


@dataclass(frozen=True, eq=False)
class Calibration:
    """Said against seen in the B bins of equal width that are not empty, by rising probability.

    mean_probability: (B,) said on average.    frequency: (B,) share of positives.    count: (B,) samples.
    weight: (B,) how often these count together; `count` where each counts once.
    """

    mean_probability: NDArray[np.float64]
    frequency: NDArray[np.float64]
    count: NDArray[np.int64]
    weight: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean over the samples of their bin's gap; NaN without samples.

        That of Guo et al. 2017 (arXiv:1706.04599), for the probability of the positive class.
        """
        if not len(self.count):
            return float("nan")
        return float(np.average(np.abs(self.frequency - self.mean_probability), weights=self.weight))


def calibration(
    is_positive: ArrayLike, probability: ArrayLike, n_bins: int = 10, weight: ArrayLike | None = None
) -> Calibration:
    """Sort samples, (N,) each, into bins of their probability; on a border is in the lower bin, as in Guo.

    weight: (N,) how often each sample counts, once if None; one of 0 is left out.
    """
    positive, said = _checked(is_positive, probability)
    _, often = paired(is_positive, np.ones(len(said)) if weight is None else weight)
    if not ((often >= 0) & np.isfinite(often)).all():
        raise ValueError(f"samples must count 0 times or more, got {often.min()}")
    borders = np.linspace(0, 1, n_bins + 1)[1:-1]
    bin_of = np.searchsorted(borders, said, side="left")
    count, total, said_sum, positives = (
        np.bincount(bin_of, weights, minlength=n_bins).astype(float)
        for weights in (often > 0, often, often * said, often * positive)
    )
    filled = count > 0
    total = total[filled]
    return Calibration(
        said_sum[filled] / total, positives[filled] / total, count[filled].astype(np.int64), total
    )


def brier(is_positive: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared distance of probability from truth, (N,) each: 0 at best; NaN without samples.

    Brier 1950, for two classes and counting one of them.
    """
    positive, said = _checked(is_positive, probability)
    return float(np.mean((said - positive) ** 2)) if len(said) else float("nan")


def fit_temperature(is_positive: ArrayLike, logit: ArrayLike) -> float:
    """The T > 0 of which sigmoid(logit / T) has the least log loss; (N,) each, of samples not trained on.

    Temperature scaling, Guo et al. 2017. T is within `TEMPERATURES`: the lowest where no sign is wrong,
    the highest where logits say no more of the classes than their opposites would. 1 where T changes nothing:
    without samples, or if all logits are 0. Raises ValueError unless every logit is finite.
    """
    positive, logits = paired(is_positive, logit)
    if not np.isfinite(logits).all():
        raise ValueError(f"logits must be finite, got {logits[~np.isfinite(logits)][0]}")
    if not logits.any():
        return 1.0
    wrong_way = np.where(positive, -logits, logits)  # above 0: on the side of the other class

    def log_loss(temperature: float) -> float:
        return float(np.logaddexp(0, wrong_way / temperature).mean())

    # one valley: the loss is convex in 1 / T; its ends are tried apart, as the search never reaches them
    low, high = np.log(TEMPERATURES).tolist()
    found = minimize_scalar(
        lambda log_t: log_loss(np.exp(log_t)),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return min((*TEMPERATURES, float(np.exp(found.x))), key=log_loss)


def with_temperature(probability: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Probabilities of any shape with their logits divided by a temperature: above 1 nearer to 1/2.

    0, 1/2 and 1 stay as they are, and so does the order. Raises ValueError unless temperature > 0 and finite.
    """
    said = np.asarray(probability, float)
    if not 0 < temperature < np.inf:
        raise ValueError(f"a temperature must be above 0 and finite, got {temperature}")
    _check_probabilities(said)
    return np.asarray(expit(logit_of(said) / temperature))


def _checked(is_positive: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    positive, said = paired(is_positive, probability)
    _check_probabilities(said)
    return positive, said


def _check_probabilities(said: NDArray[np.float64]) -> None:
    outside = said[~((said >= 0) & (said <= 1))]
    if len(outside):
        raise ValueError(f"probabilities must lie in [0, 1], got {outside[0]}")
