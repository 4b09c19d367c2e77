"""What a validation says, in the same shape for every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Curve = tuple[NDArray[np.bool_], NDArray[np.float32]]  # (N,) truth, (N,) probability


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures, curves and pictures of one pass over the validation samples."""

    metrics: dict[str, float]  # NaN where undefined, as an AUC is without one of the classes
    curves: dict[str, Curve] = field(default_factory=dict)  # by name, for PR, ROC and calibration
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # by name, (H, W, 3)


class Judged(Protocol):
    """An observation of a batch that knows its loss: totals and counts by part, see `loop.Objective`."""

    @property
    def totals(self) -> Mapping[str, NDArray[np.float64]]:
        """Times the parts' weights."""

    @property
    def counts(self) -> Mapping[str, NDArray[np.float64]]:
        """Of the shapes of the totals."""


def loss_metrics(observations: Sequence[Judged]) -> dict[str, float]:
    """ "loss", and "loss_<part>" of each part: of all that was observed at once, as if it were one batch."""
    parts = {}
    for name in observations[0].totals:
        total = sum(observation.totals[name] for observation in observations)
        count = sum(observation.counts[name] for observation in observations)
        parts[f"loss_{name}"] = float(np.sum(total / np.maximum(count, 1)))
    return {"loss": sum(parts.values()), **parts}
