"""How far probabilities can be taken at their word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2ch_luna.metrics.binary import paired


@dataclass(frozen=True, eq=False)
class Calibration:
    """Said against seen in the B bins of equal width that are not empty, by rising probability.

    mean_probability: (B,) said on average.    frequency: (B,) share of positives.    count: (B,) samples.
    """

    mean_probability: NDArray[np.float64]
    frequency: NDArray[np.float64]
    count: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean over the samples of their bin's gap; NaN without samples.

        That of Guo et al. 2017 (arXiv:1706.04599), for the probability of the positive class.
        """
        if not len(self.count):
            return float("nan")
        return float(np.average(np.abs(self.frequency - self.mean_probability), weights=self.count))


def calibration(is_positive: ArrayLike, probability: ArrayLike, n_bins: int = 10) -> Calibration:
    """Sort samples, (N,) each, into bins of their probability; on a border is in the lower bin, as in Guo."""
    positive, said = _checked(is_positive, probability)
    borders = np.linspace(0, 1, n_bins + 1)[1:-1]
    bin_of = np.searchsorted(borders, said, side="left")
    count, said_sum, positives = (
        np.bincount(bin_of, weights, minlength=n_bins) for weights in (None, said, positive)
    )
    filled = count > 0
    count = count[filled]
    return Calibration(said_sum[filled] / count, positives[filled] / count, count.astype(np.int64))


def brier(is_positive: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared distance of probability from truth, (N,) each: 0 at best; NaN without samples.

    Brier 1950, for two classes and counting one of them.
    """
    positive, said = _checked(is_positive, probability)
    return float(np.mean((said - positive) ** 2)) if len(said) else float("nan")


def _checked(is_positive: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    positive, said = paired(is_positive, probability)
    outside = said[(said < 0) | (said > 1)]
    if len(outside):
        raise ValueError(f"probabilities must lie in [0, 1], got {outside[0]}")
    return positive, said
