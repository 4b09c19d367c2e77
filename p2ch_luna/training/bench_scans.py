"""Scans of LUNA16's size to measure with: a phantom, mirrored and with other noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p2ch_luna.datasets.catalogue import index_scans
from p2ch_luna.datasets.phantom import Phantom, make_phantom
from p2ch_luna.datasets.sources import ScanSource
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import write_ct

SCAN_SHAPE = (300, 512, 512)
SCAN_SPACING = (0.7, 0.7, 1.0)  # x, y, z in mm, of a scan of this shape
NOISE_HU = 25.0
MIRRORED = ((1, 1), (1, -1), (-1, 1))  # steps of rows and columns


@dataclass(frozen=True)
class Bench:
    """The scans that are measured with, and their nodules."""

    sources: list[ScanSource]
    nodules: list[Nodule]


def make_scans(folder: Path, count: int, shape_irc: Sequence[int] = SCAN_SHAPE, seed: int = 0) -> Bench:
    """Write `count` scans like LUNA16's; from the fourth on they share the voxels of the first three.

    All show the same chest in the same field of view, whatever `shape_irc`.
    """
    rng = np.random.default_rng(seed)
    spacing = np.array(SCAN_SPACING) * np.divide(SCAN_SHAPE, shape_irc)[::-1]
    made = make_phantom(rng, shape_irc=shape_irc, spacing_xyz=spacing, noise_hu=0.0)
    geometry = ImageGeometry.axial(spacing)
    nodules: list[Nodule] = []
    for number in range(count):
        uid, steps = f"bench-{number:02d}", MIRRORED[number % len(MIRRORED)]
        nodules += _mirrored_nodules(made, geometry, uid, steps)
        if number < len(MIRRORED):
            noise = rng.normal(0, NOISE_HU, shape_irc).astype(np.int16)
            hu = made.ct.hu[:, :: steps[0], :: steps[1]] + noise
            write_ct(folder / f"{uid}.mhd", CtVolume(uid, hu, geometry))
        else:
            _link_scan(folder, f"bench-{number % len(MIRRORED):02d}", uid)
    return Bench(index_scans([folder]).sources, nodules)


def _mirrored_nodules(
    made: Phantom, geometry: ImageGeometry, uid: str, steps: tuple[int, int]
) -> Iterator[Nodule]:
    """Where the nodules are once rows and columns run in these steps, on a grid that begins at (0, 0, 0)."""
    last = np.array(made.ct.hu.shape) - 1
    is_reversed = np.array([False, *(step < 0 for step in steps)])
    for nodule in made.truth:
        irc = made.ct.geometry.to_irc(nodule.center_xyz)
        x, y, z = (float(v) for v in geometry.to_xyz(np.where(is_reversed, last - irc, irc)))
        yield Nodule(uid, (x, y, z), nodule.diameter_mm)


def _link_scan(folder: Path, uid: str, new_uid: str) -> None:
    """The same data under another name."""
    header = (folder / f"{uid}.mhd").read_text(encoding="utf-8")
    (folder / f"{new_uid}.mhd").write_text(header.replace(uid, new_uid), encoding="utf-8")
    (folder / f"{new_uid}.raw").symlink_to(f"{uid}.raw")
