"""How large a finding is, of what density and where, from the mask of the segmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from p2ch_luna.findings import Point
from p2ch_luna.geometry import CtVolume, HuArray, ImageGeometry, to_canonical
from p2ch_luna.inference.anatomy import NOWHERE, LungMap, Side, Third, place_of
from p2ch_luna.inference.diameters import diameters
from p2ch_luna.inference.regions import Region
from p2ch_luna.inference.texture import Texture, solid_part, texture_of

Segment = tuple[Point, Point]
TOUCHING = np.ones((3, 3, 3), bool)  # 26 neighbours
NEARBY_MM = 4.0  # within which a voxel is looked for first where the one wanted is another finding's


@dataclass(frozen=True, eq=False)
class Measurement:
    """A finding measured in its CT. Points are LPS mm, lengths mm.

    mask: (d, h, w) on the CT's own grid, never empty.    low_irc: voxel of the CT that is its first.
    """

    mask: NDArray[np.bool_]
    low_irc: tuple[int, int, int]
    longest_lps_mm: Segment  # in the axial slice where it is longest
    perpendicular_lps_mm: Segment  # the longest across that, in the same slice
    longest_mm: float
    perpendicular_mm: float
    mean_diameter_mm: float  # of these two
    volume_mm3: float  # of the mask's voxels
    diameter_mm: float  # of the sphere of that volume
    mean_hu: float
    texture: Texture
    solid_mm: float  # mean diameter of the solid part; 0: none
    side: Side | None
    third: Third | None  # of that lung's height
    pleura_mm: float | None  # from its edge to the nearest edge of a lung
    is_cut_off: bool  # the mask touches an end of the scan, so that the sizes are lower bounds

    @property
    def box(self) -> tuple[slice, ...]:
        """Where the mask lies in the array of the CT."""
        return _box(self.low_irc, self.mask.shape)


def measure(
    ct: CtVolume, region: Region, lungs: LungMap | None, taken: NDArray[np.bool_] | None = None
) -> Measurement:
    """Measure one finding of a CT of any orientation; its slices are those nearest to axial.

    region: as its `Diagnosis` holds it, of this CT.    lungs: likewise; without them it has no place.
    taken: (D, H, W) voxels of the CT that are other findings'; None: no voxel is.
    """
    low, said = finding_on(ct, region, taken)
    geometry = ct.geometry.moved_to(low)
    box = _box(low, said.shape)
    hu = to_canonical(CtVolume(ct.series_uid, ct.hu[box], geometry)).hu
    seen = to_canonical(CtVolume(ct.series_uid, said, geometry))
    inside = seen.hu >= region.level
    spacing_irc = seen.geometry.spacing_irc
    size = diameters(seen.hu, region.level, spacing_irc)
    texture = texture_of(hu, inside, spacing_irc)
    mask = said >= region.level
    volume_mm3 = mask_volume_mm3(int(np.count_nonzero(mask)), ct.geometry)
    place = place_of(inside, seen.geometry, lungs) if lungs else NOWHERE
    return Measurement(
        mask=mask,
        low_irc=low,
        longest_lps_mm=_segment(seen.geometry, size.longest_irc),
        perpendicular_lps_mm=_segment(seen.geometry, size.perpendicular_irc),
        longest_mm=size.longest_mm,
        perpendicular_mm=size.perpendicular_mm,
        mean_diameter_mm=size.mean_mm,
        volume_mm3=volume_mm3,
        diameter_mm=equivalent_diameter_mm(volume_mm3),
        mean_hu=float(hu[inside].mean(dtype=np.float64)),
        texture=texture,
        solid_mm=size.mean_mm if texture == "solid" else _solid_mm(hu, inside, spacing_irc),
        side=place.side,
        third=place.third,
        pleura_mm=place.pleura_mm,
        is_cut_off=_touches_an_end(low, mask, ct.hu.shape),
    )


def _touches_an_end(low: tuple[int, int, int], mask: NDArray[np.bool_], shape: tuple[int, ...]) -> bool:
    """Whether a mask (d, h, w), whose first voxel is `low`, has one in the outermost of the CT."""
    voxels = np.argwhere(mask) + low
    return bool((voxels.min(0) == 0).any() or (voxels.max(0) == np.array(shape) - 1).any())


def finding_on(
    ct: CtVolume, region: Region, taken: NDArray[np.bool_] | None = None
) -> tuple[tuple[int, int, int], NDArray[np.float32]]:
    """A finding's probability (d, h, w) at the voxels of its CT, and which voxel is the first.

    It is interpolated at the voxels' centres. Those from the region's level on are the finding: one part
    that hangs together, the largest; others are 0, and so is what is taken (D, H, W). Where there is none,
    the voxel nearest to the peak is that is not taken.
    """
    low, said = _sampled(ct, region)
    if taken is not None:
        said *= ~taken[_box(_triple(low), said.shape)]
    labels, count = ndimage.label(said >= region.level, TOUCHING)
    if not count:
        alone = np.full((1, 1, 1), 2 * region.level, np.float32)  # its outline is half a voxel away
        return _triple(_nearest_free(ct, region.peak_xyz, taken)), alone
    largest = int(np.bincount(labels.ravel())[1:].argmax()) + 1
    said[(labels > 0) & (labels != largest)] = 0
    (tight,) = ndimage.find_objects((labels == largest).astype(np.int8))
    starts = [max(axis.start - 1, 0) for axis in tight]
    ends = [axis.stop + 1 for axis in tight]
    return _triple(low + starts), said[tuple(map(slice, starts, ends))]


def _sampled(ct: CtVolume, region: Region) -> tuple[NDArray[np.int_], NDArray[np.float32]]:
    """The first voxel of the CT's box round a region, and the region's probability in that box."""
    corners = np.array(list(product(*((-1, n) for n in region.probability.shape))))
    places = ct.geometry.to_irc(region.geometry.to_xyz(corners))
    low = np.clip(np.floor(places.min(0)).astype(int), 0, ct.hu.shape)
    high = np.clip(np.ceil(places.max(0)).astype(int) + 1, 0, ct.hu.shape)
    grid = ct.geometry.moved_to(low)
    start = region.geometry.to_irc(grid.to_xyz(np.zeros(3)))
    matrix = (region.geometry.to_irc(grid.to_xyz(np.eye(3))) - start).T
    # float32 rounds, so that a voxel that is just at the level is so in a flipped scan too.
    said = np.zeros(tuple(high - low), np.float32)
    ndimage.affine_transform(region.probability, matrix, start, output=said, order=1)
    return low, said


def _nearest_free(
    ct: CtVolume, xyz: NDArray[np.float64], taken: NDArray[np.bool_] | None
) -> NDArray[np.int_]:
    """(3,) the voxel of a CT nearest to a place, the first of equals, of those that are not taken.

    Raises ValueError where all are.
    """
    shape = np.array(ct.hu.shape)
    nearest = np.floor(ct.geometry.to_irc(xyz) + 0.5).astype(int).clip(0, shape - 1)
    if taken is None or not taken[tuple(nearest)]:
        return np.asarray(nearest)
    reach_mm = NEARBY_MM
    while True:  # not in all of the CT at once: it may have a thousand million voxels
        reach = np.ceil(reach_mm / ct.geometry.spacing_irc).astype(int)
        low, high = (nearest - reach).clip(0), np.minimum(nearest + reach + 1, shape)
        free = low + np.argwhere(~taken[tuple(map(slice, low, high))])
        away_mm = np.linalg.norm(ct.geometry.to_xyz(free) - xyz, axis=-1)
        if away_mm.min(initial=np.inf) <= reach_mm or (high - low == shape).all():
            return np.asarray(free[away_mm.argmin()])
        reach_mm *= 2


def _box(low: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(start, start + n) for start, n in zip(low, shape, strict=True))


def mask_volume_mm3(n_voxels: int, geometry: ImageGeometry) -> float:
    """The volume of so many voxels."""
    return n_voxels * float(geometry.spacing_xyz.prod())


def equivalent_diameter_mm(volume_mm3: float) -> float:
    """The diameter of the sphere of that volume."""
    return math.cbrt(6 * volume_mm3 / math.pi)


def _solid_mm(hu: HuArray, inside: NDArray[np.bool_], spacing_irc: NDArray[np.float64]) -> float:
    """The mean diameter of the largest solid part of a nodule that is not solid; 0 if there is none."""
    labels, count = ndimage.label(solid_part(hu, inside), TOUCHING)
    if not count:
        return 0.0
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return diameters(largest.astype(np.float32), 0.5, spacing_irc).mean_mm


def _segment(geometry: ImageGeometry, ends_irc: NDArray[np.float64]) -> Segment:
    (a, b, c), (d, e, f) = geometry.to_xyz(ends_irc).tolist()
    return (a, b, c), (d, e, f)


def _triple(irc: NDArray[np.int_]) -> tuple[int, int, int]:
    index, row, col = irc.tolist()
    return index, row, col
