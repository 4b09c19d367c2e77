"""What an alignment looks at: the surface of the lungs of a picture, and the HU inside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference.lung_picture import lung_of
from p2ch_luna.lungs import Mask

REACH_MM = 40.0  # distances to the surface are told up to so far
COARSE = 2  # voxels of the picture to one of the distance map
FINE_MM = 1.5
HU_RANGE = (-1000.0, 100.0)  # of air and vessels; denser than that, calcium, counts as no more
TOUCHING = 20  # voxels of lung on a face of the picture from which the lungs are cut off there

Points = NDArray[np.float64]  # (N, 3) LPS mm


@dataclass(frozen=True)
class Rigid:
    """A rotation and a shift: `rotation @ xyz + shift_xyz`, LPS mm of one scan to those of another."""

    rotation: NDArray[np.float64]  # (3, 3)
    shift_xyz: NDArray[np.float64]  # (3,)

    def __call__(self, xyz: ArrayLike) -> NDArray[np.float64]:
        """Move (..., 3) points."""
        moved: NDArray[np.float64] = np.asarray(xyz, float) @ self.rotation.T + self.shift_xyz
        return moved

    def inverse(self) -> Rigid:
        """What moves them back."""
        return Rigid(self.rotation.T, -self.rotation.T @ self.shift_xyz)


@dataclass(frozen=True, eq=False)
class LungView:
    """A `lung_picture` and what is worked out from it once."""

    picture: CtVolume

    @property
    def geometry(self) -> ImageGeometry:
        """Of the picture."""
        return self.picture.geometry

    @cached_property
    def lung(self) -> Mask:
        """(D, H, W)."""
        return lung_of(self.picture)

    @cached_property
    def cut(self) -> Mask:
        """(3, 2) whether the lungs go on beyond the low and the high face along index, row, col."""
        faces = (self.lung.take(end, axis) for axis in range(3) for end in (0, -1))
        return np.array([np.count_nonzero(face) >= TOUCHING for face in faces]).reshape(3, 2)

    @cached_property
    def surface_xyz(self) -> Points:
        """All points of the lungs' surface; where the scan cuts the lungs off there is none."""
        inner = ndimage.binary_erosion(self.lung, border_value=1)
        return self.geometry.to_xyz(np.argwhere(self.lung & ~inner))

    @cached_property
    def inside_xyz(self) -> Points:
        """All points of the lungs."""
        return self.geometry.to_xyz(np.argwhere(self.lung))

    def is_known(self, xyz: Points) -> Mask:
        """(N,) whether the scan tells if there is lung: it does not beyond a face that cuts the lungs off."""
        irc = self.geometry.to_irc(xyz)
        low = (irc < 0) & self.cut[:, 0]
        high = (irc > np.array(self.lung.shape) - 1) & self.cut[:, 1]
        unknown: Mask = np.any(low | high, axis=-1)
        return ~unknown

    def is_lung(self, xyz: Points) -> Mask:
        """(N,) whether there is lung; never outside the picture."""
        return _sampled(self.lung.astype(np.float32), self.geometry, xyz, 0.0) > 0.5

    def distance_mm(self, xyz: Points) -> NDArray[np.float32]:
        """(N,) from the surface, negative in the lungs, up to `REACH_MM`."""
        field, geometry = self._distance
        return _sampled(field, geometry, xyz)

    @cached_property
    def _distance(self) -> tuple[NDArray[np.float32], ImageGeometry]:
        lung = self.lung[tuple(slice(COARSE // 2, None, COARSE) for _ in range(3))]
        spacing = self.geometry.spacing_irc * COARSE
        pad = int(np.ceil(REACH_MM / spacing.min()))
        lung = np.pad(lung, pad, mode="edge")  # so that lungs go on where they are cut off
        outside, inside = (ndimage.distance_transform_edt(m, spacing) for m in (~lung, lung))
        edge = spacing.min() / 2  # the surface lies half way between a voxel inside and one outside
        field = np.where(lung, edge - inside, outside - edge).clip(-REACH_MM, REACH_MM).astype(np.float32)
        low = self.geometry.moved_to(np.full(3, COARSE // 2))
        coarse = ImageGeometry(low.origin_xyz, self.geometry.spacing_xyz * COARSE, low.direction)
        return field, coarse.moved_to(np.full(3, -pad))

    @cached_property
    def fine(self) -> LungHu:
        """HU blurred by `FINE_MM`, so that little but noise is lost."""
        return self.smooth(FINE_MM)

    def smooth(self, sigma_mm: float) -> LungHu:
        """HU blurred within the lungs."""
        sigma = sigma_mm / self.geometry.spacing_irc
        lung = self.lung.astype(np.float32)
        hu = lung * np.clip(self.picture.hu, *HU_RANGE).astype(np.float32)
        weight, blurred = (ndimage.gaussian_filter(a, sigma, truncate=3) for a in (lung, hu))
        return LungHu(np.asarray(blurred / np.maximum(weight, 1e-3), np.float32), lung, self.geometry)


@dataclass(frozen=True, eq=False)
class LungHu:
    """HU inside lungs, to be looked up at any point."""

    hu: NDArray[np.float32]
    lung: NDArray[np.float32]  # 1 in the lungs
    geometry: ImageGeometry

    def at(self, xyz: Points) -> tuple[NDArray[np.float32], Mask]:
        """(N,) HU by linear interpolation, and whether the point is in the lungs."""
        return _sampled(self.hu, self.geometry, xyz), _sampled(self.lung, self.geometry, xyz, 0.0) > 0.5


def _sampled(
    values: NDArray[np.float32], geometry: ImageGeometry, xyz: Points, outside: float | None = None
) -> NDArray[np.float32]:
    """Linear interpolation; outside the array the nearest voxel, or `outside`."""
    irc = geometry.to_irc(xyz).T
    if outside is None:
        return np.asarray(ndimage.map_coordinates(values, irc, order=1, mode="nearest"), np.float32)
    return np.asarray(ndimage.map_coordinates(values, irc, order=1, cval=outside), np.float32)


def some(points: Points, count: int) -> Points:
    """At most so many of the points, drawn without a seed to choose: the same for the same points."""
    if len(points) <= count:
        return points
    return points[np.random.default_rng(0).choice(len(points), count, replace=False)]
