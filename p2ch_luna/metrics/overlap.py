"""How well two masks agree."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def dice(mask: NDArray[Any], truth: NDArray[Any]) -> float:
    """Twice the common voxels by the voxels of both: 1 for equal masks, 0 for disjoint ones.

    Any shape, the same for both; what is not 0 is inside. Two empty masks are equal.
    """
    if mask.shape != truth.shape:
        raise ValueError(f"masks must have one shape, got {mask.shape} and {truth.shape}")
    inside, wanted = mask != 0, truth != 0
    size = np.count_nonzero(inside) + np.count_nonzero(wanted)
    return 1.0 if size == 0 else 2 * np.count_nonzero(inside & wanted) / size
