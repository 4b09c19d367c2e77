"""The weights that come with the package."""

from __future__ import annotations

import time

from p2ch_luna.inference import NoduleDetector
from p2ch_luna.models.checkpoint import WEIGHTS

MOST_BYTES = 15_000_000
MOST_SECONDS = 0.3


def test_all_of_them_together_are_small() -> None:
    weights = list(WEIGHTS.glob("*.safetensors"))
    assert {"segmentation", "nodule"} <= {path.stem for path in weights}
    assert sum(path.stat().st_size for path in weights) <= MOST_BYTES


def test_all_of_them_load_at_once() -> None:
    """Seconds that a person waits; the best of five, as another program may be at work on this machine."""

    def seconds() -> float:
        start = time.perf_counter()
        NoduleDetector.load()
        return time.perf_counter() - start

    seconds()  # the first also imports
    assert min(seconds() for _ in range(5)) <= MOST_SECONDS
