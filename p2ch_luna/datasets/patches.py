"""Training patches for the segmentation: places of scans, some with nodules set in."""

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

from p2ch_luna.datasets.implant import AERATED_HU, AS_IT_IS, Implantable, Pose, Variety, blend
from p2ch_luna.datasets.places import Places
from p2ch_luna.datasets.sampling import Pick
from p2ch_luna.datasets.scans import UNSURE, LabelledScan, Labels
from p2ch_luna.geometry import ImageGeometry
from p2ch_luna.io.lidc import NoduleCrop

Item = TypeVar("Item")
REFERENCE_MM3 = 113.0  # a 6 mm nodule: its voxels weigh 1, those of smaller nodules more, of larger less
VOXEL_WEIGHT = (0.1, 3.0)  # bounds of that weight
DENSE_HU = -500.0  # of a vessel in the lung, rather more than less
CLEAR_MM = 8.0  # from a nodule to what is surely something else
NODULE_SHIFT, CANDIDATE_SHIFT = 0.25, 0.125  # of the patch: how far off its middle a place may lie
FIRST_IMPLANT = 101  # a label above those of a scan's own nodules


class PatchSample(NamedTuple):
    """One patch, or a batch of them with a leading axis."""

    hu: Tensor  # (1, D, H, W) int16
    labels: Tensor  # (1, D, H, W) uint8: 0 background, 1 to 254 nodules, UNSURE


class PatchBatch(NamedTuple):
    """What a segmentation trains on."""

    hu: Tensor  # (B, 1, D, H, W) float32 HU
    mask: Tensor  # (B, 1, D, H, W) 0 or 1
    weight: Tensor  # (B, 1, D, H, W) of each voxel in the loss; 0 where the truth is not known


class PatchSource(Protocol):
    """Items, of each of which many patches can be drawn."""

    def __len__(self) -> int: ...

    def draw(
        self, item: int, shape_irc: Sequence[int], rng: np.random.Generator
    ) -> tuple[NDArray[np.int16], Labels]:
        """A new patch, (D, H, W) HU at 1 mm, and its labels."""
        ...


@dataclass(frozen=True)
class PlacePatches:
    """Patches near places of scans: their own nodules, or what a segmentation took for one."""

    places: Places
    shift: float  # of the patch's sides

    def __len__(self) -> int:
        return len(self.places)

    def draw(
        self, item: int, shape_irc: Sequence[int], rng: np.random.Generator
    ) -> tuple[NDArray[np.int16], Labels]:
        """See `PatchSource`."""
        scan, center = self.places[item]
        most = (np.asarray(shape_irc) * self.shift).astype(int)
        center = center + rng.integers(-most, most + 1)
        return scan.crop_hu(center, shape_irc), scan.crop_labels(center, shape_irc)


@dataclass(frozen=True)
class LungPatches:
    """Patches round any place in the lungs, up to `most_implants` nodules set into each; an item a scan."""

    scans: Sequence[LabelledScan]
    nodules: Sequence[Implantable] = ()
    most_implants: int = 0
    variety: Variety = AS_IT_IS

    def __len__(self) -> int:
        return len(self.scans) if self.nodules or not self.most_implants else 0

    def draw(
        self, item: int, shape_irc: Sequence[int], rng: np.random.Generator
    ) -> tuple[NDArray[np.int16], Labels]:
        """See `PatchSource`."""
        scan = self.scans[item]
        center = scan.random_place(rng)
        hu, labels = scan.crop_hu(center, shape_irc), scan.crop_labels(center, shape_irc)
        if count := int(rng.integers(self.most_implants + 1)):
            lung = scan.crop_lung(center, shape_irc)
            implant_randomly(hu, labels, lung, self.nodules, count, rng, self.variety)
        return hu, labels


def pick(items: Sequence[Item], rng: np.random.Generator) -> Item:
    """One of the items, each as likely."""
    return items[int(rng.integers(len(items)))]


