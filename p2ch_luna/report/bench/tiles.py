"""How the networks are best run on this machine: tiles, batches, threads, precision and memory layout."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from p2ch_luna.findings import Candidate
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.inference.classify import BATCH, classify
from p2ch_luna.inference.tiles import MAX_VOXELS, plan_tiles, segment
from p2ch_luna.io.opened import open_scan
from p2ch_luna.lungs import prepare, sample_places
from p2ch_luna.models.precision import autocast
from p2ch_luna.report.bench.processes import apart
from p2ch_luna.training.bench_data import Figure, megabytes

SIDES, BATCHES, CANDIDATES = (128, 160, 200, 256), (4, 16, 64), 64
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Choice:
    """One way to run a network, the default one but for what is given; `name` tells it."""

    name: str
    side: int = round(MAX_VOXELS ** (1 / 3))  # voxels of a tile, cubed
    batch: int | None = None  # of the classifier; None: the segmentation is run
    threads: int | None = None  # None: torch's own choice
    is_float32: bool = False
    is_channels_last: bool = True


CHOICES = (
    *(Choice(f"segmentation, passes of {side}³", side=side) for side in SIDES),
    Choice("… the default on one thread", threads=1),
    Choice("… the default in float32", is_float32=True),
    Choice("… the default, channels first", is_channels_last=False),
    *(Choice(f"{CANDIDATES} candidates, {batch} a pass", batch=batch) for batch in BATCHES),
    Choice("… the default on one thread", batch=BATCH, threads=1),
    Choice("… the default in float32", batch=BATCH, is_float32=True),
    Choice("… the default, channels first", batch=BATCH, is_channels_last=False),
)


class InFloat32(nn.Module):
    """A network that stays in float32 whatever is asked for around it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, hu: Tensor) -> Tensor:
        """As the network itself."""
        with autocast(hu.device, "fp32"):
            return self.model(hu)  # type: ignore[no-any-return]


def measure(scan: Path, folder: Path, stage: Callable[[str], None], runs: int = 5) -> Iterator[Figure]:
    """Seconds and highest memory of each choice on one scan, medians of processes of their own in turns."""
    stage("preparing the scan")
    prepared = folder / "prepared.npz"
    apart(_prepare, scan, prepared)
    found: dict[Choice, list[tuple[float, float]]] = {choice: [] for choice in CHOICES}
    for turn in range(runs):
        stage(f"turn {turn + 1} of {runs}")
        for choice in CHOICES:
            found[choice].append(apart(run_choice, prepared, choice))
    for choice, measured in found.items():
        seconds, memory = np.median(measured, axis=0)
        yield Figure(choice.name, float(seconds), "s")
        yield Figure("… … its highest memory", float(memory), "MB")


def run_choice(prepared: Path, choice: Choice) -> tuple[float, float]:
    """Seconds of one pass over a prepared scan, the first one, and this process's highest memory in MB."""
    if choice.threads is not None:
        torch.set_num_threads(choice.threads)
    detector = NoduleDetector.load()
    model = detector.segmentation if choice.batch is None else detector.classifier
    if not choice.is_channels_last:
        model = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if choice.is_float32:
        model = InFloat32(model)
    with np.load(prepared) as arrays:
        hu, lung, irc = (arrays[name] for name in ("hu", "lung", "irc"))
    start = time.perf_counter()
    if choice.batch is None:
        tiles = plan_tiles(lung, max_voxels=choice.side**3)
        segment(model, hu, tiles, device=CPU, advance=_ignored)
    else:
        ct = CtVolume("", hu, ImageGeometry.axial())
        candidates = [Candidate("", (float(x), float(y), float(z)), 0.5, 1.0, 1.0) for z, y, x in irc]
        classify(model, ct, candidates, crop_irc=detector.crop_irc, device=CPU, advance=_ignored,
                 batch=choice.batch)  # fmt: skip
    return time.perf_counter() - start, megabytes(os.getpid(), "status", "VmHWM")


def _prepare(scan: Path, target: Path) -> None:
    """What the networks see of a scan, and places in its lungs."""
    with open_scan(scan) as opened:
        prepared = prepare(opened.ct)
    np.savez(target, hu=prepared.ct.hu, lung=prepared.lung, irc=sample_places(prepared.lung)[:CANDIDATES])


def _ignored(_steps: int) -> None:
    """Nobody looks on."""
