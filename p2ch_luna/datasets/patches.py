"""Training patches for the segmentation: real backgrounds with real nodules in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.utils.data import Dataset

from p2ch_luna.datasets.implant import AERATED_HU, Implantable, Pose, blend
from p2ch_luna.datasets.scans import UNSURE, LabelledScan
from p2ch_luna.geometry import AIR_HU, ImageGeometry, crop_around
from p2ch_luna.io.lidc import NoduleCrop

Labels = NDArray[np.uint8]
Item = TypeVar("Item")
REFERENCE_MM3 = 113.0  # a 6 mm nodule: its voxels weigh 1, those of smaller nodules more, of larger less
VOXEL_WEIGHT = (0.1, 3.0)  # bounds of that weight
DENSE_HU = -500.0  # of a vessel in the lung, rather more than less
CLEAR_MM = 8.0  # from a nodule to what is surely something else


class PatchSample(NamedTuple):
    """One patch, or a batch of them with a leading axis."""

    hu: Tensor  # (1, D, H, W) float32 HU
    mask: Tensor  # (1, D, H, W) 0 or 1
    weight: Tensor  # (1, D, H, W) of each voxel in the loss; 0 where the truth is not known


class PatchSource(Protocol):
    """Something that patches are drawn from."""

    def draw(self, shape_irc: Sequence[int], rng: np.random.Generator) -> tuple[NDArray[np.int16], Labels]:
        """A new patch, (D, H, W) HU at 1 mm, and its labels as in `LabelledScan`."""
        ...


@dataclass(frozen=True)
class ScanPatches:
    """Patches of scans, up to `most_implants` nodules set into each.

    The middle of a patch is a place in the lung, or, in a scan with nodules of its own, half of the
    time one of those.
    """

    scans: Sequence[LabelledScan]
    nodules: Sequence[Implantable]
    most_implants: int = 3

    def draw(self, shape_irc: Sequence[int], rng: np.random.Generator) -> tuple[NDArray[np.int16], Labels]:
        """See `PatchSource`."""
        scan = pick(self.scans, rng)
        center = _random_center(scan, rng)
        hu = crop_around(scan.hu, center, shape_irc, AIR_HU)
        labels = crop_around(scan.labels, center, shape_irc, 0)
        lung = crop_around(scan.prepared.lung, center, shape_irc, 0)
        implant_randomly(hu, labels, lung, self.nodules, int(rng.integers(self.most_implants + 1)), rng)
        return hu, labels


def pick(items: Sequence[Item], rng: np.random.Generator) -> Item:
    """One of the items, each as likely."""
    return items[int(rng.integers(len(items)))]


def _random_center(scan: LabelledScan, rng: np.random.Generator) -> NDArray[np.float64]:
    """(3,) a place near a nodule of the scan's own, or a voxel of the lung."""
    own = scan.nodule_centers_irc
    if len(own) and rng.random() < 0.5:
        near: NDArray[np.float64] = own[rng.integers(len(own))] + rng.integers(-16, 17, 3)
        return near
    lung = scan.lung_voxels
    return np.array(np.unravel_index(lung[rng.integers(lung.size)], scan.labels.shape), float)


@dataclass(frozen=True)
class CubePatches:
    """Cubes round annotated nodules, shifted, mirrored at their ends, half of them with one implant."""

    cubes: Sequence[NoduleCrop]  # at 1 mm
    nodules: Sequence[Implantable]
    largest_shift: int = 12  # voxels

    def draw(self, shape_irc: Sequence[int], rng: np.random.Generator) -> tuple[NDArray[np.int16], Labels]:
        """See `PatchSource`."""
        cube = pick(self.cubes, rng)
        center = cube.center_irc + rng.integers(-self.largest_shift, self.largest_shift + 1, 3)
        hu = _crop_mirrored(cube.ct.hu.astype(np.int16, copy=False), center, shape_irc)
        labels = _crop_mirrored(cube.mask.astype(np.uint8), center, shape_irc)
        if self.nodules:
            implant_randomly(hu, labels, np.ones(hu.shape, bool), self.nodules, int(rng.integers(2)), rng)
        return hu, labels

    def draw_other(self, shape_irc: Sequence[int], rng: np.random.Generator) -> NDArray[np.int16]:
        """A patch whose middle is something dense among air, away from the nodule: mostly a vessel."""
        cube = pick(self.cubes, rng)
        places = self._vessels[cube.name]
        center = places[rng.integers(len(places))] if len(places) else np.zeros(3)
        return _crop_mirrored(cube.ct.hu.astype(np.int16, copy=False), center, shape_irc)

    @cached_property
    def _vessels(self) -> dict[str, NDArray[np.float64]]:
        return {cube.name: _dense_in_air(cube) for cube in self.cubes}


