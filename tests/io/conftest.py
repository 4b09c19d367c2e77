"""What the tests of reading and writing share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io.scan_cache import ScanCache, StoredScan
from p2ch_luna.lungs import PreparedCt

TILT = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture
def random_ct(ct: CtVolume) -> CtVolume:
    """Values that do not compress, so that a file cut short lacks some of them."""
    hu = np.random.default_rng(0).integers(-1000, 1000, ct.hu.shape).astype(np.int16)
    return replace(ct, hu=hu)


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


@pytest.fixture
def never() -> Callable[[], PreparedCt]:
    """Makes a scan that should be in the cache already."""

    def make() -> PreparedCt:
        raise AssertionError("made again")

    return make


@pytest.fixture
def files() -> Callable[[ScanCache], list[str]]:
    """Names of what is in the folder of files."""
    return lambda cache: sorted(path.name for path in (cache.folder / "files").iterdir())


@pytest.fixture
def path_of() -> Callable[[StoredScan | None], Path]:
    """The file of a scan that is stored."""

    def path_of(scan: StoredScan | None) -> Path:
        assert scan is not None
        assert scan.path is not None
        return scan.path

    return path_of


@pytest.fixture
def flip() -> Callable[[Path], None]:
    """Changes one bit of a file."""

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    return flip


@pytest.fixture
def fill() -> Callable[[ScanCache, PreparedCt, int], None]:
    """Stores a scan under `key 0`, `key 1`, …"""

    def fill(cache: ScanCache, prepared: PreparedCt, count: int) -> None:
        for number in range(count):
            cache.put(f"key {number}", prepared)

    return fill
