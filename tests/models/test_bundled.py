"""The weights that come with the package."""

from __future__ import annotations

import statistics
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
    """Seconds of computing, not of waiting: another program at work on this machine changes nothing."""

    def seconds() -> float:
        start = time.thread_time()
        NoduleDetector.load()
        return time.thread_time() - start

    seconds()  # the first also imports
    assert statistics.median(seconds() for _ in range(5)) <= MOST_SECONDS
