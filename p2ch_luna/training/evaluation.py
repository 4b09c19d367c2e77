"""What a validation says, in the same shape for every task."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures, curves and pictures of one pass over the validation samples."""

    metrics: dict[str, float]
    best_by: str  # the metric that picks the best epoch; higher is better
    curves: dict[str, tuple[NDArray[np.bool_], NDArray[np.float32]]] = field(default_factory=dict)
    # name -> (truth, probability), for a precision-recall curve
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # name -> (H, W, 3)
