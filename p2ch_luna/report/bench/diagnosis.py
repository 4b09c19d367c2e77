"""How long `luna diagnose` takes on a full-size CT, stage by stage, and how much memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.io import write_ct
from p2ch_luna.io.dicom import write_series
from p2ch_luna.report.bench.processes import Outcome, apart, run_diagnosis, seconds_to_start
from p2ch_luna.report.diagnose import diagnose
from p2ch_luna.report.outputs import PAGE
from p2ch_luna.training.bench_data import Figure, megabytes

SHAPE, SPACING, NODULES = (300, 512, 512), (0.7, 0.7, 1.25), 10  # slices, rows, columns; mm along x, y, z
SMALL, SMALL_SPACING = (64, 96, 96), (2.0, 2.0, 2.0)  # the middle of a chest
BOUNDS = {"seconds": 15.0, "memory": 2500.0, "page": 3.0, "html": 25.0, "start": 3.0, "probability": 0.01}
GROWTH_MB = 20.0
LARGE_SHARE = 40.0  # percent of the time, above which a stage owes a reason
WHY = {
    "segmentation": "it alone looks at every voxel of the lungs' box, in bfloat16 convolutions on all cores",
}
PLAIN = ("--no-html", "--device", "cpu")
PAGES = ("--device", "cpu")  # the same with page and pictures


@dataclass(frozen=True)
class Way:
    """Another way to compute the networks than torch on the CPU, and how its figures are called."""

    name: str
    options: Sequence[str]
    is_there: Callable[[], object]
    starting: str  # what its stage "networks" does


OTHER_WAYS = (
    Way(
        "through OpenVINO",
        (*PLAIN, "--runtime", "openvino"),
        lambda: find_spec("openvino"),
        "reading and converting its networks",
    ),
    Way(
        "on the GPU",
        ("--no-html", "--device", "cuda"),
        torch.cuda.is_available,
        "reading its networks and waking the GPU",
    ),
)


def measure(scan: Path, folder: Path, stage: Callable[[str], None], runs: int = 5) -> Iterator[Figure]:
    """Every figure in turn; what is written goes into `folder`. Bounds: of `phantom_at` on two cores.

    The ways to diagnose take turns, so that a busy moment hits all alike; the first turn is not counted.
    """
    others = [way for way in OTHER_WAYS if way.is_there()]
    ways = {"plain": PLAIN, "page": PAGES} | {way.name: way.options for way in others}
    outcomes: dict[str, list[Outcome]] = {name: [] for name in ways}
    for turn in range(runs + 1):
        stage(f"diagnosing it, turn {turn} of {runs}" if turn else "diagnosing it for the first time")
        for name, options in ways.items():
            outcome = run_diagnosis(scan, folder / name, options)
            if turn:
                outcomes[name].append(outcome)
    yield from plain_figures(outcomes["plain"])
    yield from page_figures(outcomes["page"], outcomes["plain"])
    stage("starting")
    yield Figure("start-up: Python, imports, weights", _median(seconds_to_start(runs)), "s", BOUNDS["start"])
    for way in others:
        yield from compared_figures(way, outcomes[way.name], outcomes["plain"])
    stage("memory over ten scans")
    yield Figure("growth of its own memory over 10 scans", apart(_growth_mb, folder), "MB", GROWTH_MB)


def plain_figures(outcomes: Sequence[Outcome]) -> Iterator[Figure]:
    """Of diagnoses with all outputs but page and pictures: the whole, its stages, its memory."""
    total = _median([o.seconds for o in outcomes])
    yield Figure("a diagnosis, without page and pictures", total, "s", BOUNDS["seconds"])
    stages = {name: _median([o.stages[name] for o in outcomes]) for name in outcomes[0].stages}
    outside = _median([o.seconds - sum(o.stages.values()) for o in outcomes])
    for name, seconds in {"start and end of the process": outside, **stages}.items():
        share = 100 * seconds / total
        reason = f": {WHY.get(name, 'no reason is known')}" if share > LARGE_SHARE else ""
        yield Figure(f"… {name}, {share:.0f} %{reason}", seconds, "s")
    memory = _median([o.peak_mb for o in outcomes])
    yield Figure("… its highest memory", memory, "MB", BOUNDS["memory"])


def page_figures(outcomes: Sequence[Outcome], plain: Sequence[Outcome]) -> Iterator[Figure]:
    """What page and pictures take beside that."""
    more = [full.seconds - bare.seconds for full, bare in zip(outcomes, plain, strict=True)]
    yield Figure("… page and pictures take, more", _median(more), "s", BOUNDS["page"])
    yield Figure("… with them, its highest memory", _median([o.peak_mb for o in outcomes]), "MB")
    size = (outcomes[-1].folder / PAGE).stat().st_size / 1e6
    yield Figure(f"… {PAGE}", size, "MB", BOUNDS["html"])


def compared_figures(way: Way, outcomes: Sequence[Outcome], plain: Sequence[Outcome]) -> Iterator[Figure]:
    """Another way against torch on the CPU, run by run, and how far apart the answers are."""
    pairs = list(zip(plain, outcomes, strict=True))
    yield Figure(way.name, _median([o.seconds for o in outcomes]), "s")
    whole = _median([p.seconds / o.seconds for p, o in pairs])
    yield Figure("… torch on the CPU against it, the whole", whole, "times")
    for name in ("segmentation", "classification"):
        ratio = _median([p.stages[name] / o.stages[name] for p, o in pairs])
        yield Figure(f"… torch on the CPU against it, {name}", ratio, "times")
    yield Figure(f"… {way.starting}", _median([o.stages["networks"] for o in outcomes]), "s")
    yield Figure("… its highest memory", _median([o.peak_mb for o in outcomes]), "MB")
    gap = max(o.apart_from(p) for p, o in pairs)
    yield Figure("… largest difference in probability", gap, "", BOUNDS["probability"])


def phantom_at(folder: Path) -> Path:
    """Write a chest of LUNA16's size as a folder of DICOM; it is the folder that is returned."""
    apart(_write_phantom, folder)
    return folder


def _write_phantom(folder: Path) -> None:
    rng = np.random.default_rng(0)
    made = make_phantom(rng, shape_irc=SHAPE, spacing_xyz=SPACING, n_nodules=NODULES, series_uid="2.25.1")
    write_series(folder, made.ct)


def _growth_mb(folder: Path, count: int = 10) -> float:
    """Of this process's own memory, from its third, fourth and fifth diagnosis to its last three.

    Of each three the lowest: what one holds for a moment comes and goes.
    """
    scans = [folder / f"small-{seed}.mha" for seed in range(3)]
    for seed, scan in enumerate(scans):
        rng = np.random.default_rng(seed)
        made = make_phantom(rng, shape_irc=SMALL, spacing_xyz=SMALL_SPACING, n_nodules=2)
        write_ct(scan, made.ct)
    detector = NoduleDetector.load()
    own = []
    for number in range(count):
        diagnose(scans[number % len(scans)], folder / "again", detector=detector)
        own.append(megabytes(os.getpid(), "smaps_rollup", "Private_Clean", "Private_Dirty"))
    return min(own[-3:]) - min(own[2:5])


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))
