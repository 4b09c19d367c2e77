"""Training crops for the classifier: nodules, and what the segmentation took for one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from p2ch_luna.datasets.implant import Implantable
from p2ch_luna.datasets.patches import CubePatches, implant_randomly, pick
from p2ch_luna.datasets.scans import LabelledScan
from p2ch_luna.findings import Candidate, Nodule
from p2ch_luna.geometry import AIR_HU, crop_around
from p2ch_luna.metrics.matching import effective_diameter_mm

JITTER_MM = 2.0  # standard deviation of a candidate's centre about the nodule's
BENIGN, MALIGNANT = 2.5, 3.5  # mean ratings up to and from which a nodule has a label; between: none
NEIGHBOUR_SHARE = 0.3  # of the non-nodules have a nodule beside them …
OFF_MIDDLE_MM = 16.0  # … its centre at least so far off
TRIES = 20  # at a place in the lung where a nodule can be set


class CropSample(NamedTuple):
    """One crop, or a batch of them with a leading axis."""

    hu: Tensor  # (1, D, H, W) float32 HU at 1 mm, a candidate in its middle
    is_nodule: Tensor  # () 0 or 1
    malignancy: Tensor  # () 0 or 1, or NaN where nobody knows
    diameter_mm: Tensor  # () of the nodule, or NaN


Crop = tuple[NDArray[np.int16], float, float]  # HU, malignancy, diameter


def malignancy_label(mean_rating: float | None) -> float:
    """1 from `MALIGNANT`, 0 up to `BENIGN`, else NaN: an indeterminate nodule teaches nothing."""
    if mean_rating is None or BENIGN < mean_rating < MALIGNANT:
        return float("nan")
    return float(mean_rating >= MALIGNANT)


def label_candidates(
    candidates: Sequence[Candidate], nodules: Sequence[Nodule], excluded: Sequence[Nodule]
) -> list[Candidate]:
    """Say of each candidate whether it is a nodule, by the hit rule of the score; drop the excluded."""

    def hit_by(truth: Sequence[Nodule]) -> Callable[[Candidate], bool]:
        of_series = defaultdict(list)
        for nodule in truth:
            of_series[nodule.series_uid].append((nodule.center_xyz, effective_diameter_mm(nodule) / 2))
        return lambda c: any(math.dist(c.center_xyz, xyz) < r for xyz, r in of_series[c.series_uid])

    is_nodule, is_excluded = hit_by(nodules), hit_by(excluded)
    labelled = [replace(c, is_nodule=is_nodule(c)) for c in candidates]
    return [c for c in labelled if c.is_nodule or not is_excluded(c)]


@dataclass(frozen=True)
class CropDataset(Dataset[CropSample]):
    """Crop `i` depends on the seed and on `i` alone. Every second one is a nodule.

    nodules: set into `scans` at random places.   cubes: nodules in their own surroundings.
    candidates: places of the scans that a segmentation proposed; those that are no nodules are used.
    """

    scans: Sequence[LabelledScan]
    nodules: Sequence[Implantable]
    cubes: CubePatches | None
    candidates: Sequence[Candidate]
    shape_irc: Sequence[int]
    length: int
    seed: int
    cube_share: float = 0.2  # of the nodules, and of the non-nodules
    own_share: float = 0.3  # of the nodules that are not cubes: the scans' own, where there are any
    random_share: float = 0.1  # of the non-nodules: any place in the lung

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> CropSample:
        rng = np.random.default_rng((self.seed, i))
        is_nodule = i % 2 == 0
        hu, malignancy, diameter_mm = self._nodule(rng) if is_nodule else self._other(rng)
        return CropSample(
            torch.from_numpy(hu.astype(np.float32))[None],
            torch.tensor(float(is_nodule)),
            torch.tensor(malignancy),
            torch.tensor(diameter_mm),
        )

    def _nodule(self, rng: np.random.Generator) -> Crop:
        if self.cubes is not None and rng.random() < self.cube_share:
            hu, _ = self.cubes.draw(self.shape_irc, rng)
            return hu, float("nan"), float("nan")
        if self._own and (rng.random() < self.own_share or not self.nodules):
            scan, center = pick(self._own, rng)
            return self._crop(scan, center, rng), float("nan"), float("nan")
        return self._implanted(rng)

    def _implanted(self, rng: np.random.Generator) -> Crop:
        for _ in range(TRIES):
            scan = pick(self.scans, rng)
            lung = scan.lung_voxels
            place = np.array(np.unravel_index(lung[rng.integers(lung.size)], scan.labels.shape))
            hu = crop_around(scan.hu, place, self.shape_irc, AIR_HU)
            labels = crop_around(scan.labels, place, self.shape_irc, 0)
            shift = rng.normal(0, JITTER_MM, 3).round().astype(int)
            middle = np.zeros(hu.shape, bool)  # the one place where this nodule may be
            middle[tuple(np.asarray(self.shape_irc) // 2 + shift)] = True
            if done := implant_randomly(hu, labels, middle, self.nodules, 1, rng):
                nodule, _, pose = done[0]
                return hu, malignancy_label(nodule.malignancy), nodule.diameter_mm * pose.zoom
        raise RuntimeError(f"no aerated place in {TRIES} tries: the scans' lung masks hold no lung")

    def _other(self, rng: np.random.Generator) -> Crop:
        if self.cubes is not None and rng.random() < self.cube_share:
            return self.cubes.draw_other(self.shape_irc, rng), float("nan"), float("nan")
        if self._others and rng.random() >= self.random_share:
            hu = self._crop(*pick(self._others, rng), rng)
        else:
            scan = pick(self.scans, rng)
            free = scan.lung_voxels[scan.labels.ravel()[scan.lung_voxels] == 0]
            place = np.unravel_index(free[rng.integers(free.size)], scan.labels.shape)
            hu = crop_around(scan.hu, place, self.shape_irc, AIR_HU)
        if rng.random() < NEIGHBOUR_SHARE:
            self._add_neighbour(hu, rng)
        return hu, float("nan"), float("nan")

    def _add_neighbour(self, hu: NDArray[np.int16], rng: np.random.Generator) -> None:
        """Set a nodule off the middle of a non-nodule, in place: only the middle is asked about."""
        axes = np.ogrid[tuple(slice(n) for n in hu.shape)]
        squared = sum((axis - n // 2) ** 2 for axis, n in zip(axes, hu.shape, strict=True))
        implant_randomly(hu, np.zeros(hu.shape, np.uint8), squared > OFF_MIDDLE_MM**2, self.nodules, 1, rng)

    def _crop(
        self, scan: LabelledScan, center_irc: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.int16]:
        return crop_around(scan.hu, center_irc + rng.normal(0, JITTER_MM, 3), self.shape_irc, AIR_HU)

    @cached_property
    def _own(self) -> list[tuple[LabelledScan, NDArray[np.float64]]]:
        """The scans' own nodules, found by a segmentation or not."""
        return [(scan, center) for scan in self.scans for center in scan.nodule_centers_irc]

    @cached_property
    def _others(self) -> list[tuple[LabelledScan, NDArray[np.float64]]]:
        """What was proposed and is no nodule."""
        scans = {scan.series_uid: scan for scan in self.scans}
        return [
            (scans[c.series_uid], scans[c.series_uid].prepared.ct.geometry.to_irc(c.center_xyz))
            for c in self.candidates
            if c.is_nodule is False
        ]