def _dense_in_air(cube: NoduleCrop) -> NDArray[np.float64]:
    """(N, 3) voxels above `DENSE_HU` whose surroundings are mostly lung, `CLEAR_MM` from the nodule."""
    hu = cube.ct.hu.astype(np.float32)
    clear = ndimage.distance_transform_edt(~cube.mask) > CLEAR_MM
    return np.argwhere((hu > DENSE_HU) & (ndimage.uniform_filter(hu, 11) < DENSE_HU) & clear).astype(
        np.float64
    )


def _crop_mirrored(array: NDArray[Any], center: NDArray[np.float64], shape: Sequence[int]) -> NDArray[Any]:
    start = np.round(center).astype(int) - np.asarray(shape) // 2
    low = np.maximum(-start, 0)
    high = np.maximum(start + shape - array.shape, 0)
    padded = np.pad(array, list(zip(low.tolist(), high.tolist(), strict=True)), mode="symmetric")
    first = start + low
    return padded[tuple(slice(f, f + n) for f, n in zip(first, shape, strict=True))].copy()


def implant_randomly(
    hu: NDArray[np.int16],
    labels: Labels,
    lung: NDArray[np.bool_],
    nodules: Sequence[Implantable],
    count: int,
    rng: np.random.Generator,
) -> list[tuple[Implantable, NDArray[np.int64], Pose]]:
    """Blend up to `count` nodules into a patch at 1 mm, in place, where the lung has air.

    Returns each with its centre (3,) in voxels. A place on a label is left alone, so that no nodule
    hides another.
    """
    done: list[tuple[Implantable, NDArray[np.int64], Pose]] = []
    free = np.flatnonzero(lung & (hu < AERATED_HU) & (labels == 0)) if count and nodules else np.empty(0, int)
    for _ in range(count if free.size else 0):
        center = np.array(np.unravel_index(free[rng.integers(free.size)], hu.shape))
        nodule, pose = pick(nodules, rng), Pose.random(rng)
        reach = int(nodule.diameter_mm * pose.zoom / 2) + 2
        near = tuple(slice(max(0, c - reach), c + reach + 1) for c in center)
        if labels[near].any():
            continue
        box, mask = blend(hu, ImageGeometry.axial(), nodule, center[::-1], pose)
        labels[box][mask] = len(done) + 101  # above the labels of a scan's own
        done.append((nodule, center, pose))
    return done


@dataclass(frozen=True)
class PatchDataset(Dataset[PatchSample]):
    """Patch `i` depends on the seed and on `i` alone: the same whatever the number of workers."""

    sources: Sequence[PatchSource]
    shares: Sequence[float]  # of each source
    shape_irc: Sequence[int]
    length: int
    seed: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> PatchSample:
        rng = np.random.default_rng((self.seed, i))
        shares = np.asarray(self.shares) / np.sum(self.shares)
        hu, labels = self.sources[rng.choice(len(self.sources), p=shares)].draw(self.shape_irc, rng)
        return PatchSample(
            torch.from_numpy(hu.astype(np.float32))[None],
            torch.from_numpy(((labels > 0) & (labels != UNSURE)).astype(np.float32))[None],
            torch.from_numpy(voxel_weights(labels))[None],
        )


def voxel_weights(labels: Labels) -> NDArray[np.float32]:
    """Weight of each voxel: 1 for background, 0 for `UNSURE`; nodules weigh by size, see `REFERENCE_MM3`.

    Without it a 20 mm nodule has as many voxels in the loss as 190 nodules of 3.5 mm.
    """
    volume = np.bincount(labels.ravel(), minlength=256)
    weight = np.clip(REFERENCE_MM3 / np.maximum(volume, 1), *VOXEL_WEIGHT).astype(np.float32)
    weight[0], weight[UNSURE] = 1.0, 0.0
    return weight[labels]