@dataclass(frozen=True)
class CubePatches:
    """Cubes round annotated nodules, shifted, mirrored at their ends, half of them with one implant."""

    cubes: Sequence[NoduleCrop]  # at 1 mm
    nodules: Sequence[Implantable]
    largest_shift: int = 12  # voxels
    variety: Variety = AS_IT_IS  # of the implants

    def __len__(self) -> int:
        return len(self.cubes)

    def draw(
        self, item: int, shape_irc: Sequence[int], rng: np.random.Generator
    ) -> tuple[NDArray[np.int16], Labels]:
        """See `PatchSource`."""
        cube = self.cubes[item]
        center = cube.center_irc + rng.integers(-self.largest_shift, self.largest_shift + 1, 3)
        hu = _crop_mirrored(cube.ct.hu.astype(np.int16, copy=False), center, shape_irc)
        labels = _crop_mirrored(cube.mask.astype(np.uint8), center, shape_irc)
        if self.nodules:
            anywhere, count = np.ones(hu.shape, bool), int(rng.integers(2))
            implant_randomly(hu, labels, anywhere, self.nodules, count, rng, self.variety)
        return hu, labels

    def draw_vessel(self, item: int, shape_irc: Sequence[int], rng: np.random.Generator) -> NDArray[np.int16]:
        """A patch whose middle is something dense among air, away from the nodule: mostly a vessel."""
        cube = self.cubes[item]
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
    variety: Variety = AS_IT_IS,
) -> list[tuple[Implantable, NDArray[np.int64], Pose]]:
    """Blend up to `count` nodules into a patch at 1 mm, in place, where the lung has air.

    Returns each with its centre (3,) in voxels. A place on a label is left alone, so that no nodule
    hides another.
    """
    done: list[tuple[Implantable, NDArray[np.int64], Pose]] = []
    free = np.flatnonzero(lung & (hu < AERATED_HU) & (labels == 0)) if count and nodules else np.empty(0, int)
    for _ in range(count if free.size else 0):
        center = np.array(np.unravel_index(free[rng.integers(free.size)], hu.shape))
        nodule, pose = pick(nodules, rng), Pose.random(rng, variety)
        reach = int(nodule.diameter_mm * pose.zoom / 2) + 2
        near = tuple(slice(max(0, c - reach), c + reach + 1) for c in center)
        if labels[near].any():
            continue
        box, mask = blend(hu, ImageGeometry.axial(), nodule, center[::-1], pose)
        labels[box][mask] = len(done) + FIRST_IMPLANT
        done.append((nodule, center, pose))
    return done


@dataclass(frozen=True)
class PatchDataset(Dataset[PatchSample]):
    """One patch a `Pick`, which the sampler makes. It augments nothing and balances nothing."""

    sources: Sequence[PatchSource]
    shape_irc: Sequence[int]

    def __getitem__(self, pick: Pick) -> PatchSample:
        hu, labels = self.sources[pick.source].draw(pick.item, self.shape_irc, pick.rng())
        return PatchSample(torch.from_numpy(hu)[None], torch.from_numpy(labels)[None])


def as_batch(hu: Tensor, labels: Tensor) -> PatchBatch:
    """Mask and weights from labels, all (B, 1, D, H, W), on the device they are on."""
    is_nodule = labels - 1 < UNSURE - 1  # in one pass: 0 - 1 is 255
    return PatchBatch(hu.float(), is_nodule.float(), voxel_weights(labels))


def voxel_weights(labels: Tensor) -> Tensor:
    """Weight of each voxel of a (B, ...) batch of labels: 1 for background, 0 for `UNSURE`.

    Nodules weigh by size, see `REFERENCE_MM3`. Without it a 20 mm nodule has as many voxels in the loss
    as 190 nodules of 3.5 mm.
    """
    flat = labels.flatten(1)
    weight = (REFERENCE_MM3 / _label_counts(flat).clamp(min=1)).clamp(*VOXEL_WEIGHT)
    weight[:, 0], weight[:, UNSURE] = 1.0, 0.0
    return weight.gather(1, flat.long()).reshape(labels.shape)


def _label_counts(labels: Tensor) -> Tensor:
    """(B, 256) voxels of each label in (B, N) uint8."""
    if labels.device.type == "cpu":  # ten times as fast; a GPU would wait to learn the highest label
        return torch.stack([torch.bincount(row, minlength=UNSURE + 1) for row in labels])
    counts = torch.zeros(len(labels), UNSURE + 1, device=labels.device)
    return counts.scatter_add_(1, labels.long(), torch.ones_like(labels, dtype=torch.float32))
