"""Training crops for the classifier: nodules, and what a segmentation took for one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from p2ch_luna.datasets.implant import AS_IT_IS, Implantable, Variety
from p2ch_luna.datasets.lidc_labels import BENIGN, MALIGNANT
from p2ch_luna.datasets.patches import FIRST_IMPLANT, CubePatches, implant_randomly, pick
from p2ch_luna.datasets.places import Places
from p2ch_luna.datasets.sampling import Pick
from p2ch_luna.datasets.scans import UNSURE, LabelledScan, Labels, OwnNodule
from p2ch_luna.findings import Candidate, Nodule
from p2ch_luna.metrics.matching import effective_diameter_mm

JITTER_MM = 2.0  # standard deviation of a candidate's centre about the nodule's
NEIGHBOUR_SHARE = 0.3  # of the non-nodules have a nodule beside them …
OFF_MIDDLE_MM = 16.0  # … its centre at least so far off
TRIES = 20  # at a place in the lung where a nodule can be set
UNKNOWN = float("nan")


class CropSample(NamedTuple):
    """One crop, or a batch of them with a leading axis."""

    hu: Tensor  # (1, D, H, W) int16 at 1 mm, a candidate in its middle; float32 HU once augmented
    is_nodule: Tensor  # () 0 or 1
    rating: Tensor  # () of malignancy, mean of the readers', 1 to 5; NaN where nobody rated
    diameter_mm: Tensor  # () of the nodule, or NaN


class OutlinedSample(NamedTuple):
    """A `CropSample` and which of its voxels are the nodule in its middle."""

    hu: Tensor
    is_nodule: Tensor
    rating: Tensor
    diameter_mm: Tensor
    labels: Tensor  # (1, D, H, W) uint8: 0, 1 or UNSURE


class Crop(NamedTuple):
    """What a source draws; the fields are those of `OutlinedSample`."""

    hu: NDArray[np.int16]
    is_nodule: bool
    rating: float = UNKNOWN
    diameter_mm: float = UNKNOWN
    labels: Labels | None = None  # None: no nodule in the middle, or one that nobody has outlined


class CropSource(Protocol):
    """Items, of each of which many crops can be drawn."""

    def __len__(self) -> int: ...

    def draw(self, item: int, shape_irc: Sequence[int], rng: np.random.Generator) -> Crop:
        """A new crop of `shape_irc` voxels."""
        ...


def is_malignant(rating: Tensor) -> Tensor:
    """0 where `malignancy_of` a mean rating is benign, 1 where malignant, else NaN; of any shape.

    An indeterminate nodule and one that nobody rated teach nothing.
    """
    unknown = torch.full_like(rating, UNKNOWN)
    return torch.where(rating <= BENIGN, 0.0, torch.where(rating >= MALIGNANT, 1.0, unknown))


def rating_of(nodule: OwnNodule | Implantable) -> float:
    """The mean of the readers' ratings of malignancy; NaN where nobody rated."""
    return UNKNOWN if nodule.malignancy is None else nodule.malignancy


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
class NoduleCrops:
    """The scans' own annotated nodules."""

    own: Sequence[tuple[LabelledScan, OwnNodule]]

    def __len__(self) -> int:
        return len(self.own)

    def draw(self, item: int, shape_irc: Sequence[int], rng: np.random.Generator) -> Crop:
        """See `CropSource`."""
        scan, nodule = self.own[item]
        place = _jittered(nodule.center_irc, rng)
        labels = scan.paint((nodule,), place, shape_irc)
        return Crop(scan.crop_hu(place, shape_irc), True, rating_of(nodule), nodule.diameter_mm, labels)


@dataclass(frozen=True)
class PlaceCrops:
    """Candidates: nodules that were proposed, or what is none, some with a nodule set in beside it."""

    places: Places
    is_nodule: bool
    neighbours: Sequence[Implantable] = ()

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, item: int, shape_irc: Sequence[int], rng: np.random.Generator) -> Crop:
        """See `CropSource`."""
        scan, center_irc = self.places[item]
        hu = scan.crop_hu(_jittered(center_irc, rng), shape_irc)
        if not self.is_nodule:
            add_neighbour(hu, self.neighbours, rng)
        return Crop(hu, self.is_nodule)


