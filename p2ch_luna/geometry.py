"""Where voxels lie in the patient, and the few array operations that must respect it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

AIR_HU = -1000.0
PADDING_HU = -1024  # scanners fill what they did not see with -1024, -2000, -3024, …: it counts as this
SLAB = 16  # slices that are resampled at a time
LUNG_WINDOW_HU = (-1350.0, 150.0)  # black and white of a picture, as a radiologist looks at lungs
HuArray = NDArray[np.int16] | NDArray[np.float32]
Voxel = TypeVar("Voxel", bound=np.generic)
Sliced = TypeVar("Sliced", bound=np.generic, covariant=True)


class Voxels(Protocol[Sliced]):
    """(D, H, W) voxels in memory or in a file; a slice of them is an array, perhaps not to be written to."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(D, H, W)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a slice."""

    def __getitem__(self, key: tuple[slice, ...], /) -> NDArray[Sliced]: ...


@dataclass(frozen=True, eq=False)
class ImageGeometry:
    """Where voxel centres lie in the patient, in LPS millimetres.

    origin_xyz: (3,) centre of voxel (0, 0, 0).    spacing_xyz: (3,) mm between centres.
    direction: (3, 3) orthonormal; its columns are the unit steps of col, row, index. Nine numbers in rows, as
    SimpleITK has them, are the same. Raises ValueError for other shapes and for what is no such matrix.
    """

    origin_xyz: NDArray[np.float64]
    spacing_xyz: NDArray[np.float64]
    direction: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name, shape in (("origin_xyz", (3,)), ("spacing_xyz", (3,)), ("direction", (3, 3))):
            value = np.asarray(getattr(self, name), float)
            if value.shape not in (shape, (np.prod(shape),)):
                raise ValueError(f"{name} is {value.shape}; wanted {shape}")
            object.__setattr__(self, name, value.reshape(shape))
        if not np.allclose(self.direction.T @ self.direction, np.eye(3), atol=1e-4):
            raise ValueError(f"direction must be orthonormal, got {self.direction.tolist()}")
        if not (np.isfinite(self.spacing_xyz).all() and (self.spacing_xyz > 0).all()):
            raise ValueError(f"spacing must be three positive mm, got {self.spacing_xyz.tolist()}")

    @classmethod
    def axial(
        cls, spacing_xyz: ArrayLike = (1.0, 1.0, 1.0), origin_xyz: ArrayLike = (0.0, 0.0, 0.0)
    ) -> ImageGeometry:
        """Columns run to the patient's left, rows to the back, slices upwards."""
        return cls(np.asarray(origin_xyz, float), np.asarray(spacing_xyz, float), np.eye(3))

    @property
    def spacing_irc(self) -> NDArray[np.float64]:
        """(3,) mm between neighbours along index, row, col."""
        return self.spacing_xyz[::-1]

    def to_xyz(self, irc: ArrayLike) -> NDArray[np.float64]:
        """Map (..., 3) voxel indices to (..., 3) LPS mm."""
        return np.asarray(irc)[..., ::-1] * self.spacing_xyz @ self.direction.T + self.origin_xyz

    def to_irc(self, xyz: ArrayLike) -> NDArray[np.float64]:
        """Invert `to_xyz` (an orthonormal matrix is inverted by its transpose); not rounded."""
        return ((np.asarray(xyz) - self.origin_xyz) @ self.direction / self.spacing_xyz)[..., ::-1]

    def moved_to(self, irc: ArrayLike) -> ImageGeometry:
        """The geometry of an array whose voxel (0, 0, 0) is this one's `irc`, which may be fractional."""
        return replace(self, origin_xyz=self.to_xyz(irc))


@dataclass(frozen=True, eq=False)
class CtVolume:
    """One CT series."""

    series_uid: str
    hu: HuArray  # (D, H, W), indexed [index, row, col]
    geometry: ImageGeometry


def crop_around(
    array: Voxels[Voxel], center_irc: ArrayLike, shape_irc: Sequence[int], fill: float = AIR_HU
) -> NDArray[Voxel]:
    """Cut `shape_irc` voxels out of a (D, H, W) array; the centre keeps its place, outside is `fill`.

    Voxel `shape // 2` of the crop is the voxel nearest to `center_irc`, at borders too.
    """
    start = crop_start(center_irc, shape_irc)
    low = np.clip(start, 0, array.shape)
    high = np.clip(start + shape_irc, 0, array.shape)
    part = array[tuple(map(slice, low.tolist(), high.tolist()))]
    if part.shape == tuple(shape_irc):
        return part if part.base is None else part.copy()  # a view is of the CT's own voxels
    crop: NDArray[Voxel] = np.full(tuple(shape_irc), fill, dtype=array.dtype)
    crop[tuple(map(slice, low - start, high - start))] = part
    return crop


def crop_start(center_irc: ArrayLike, shape_irc: Sequence[int]) -> NDArray[np.int64]:
    """(3,) voxel that becomes voxel (0, 0, 0) of `crop_around`; it may lie outside the array."""
    nearest = np.floor(np.asarray(center_irc, float) + 0.5).astype(np.int64)
    start: NDArray[np.int64] = nearest - np.asarray(shape_irc) // 2
    return start


