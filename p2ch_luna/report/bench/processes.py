"""`luna diagnose` as a user runs it: whole processes, with what the system says of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

import numpy as np

from p2ch_luna.errors import LunaError
from p2ch_luna.report.outputs import REPORT

T = TypeVar("T")

NEAR_MM = 1.0  # two runs speak of the same place
START = "from p2ch_luna.report.diagnose import NoduleDetector; NoduleDetector.load()"


@dataclass(frozen=True)
class Outcome:
    """One run of the command, from the start of its process to the end."""

    seconds: float
    peak_mb: float  # its highest resident memory
    folder: Path  # what it wrote; a later run writes over it
    report: dict[str, Any]

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of each, in their order."""
        return dict(self.report["timings_s"])

    @property
    def places(self) -> list[tuple[list[float], float]]:
        """LPS mm and nodule probability of each place that was judged."""
        found = [*self.report["findings"], *self.report["rejected"]]
        judged = [place for place in found if place["nodule_probability"] is not None]
        return [(place["center_lps_mm"], place["nodule_probability"]) for place in judged]

    def apart_from(self, other: Outcome) -> float:
        """The largest difference in probability; a place that one has not within `NEAR_MM` has 0 there."""
        return max(_gap(self, other), _gap(other, self))


def run_diagnosis(scan: Path, folder: Path, options: Sequence[str]) -> Outcome:
    """Run the command on `scan` with these options. Raises LunaError if it fails."""
    command = ["-m", "p2ch_luna", "diagnose", str(scan), "--output", str(folder), *options]
    seconds, peak_mb = _run(command)
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return Outcome(seconds, peak_mb, folder, report)


def seconds_to_start(runs: int) -> list[float]:
    """Of processes that import what a diagnosis needs and read the weights, after one to warm up."""
    return [_run(["-c", START])[0] for _ in range(runs + 1)][1:]


def apart(work: Callable[..., T], *args: object) -> T:
    """What `work` returns in a process of its own, whose memory nobody has used before."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(work, args)


def _run(arguments: Sequence[str]) -> tuple[float, float]:
    """Seconds and highest resident memory, in MB, of a Python process."""
    with TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            last = said.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise LunaError(f"python {' '.join(arguments)}: exit code {process.returncode}; wanted 0: {last}")
    return seconds, usage.ru_maxrss / 1e3


def _gap(one: Outcome, other: Outcome) -> float:
    """The largest difference in probability, seen from the places of `one`."""
    if not one.places:
        return 0.0
    centers = np.array([center for center, _ in other.places]).reshape(-1, 3)
    probabilities = np.array([probability for _, probability in other.places])
    gaps = []
    for center, probability in one.places:
        near = np.linalg.norm(centers - center, axis=1) < NEAR_MM
        gaps.append(np.abs(probabilities[near] - probability).min() if near.any() else probability)
    return float(max(gaps))
