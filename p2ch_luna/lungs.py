"""Where the lungs are, by thresholds and shapes on a coarse grid, and a CT made ready for the networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from p2ch_luna.geometry import PADDING_HU, CtVolume, ImageGeometry, crop_box, resample, to_canonical

COARSE_MM = 2.0
LUNG_BELOW_HU = -350.0  # a mean of lung and the vessels, interstitium and pathology in it
OUTSIDE_BELOW_HU = -930.0  # the air round the body, also where noise that is cut off at -1024 lifts it
GAS_BELOW_HU = -950.0
MAX_GAS = 0.6  # of a lung's volume, above which it is bowel or stomach gas
MAX_OPEN_WAYS = 0.5  # out of the body, on average over the voxels of a lung
MIN_LUNG_ML = 200.0
MIN_LUNG_SHARE = 0.1  # of the body in the image, if that is less: a few slices of a chest
MIN_PART_ML = 3.0
LARGE_PART = 0.2  # of the largest part: so large a part is lung wherever it lies
MIN_BODY_ML = 50.0
SKIN_VOXELS = 2  # over so many tissue shades into the air around it
CLOSING_MM = 30.0  # brings in masses on the pleura and at the hilum up to about twice this wide
PLACES = 16384  # of the lung, at most, that stand for all
RIM_MM = 2.0  # added all round, a voxel at least: a mask edge is no place for a nodule
RIGHT, LEFT, EITHER = 1, 2, 3  # of `Lungs.sides`; `EITHER`: of lungs that no gap tells apart, or of one alone

Mask = NDArray[np.bool_]

_IN_PLANE = np.zeros((3, 3, 3), bool)
_IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True, eq=False)
class Lungs:
    """The region that may hold lung nodules: both lungs, what lies in them and their edge.

    mask: (D, H, W) on `geometry`, a grid of about 2 mm.
    warning: None where lungs were found; else, for the user, why the search is wider.
    sides: (D, H, W) `RIGHT`, `LEFT` or `EITHER` in the lungs themselves, which `mask` reaches beyond by
    `RIM_MM`; 0 outside. None where no lungs were found.
    """

    mask: Mask
    geometry: ImageGeometry
    warning: str | None
    sides: NDArray[np.uint8] | None = None

    def mask_on(self, geometry: ImageGeometry, shape: Sequence[int]) -> Mask:
        """The mask on any grid of `shape`, by the nearest voxel; false outside the CT it was found in."""
        offset = self.geometry.to_irc(geometry.to_xyz(np.zeros(3)))
        steps = self.geometry.to_irc(geometry.to_xyz(np.eye(3))) - offset  # row k: one voxel along axis k
        axes = np.abs(steps).argmax(1)
        along = np.where(np.arange(3) == axes[:, None], steps, 0)
        bend = np.abs(steps - along).T @ np.asarray(shape)  # from end to end, in voxels of the mask
        padded = np.pad(self.mask, 1)  # a position outside is clipped into the padding
        if sorted(axes) != [0, 1, 2] or bend.max() > 0.25:
            return _nearest_oblique(padded, steps, offset + 1, shape)
        found = padded.transpose(axes)
        for k, axis in enumerate(axes):
            place = np.arange(shape[k]) * steps[k, axis] + offset[axis] + 1
            found = found.take(_nearest(place, found.shape[k]), k)
        return found


def _nearest_oblique(
    mask: Mask, steps: NDArray[np.float64], offset: NDArray[np.float64], shape: Sequence[int]
) -> Mask:
    """The voxel of `mask` nearest to `offset + irc @ steps`, for each irc of `shape`; slice by slice."""
    found = np.empty(tuple(shape), bool)
    row, col = np.arange(shape[1])[:, None, None], np.arange(shape[2])[:, None]
    plane = row * steps[1] + col * steps[2] + offset  # (H, W, 3)
    for i in range(shape[0]):
        place = plane + i * steps[0]
        found[i] = mask[tuple(_nearest(place[..., k], n) for k, n in enumerate(mask.shape))]
    return found


def _nearest(place: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    return np.floor(place + 0.5).astype(np.int64).clip(0, n - 1)


@dataclass(frozen=True, eq=False)
class PreparedCt:
    """A CT as the networks see it.

    ct: isotropic, canonical orientation (tilt kept), int16 HU, the lungs' box and a margin.
    lung: (D, H, W) of the same grid.    warning: as in `Lungs`.
    native: the grid of the CT that it was made from, on which readers have drawn their outlines.
    """

    ct: CtVolume
    lung: Mask
    warning: str | None
    native: ImageGeometry | None = None


def prepare(
    ct: CtVolume, spacing_mm: float = 1.0, margin_mm: float = 10.0, lungs: Lungs | None = None
) -> PreparedCt:
    """Cut out the box of the lungs and bring it to one spacing; the lungs are found if they are not given."""
    lungs = lungs or find_lungs(ct)
    box = _lung_box(to_canonical(ct), lungs, margin_mm)
    hu = np.rint(np.clip(box.hu, PADDING_HU, np.iinfo(np.int16).max)).astype(np.int16)
    scaled = resample(replace(box, hu=hu), spacing_mm)
    return PreparedCt(scaled, lungs.mask_on(scaled.geometry, scaled.hu.shape), lungs.warning, ct.geometry)


def sample_places(lung: Mask) -> NDArray[np.uint16]:
    """(N, 3) up to `PLACES` voxels of a (D, H, W) mask, each as likely, in random order, none twice."""
    inside = np.flatnonzero(lung)
    drawn = np.random.default_rng(0).choice(inside, min(PLACES, len(inside)), replace=False)
    return np.stack(np.unravel_index(drawn, lung.shape), axis=1).astype(np.uint16)


def _lung_box(ct: CtVolume, lungs: Lungs, margin_mm: float) -> CtVolume:
    """`lungs.geometry` and the CT's run along the same axes."""
    found = [np.flatnonzero(lungs.mask.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
    low, high = (np.array([line[end] for line in found]) for end in (0, -1))
    margin = margin_mm / ct.geometry.spacing_irc
    low_irc = ct.geometry.to_irc(lungs.geometry.to_xyz(low - 0.5)) - margin
    high_irc = ct.geometry.to_irc(lungs.geometry.to_xyz(high + 0.5)) + margin
    return crop_box(ct, np.floor(low_irc + 0.5), np.ceil(high_irc + 0.5))


def find_lungs(ct: CtVolume) -> Lungs:
    """Find the lungs of a chest CT in any orientation, also cut off or only in part in the image.

    Where there are none, the region is the body, or the whole volume, and `warning` says so.
    """
    coarse = _coarsen(to_canonical(ct))
    voxel_ml = float(coarse.geometry.spacing_xyz.prod()) / 1000
    hu = coarse.hu.astype(np.float32, copy=False)
    air = hu < LUNG_BELOW_HU
    around = _border_connected(hu < OUTSIDE_BELOW_HU)
    tissue = _largest_part(~air)
    padding = ndimage.binary_dilation(around & (hu < PADDING_HU + 1), _IN_PLANE)
    open_ways = _open_ways(tissue, around & ~padding)
    skin = ndimage.binary_dilation(around, _IN_PLANE, iterations=SKIN_VOXELS, mask=air)
    lung = _choose_lungs(air & ~skin, skin, open_ways, hu, voxel_ml)
    lung = ndimage.binary_dilation(lung, _IN_PLANE, iterations=SKIN_VOXELS, mask=air & ~around)
    body = tissue | (open_ways <= 1) & ~skin
    lung_ml, body_ml = (np.count_nonzero(region) * voxel_ml for region in (lung, body))
    wanted_ml = min(MIN_LUNG_ML, MIN_LUNG_SHARE * body_ml)
    if lung.any() and lung_ml >= wanted_ml:
        mask, sides = _complete(lung, coarse.geometry.spacing_irc)
        return Lungs(mask, coarse.geometry, None, sides)
    reason = f"no lungs found: {lung_ml:.0f} ml of lung inside the body, at least {wanted_ml:.0f} ml wanted"
    if np.count_nonzero(tissue) * voxel_ml >= MIN_BODY_ML:
        return Lungs(body, coarse.geometry, f"{reason}; searching the whole body")
    return Lungs(np.ones(hu.shape, bool), coarse.geometry, f"{reason}; searching the whole volume")


def _coarsen(ct: CtVolume) -> CtVolume:
    """Average blocks of about 2 mm; the last along an axis may be smaller."""
    step = np.maximum(1, np.rint(COARSE_MM / ct.geometry.spacing_irc)).astype(int)
    starts = [np.arange(0, n, k) for n, k in zip(ct.hu.shape, step, strict=True)]
    counts = [np.diff(s, append=n) for n, s in zip(ct.hu.shape, starts, strict=True)]
    hu = np.empty([len(s) for s in starts], np.float32)
    for i, (start, count) in enumerate(zip(starts[0], counts[0], strict=True)):
        slab = np.maximum(ct.hu[start : start + count], PADDING_HU).sum(0, dtype=np.float32)
        rows = np.add.reduceat(slab, starts[1], 0)
        hu[i] = np.add.reduceat(rows, starts[2], 1) / (count * counts[1][:, None] * counts[2])
    moved = ct.geometry.moved_to((step - 1) / 2)
    return CtVolume(ct.series_uid, hu, replace(moved, spacing_xyz=ct.geometry.spacing_xyz * step[::-1]))


def _border_connected(mask: Mask) -> Mask:
    """What is joined to the border of the image within its own axial slice."""
    labels, count = ndimage.label(mask, _IN_PLANE)
    joined = np.zeros(count + 1, bool)
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        joined[edge] = True
    joined[0] = False
    return joined[labels]


def _largest_part(mask: Mask) -> Mask:
    """The largest component once thin bridges (to a table, a blanket) are cut."""
    core, count = ndimage.label(ndimage.binary_erosion(mask, border_value=1))
    if count == 0:
        return np.zeros_like(mask)
    largest = core == np.bincount(core.ravel())[1:].argmax() + 1
    whole: Mask = ndimage.binary_dilation(largest, iterations=2) & mask
    return whole


def _open_ways(tissue: Mask, outside: Mask) -> NDArray[np.int8]:
    """How many of the four ways in the axial plane lead from a voxel outside before they meet tissue.

    The border of the image is not outside by itself, nor is padding, for a lung may be cut off there.
    """
    count = np.zeros(tissue.shape, np.int8)
    for axis in (1, 2):
        place = np.arange(2, 2 * tissue.shape[axis] + 1, 2, dtype=np.int16)
        place = place[:, None] if axis == 1 else place
        for way in (1, -1):
            seen = (slice(None), *(slice(None, None, way if a == axis else 1) for a in (1, 2)))
            met = place * (tissue | outside)[seen] + outside[seen]  # odd where it is outside
            count[seen] += np.maximum.accumulate(met, axis) % 2 == 1
    return count


def _choose_lungs(
    air: Mask, skin: Mask, open_ways: NDArray[np.int8], hu: NDArray[np.float32], voxel_ml: float
) -> Mask:
    """The components of air that are lung: the largest inside the body that is not gas, and others with it.

    Small ones must not lie below it, as bowel does, nor touch the skin, as the air in its folds does.
    """
    labels, count = ndimage.label(air)
    voxels = np.nonzero(air)
    label = labels[voxels]
    size = np.bincount(label, minlength=count + 1)
    gas, ways, height = (
        np.bincount(label, value, count + 1) / np.maximum(size, 1)
        for value in (hu[voxels] < GAS_BELOW_HU, open_ways[voxels], voxels[0])
    )
    is_lung = (size * voxel_ml >= MIN_PART_ML) & (gas <= MAX_GAS) & (ways <= MAX_OPEN_WAYS)
    if not is_lung.any():
        return np.zeros_like(air)
    largest = np.where(is_lung, size, 0).argmax()
    is_beside = height >= np.percentile(voxels[0][label == largest], 5)
    is_beside[labels[ndimage.binary_dilation(skin)]] = False
    is_lung &= is_beside | (size >= LARGE_PART * size[largest])
    chosen: Mask = is_lung[labels]
    return chosen


def _complete(lung: Mask, spacing_irc: NDArray[np.float64]) -> tuple[Mask, NDArray[np.uint8]]:
    """Bring in what lies in the lungs and at their edge: vessels, nodules, masses on the pleura.

    The mask, and the sides without the rim that the mask has.
    """
    sides = np.zeros(lung.shape, np.uint8)
    parts = list(_sides(lung))
    for number, side in zip((RIGHT, LEFT) if len(parts) == 2 else (EITHER,), parts, strict=True):
        (box,) = ndimage.find_objects(side.astype(np.int8))
        complete = _filled(side[box] | _closed(side[box], spacing_irc))
        sides[box][complete & (sides[box] == 0)] = number
        sides[side] = number  # where the other's closing reaches into it
    grown: Mask = sides > 0
    for axis, reach in enumerate(np.maximum(1, np.rint(RIM_MM / spacing_irc)).astype(int)):
        grown = ndimage.maximum_filter1d(grown, 2 * reach + 1, axis)
    return grown, sides


def _sides(lung: Mask) -> Iterator[Mask]:
    """The right and the left lung, which may touch; both in one where no gap shows between them.

    Apart, so that closing does not take in the mediastinum.
    """
    profile = lung.sum((0, 1))
    share = profile.cumsum() / profile.sum()
    low, high = np.searchsorted(share, [0.25, 0.75])
    middle = low + int(profile[low : high + 1].argmin())
    if profile[middle] > 0.4 * min(profile[:middle].max(initial=0), profile[middle:].max()):
        yield lung
        return
    for start, stop in pairwise((0, middle, lung.shape[2])):
        side = np.zeros_like(lung)
        side[:, :, start:stop] = lung[:, :, start:stop]
        yield side


def _closed(mask: Mask, spacing_irc: NDArray[np.float64]) -> Mask:
    """Close with a ball of `CLOSING_MM`, on a grid coarser again; the image is continued outside.

    The ball bulges into what it bridges, where the wall of the chest bulges out: thick fillings are grown.
    """
    step = np.where(spacing_irc < 1.5 * COARSE_MM, 2, 1)
    spacing = spacing_irc * step
    reach = np.ceil(CLOSING_MM / spacing).astype(int) + 1
    low = np.pad(mask[tuple(slice(None, None, k) for k in step)], reach[:, None], mode="edge")
    near = ndimage.distance_transform_edt(~low, spacing) <= CLOSING_MM
    closed: Mask = ndimage.distance_transform_edt(near, spacing) > CLOSING_MM
    closed |= ndimage.binary_dilation(ndimage.binary_opening(closed & ~low), iterations=2)
    for axis, n in enumerate(mask.shape):
        closed = closed.take(np.arange(n) // step[axis] + reach[axis], axis)
    return closed


def _filled(mask: Mask) -> Mask:
    """Fill holes within each axial slice."""
    around = ((0, 0), (1, 1), (1, 1))
    return ~_border_connected(np.pad(~mask, around, constant_values=True))[:, 1:-1, 1:-1]