def crop_box(ct: CtVolume, low_irc: ArrayLike, high_irc: ArrayLike) -> CtVolume:
    """The part of a CT from voxel `low_irc` up to, not including, `high_irc`, clipped to the CT.

    The voxels are a view of the CT's own.
    """
    low = np.clip(np.asarray(low_irc, int), 0, ct.hu.shape)
    high = np.clip(np.asarray(high_irc, int), 0, ct.hu.shape)
    if (high <= low).any():
        raise ValueError(f"box {low.tolist()} to {high.tolist()} is empty in a CT of shape {ct.hu.shape}")
    return CtVolume(ct.series_uid, ct.hu[tuple(map(slice, low, high))], ct.geometry.moved_to(low))


def to_canonical(ct: CtVolume) -> CtVolume:
    """Swap and flip axes so that columns run most nearly left, rows back and slices up.

    No voxel is changed and none moves in the patient; a tilt remains. The voxels are a view.
    """
    axes = _nearest_axes(ct.geometry.direction)  # LPS axis k lies along axes[k] of (col, row, index)
    hu = ct.hu.transpose([2 - axes[k] for k in (2, 1, 0)])
    direction = ct.geometry.direction[:, axes]
    signs = np.where(np.diag(direction) < 0, -1, 1)
    geometry = ImageGeometry(ct.geometry.origin_xyz, ct.geometry.spacing_xyz[axes], direction)
    far_irc = np.where(signs[::-1] < 0, np.array(hu.shape) - 1, 0)
    flipped = ImageGeometry(geometry.to_xyz(far_irc), geometry.spacing_xyz, direction * signs)
    return CtVolume(ct.series_uid, hu[tuple(slice(None, None, int(s)) for s in signs[::-1])], flipped)


def _nearest_axes(direction: NDArray[np.float64]) -> list[int]:
    """The assignment of image axes to LPS axes that turns the image least."""

    def alignment(axes: tuple[int, ...]) -> float:
        return float(sum(abs(direction[k, axes[k]]) for k in range(3)))

    best: tuple[int, ...] = max(permutations(range(3)), key=alignment)
    return list(best)


def resample(ct: CtVolume, spacing_mm: float | Sequence[float]) -> CtVolume:
    """Bring a CT to a spacing (x, y, z in mm); what lay at an LPS point stays there.

    The low corner of the image stays fixed (corners, not centres, so that no border is lost).
    Interpolation is linear along each axis; where the new voxels are larger, the kernel is widened to
    their size, which averages noise instead of aliasing it. Integer HU are rounded.
    """
    new_spacing = np.broadcast_to(np.asarray(spacing_mm, float), 3)
    step_irc = (new_spacing / ct.geometry.spacing_xyz)[::-1]
    shape = [max(1, round(n / s)) for n, s in zip(ct.hu.shape, step_irc, strict=True)]
    hu = ct.hu
    for axis in sorted(range(3), key=lambda a: -step_irc[a]):  # shrinking axes first: less to do
        hu = _resample_axis(hu, axis, shape[axis], float(step_irc[axis]))
    if ct.hu.dtype == np.int16:
        hu = np.rint(hu).astype(np.int16)
    moved = ct.geometry.moved_to((step_irc - 1) / 2)
    return CtVolume(ct.series_uid, hu, replace(moved, spacing_xyz=new_spacing.copy()))


def _resample_axis(hu: HuArray, axis: int, n_out: int, step: float) -> NDArray[np.float32]:
    """Linear interpolation along one axis at input positions (j + 1/2) step - 1/2.

    A few slices at a time, so that what is computed between stays in the processor's cache.
    """
    if n_out == hu.shape[axis] and abs(step - 1) < 1e-9:
        return hu.astype(np.float32, copy=False)
    taps, weight = _taps(hu.shape[axis], n_out, step)
    column = (-1, *[1] * (hu.ndim - 1 - axis))
    out = np.empty([n_out if a == axis else n for a, n in enumerate(hu.shape)], np.float32)
    across = 1 if axis == 0 else 0
    for start in range(0, hu.shape[across], SLAB):
        some = (slice(None),) * across + (slice(start, start + SLAB),)
        part = hu[some].astype(np.float32, copy=False)
        total = np.take(part, taps[:, 0], axis) * weight[:, 0].reshape(column)
        for k in range(1, taps.shape[1]):
            total += np.take(part, taps[:, k], axis) * weight[:, k].reshape(column)
        out[some] = total
    return out


def _taps(n_in: int, n_out: int, step: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(n_out, K) which voxels each new one is made of, and how much of each."""
    position = (np.arange(n_out) + 0.5) * step - 0.5
    reach = max(1.0, step)
    first = np.floor(position - reach).astype(int) + 1
    taps = first[:, None] + np.arange(int(np.ceil(2 * reach)))
    weight = np.clip(1 - np.abs(taps - position[:, None]) / reach, 0, None)
    return np.clip(taps, 0, n_in - 1), (weight / weight.sum(1, keepdims=True)).astype(np.float32)
