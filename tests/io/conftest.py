"""What the tests of reading and writing share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.lungs import PreparedCt

TILT = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture
def prepared() -> PreparedCt:
    """Noise of three different sides, tilted, made from another grid."""
    rng = np.random.default_rng(0)
    hu = rng.integers(-1024, 3071, (7, 9, 11), np.int16)
    geometry = ImageGeometry(np.array([-0.1, 20 / 3, 1e3]), np.array([0.7, 0.8, 1.25]), TILT)
    native = ImageGeometry(np.array([1 / 3, -7.0, 0.2]), np.array([0.1, 0.2, 2.5]), TILT.T)
    return PreparedCt(
        CtVolume("1.2.3", hu, geometry), rng.random(hu.shape) < 0.3, "no lungs found: ü", native
    )


@pytest.fixture
def cache(tmp_path: Path) -> ScanCache:
    """An empty one that keeps scans raw."""
    return ScanCache(tmp_path, "raw")