@dataclass(frozen=True)
class ImplantCrops:
    """Nodules set into any place of the lungs; an item a nodule."""

    scans: Sequence[LabelledScan]
    nodules: Sequence[Implantable]
    variety: Variety = AS_IT_IS

    def __len__(self) -> int:
        return len(self.nodules) if self.scans else 0

    def draw(self, item: int, shape_irc: Sequence[int], rng: np.random.Generator) -> Crop:
        """See `CropSource`."""
        for _ in range(TRIES):
            scan = pick(self.scans, rng)
            place = scan.random_place(rng)
            hu, labels = scan.crop_hu(place, shape_irc), scan.crop_labels(place, shape_irc)
            shift = rng.normal(0, JITTER_MM, 3).round().astype(int)
            middle = np.zeros(hu.shape, bool)  # the one place where this nodule may be
            middle[tuple(np.asarray(shape_irc) // 2 + shift)] = True
            chosen = [self.nodules[item]]
            if done := implant_randomly(hu, labels, middle, chosen, 1, rng, self.variety):
                nodule, _, pose = done[0]
                own = np.where(labels == FIRST_IMPLANT, 1, np.where(labels == UNSURE, UNSURE, 0))
                return Crop(hu, True, rating_of(nodule), nodule.diameter_mm * pose.zoom, own.astype(np.uint8))
        raise RuntimeError(f"no aerated place in {TRIES} tries: the scans' lung masks hold no lung")


@dataclass(frozen=True)
class CubeCrops:
    """Nodules in their own surroundings, or vessels of these cubes."""

    cubes: CubePatches
    is_nodule: bool

    def __len__(self) -> int:
        return len(self.cubes)

    def draw(self, item: int, shape_irc: Sequence[int], rng: np.random.Generator) -> Crop:
        """See `CropSource`."""
        if self.is_nodule:
            hu, labels = self.cubes.draw(item, shape_irc, rng)
            return Crop(hu, True, labels=labels)
        return Crop(self.cubes.draw_vessel(item, shape_irc, rng), False)


@dataclass(frozen=True)
class LungCrops:
    """Any place in the lungs that is on no nodule; an item a scan."""

    scans: Sequence[LabelledScan]
    neighbours: Sequence[Implantable] = ()

    def __len__(self) -> int:
        return len(self.scans)

    def draw(self, item: int, shape_irc: Sequence[int], rng: np.random.Generator) -> Crop:
        """See `CropSource`."""
        scan = self.scans[item]
        for _ in range(TRIES):
            place = scan.random_place(rng)
            if not scan.crop_labels(place, (1, 1, 1)).any():
                hu = scan.crop_hu(place, shape_irc)
                add_neighbour(hu, self.neighbours, rng)
                return Crop(hu, False)
        raise RuntimeError(f"{scan.series_uid}: no place without a nodule in {TRIES} tries")


def _jittered(center_irc: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = center_irc + rng.normal(0, JITTER_MM, 3)
    return moved


def add_neighbour(hu: NDArray[np.int16], nodules: Sequence[Implantable], rng: np.random.Generator) -> None:
    """Into some non-nodules set a nodule off the middle, in place: only the middle is asked about."""
    if rng.random() >= NEIGHBOUR_SHARE or not nodules:
        return
    axes = np.ogrid[tuple(slice(n) for n in hu.shape)]
    squared = sum((axis - n // 2) ** 2 for axis, n in zip(axes, hu.shape, strict=True))
    implant_randomly(hu, np.zeros(hu.shape, np.uint8), squared > OFF_MIDDLE_MM**2, nodules, 1, rng)


@dataclass(frozen=True)
class CropDataset(Dataset[CropSample]):
    """One crop a `Pick`, which the sampler makes. It augments nothing and balances nothing."""

    sources: Sequence[CropSource]
    shape_irc: Sequence[int]

    def __getitem__(self, pick: Pick) -> CropSample:
        return _sample(self.sources[pick.source].draw(pick.item, self.shape_irc, pick.rng()))


@dataclass(frozen=True)
class OutlinedDataset(Dataset[OutlinedSample]):
    """The same crops, with the outlines of the nodules in their middle."""

    sources: Sequence[CropSource]
    shape_irc: Sequence[int]

    def __getitem__(self, pick: Pick) -> OutlinedSample:
        crop = self.sources[pick.source].draw(pick.item, self.shape_irc, pick.rng())
        labels = crop.labels
        if labels is None:  # of a nodule that nobody has outlined no voxel is known
            labels = np.full(crop.hu.shape, UNSURE if crop.is_nodule else 0, np.uint8)
        return OutlinedSample(*_sample(crop), torch.from_numpy(labels)[None])


def _sample(crop: Crop) -> CropSample:
    return CropSample(
        torch.from_numpy(crop.hu)[None],
        torch.tensor(float(crop.is_nodule)),
        torch.tensor(crop.rating),
        torch.tensor(crop.diameter_mm),
    )
