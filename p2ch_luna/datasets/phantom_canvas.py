"""Draw shapes and tubes into a CT grid of any spacing and direction, with partial volume, then scan it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.datasets.phantom_anatomy import Field
from p2ch_luna.datasets.phantom_texture import tile_slice
from p2ch_luna.datasets.phantom_tubes import Tubes
from p2ch_luna.geometry import ImageGeometry

_COARSE_MM = 2.5  # shapes are evaluated this far apart and interpolated between: they are smooth


class Axis(NamedTuple):
    """Linear interpolation from coarse nodes to the voxels of one axis."""

    n_nodes: int
    low: NDArray[np.intp]  # (n,) node below each voxel
    weight: NDArray[np.float32]  # (n,) of the node above it


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of the CT, and the coarse nodes that span the same box."""

    geometry: ImageGeometry
    shape_irc: tuple[int, ...]
    axes: tuple[Axis, Axis, Axis]

    @classmethod
    def over(cls, geometry: ImageGeometry, shape_irc: Sequence[int]) -> Grid:
        """Nodes on the first and last voxel of each axis and at most `_COARSE_MM` or a voxel apart."""
        axes = [_axis(n, float(mm)) for n, mm in zip(shape_irc, geometry.spacing_irc, strict=True)]
        return cls(geometry, tuple(shape_irc), (axes[0], axes[1], axes[2]))

    @property
    def voxel_mm(self) -> float:
        """Width over which an edge in the image plane is blurred by the voxel's size."""
        return float(np.sqrt(self.geometry.spacing_irc[1] * self.geometry.spacing_irc[2]))

    def node_xyz(self) -> NDArray[np.float32]:
        """(d, h, w, 3) LPS mm of the nodes."""
        steps = [np.linspace(0, n - 1, a.n_nodes) for n, a in zip(self.shape_irc, self.axes, strict=True)]
        irc = np.stack(np.meshgrid(*steps, indexing="ij"), -1)
        return self.geometry.to_xyz(irc).astype(np.float32)

    def slice_of(self, field: Field, k: int) -> Field:
        """(H, W) values in slice `k` of a field given at the nodes."""
        return self.widen(self.between(field, k), slice(0, self.shape_irc[1]), slice(0, self.shape_irc[2]))

    def between(self, field: Field, k: int) -> Field:
        """(h, w) values of a field in the plane of slice `k`, at the nodes' rows and columns."""
        low, weight = self.axes[0].low[k], self.axes[0].weight[k]
        values: Field = field[low] + (field[min(low + 1, len(field) - 1)] - field[low]) * weight
        return values

    def widen(self, values: Field, rows: slice, columns: slice) -> Field:
        """Interpolate (h, w) values at the nodes to some of the rows and columns of a slice."""
        for axis, part in ((1, columns), (0, rows)):  # columns first: fewer rows have to be gathered
            low, weight = self.axes[axis + 1].low[part], self.axes[axis + 1].weight[part]
            below = np.take(values, low, axis)
            above = np.take(values, np.minimum(low + 1, values.shape[axis] - 1), axis)
            above -= below
            above *= weight if axis == 1 else weight[:, None]
            above += below
            values = above
        return values

    def reach(self, near: NDArray[np.bool_]) -> tuple[slice, slice] | None:
        """The rows and columns of a slice round the nodes (h, w) that are true; None if none is."""
        parts = []
        for axis in (0, 1):
            nodes = np.flatnonzero(near.any(1 - axis))
            if nodes.size == 0:
                return None
            low = self.axes[axis + 1].low
            first, last = np.searchsorted(low, [nodes[0] - 1, nodes[-1] + 1])
            parts.append(slice(int(first), int(last)))
        return parts[0], parts[1]


def _axis(n: int, spacing_mm: float) -> Axis:
    nodes = min(n, int(np.ceil((n - 1) * spacing_mm / _COARSE_MM)) + 1)
    position = np.linspace(0, nodes - 1, n)
    low = np.minimum(position.astype(np.intp), max(nodes - 2, 0))
    return Axis(nodes, low, (position - low).astype(np.float32))


class Paint(Protocol):
    """Something that covers part of a slice."""

    def __call__(self, hu: Field, k: int) -> None:
        """Paint over slice `k`, (H, W) HU, in place."""


@dataclass(frozen=True, eq=False)
class Shape:
    """Fills the inside of a signed distance (at the nodes), or a sheet along its zero."""

    grid: Grid
    distance: Field
    hu: float | Field  # one, or at the nodes
    texture: Field | None = None  # added, a tile repeated over the slice
    sheet_mm: float | None = None  # half thickness of the sheet; None: the inside is filled
    within: Field | None = None  # a second distance that bounds the first
    opacity: float = 1.0

    def __call__(self, hu: Field, k: int) -> None:
        """Paint the part of the slice that the shape may touch."""
        distance = self.grid.between(self.distance, k)
        margin = self.grid.voxel_mm + (self.sheet_mm or 0.0)
        near = distance < margin if self.sheet_mm is None else np.abs(distance) < margin + 2 * _COARSE_MM
        bound = None if self.within is None else self.grid.between(self.within, k)
        part = self.grid.reach(near if bound is None else near & (bound < margin))
        if part is None:
            return
        cover = self._cover(self.grid.widen(distance, *part))
        if bound is not None:
            cover *= np.clip(0.5 - self.grid.widen(bound, *part) / self.grid.voxel_mm, 0, 1)
        cover *= np.float32(self.opacity)
        value = (
            self.hu if isinstance(self.hu, float) else self.grid.widen(self.grid.between(self.hu, k), *part)
        )
        if self.texture is not None:
            value = value + tile_slice(self.texture, k, hu.shape)[part]
        hu[part] += cover * (value - hu[part])

    def _cover(self, distance: Field) -> Field:
        """Share of each voxel that is covered."""
        width = np.float32(self.grid.voxel_mm)
        half = np.float32(0.5)
        if self.sheet_mm is None:
            return np.asarray(np.clip(half - distance / width, 0, 1))
        thickness = np.float32(min(1.0, 2 * self.sheet_mm / self.grid.voxel_mm))
        cover = np.clip((np.float32(self.sheet_mm) - np.abs(distance)) / width + half, 0, 1)
        return np.asarray(cover * thickness)


@dataclass(frozen=True, eq=False)
class Stain:
    """Covers what a (D, H, W) uint8 share (255: all) says, with one value."""

    share: NDArray[np.uint8]
    hu: float
    texture: Field | None = None

    def __call__(self, hu: Field, k: int) -> None:
        """Blend the value in."""
        share = self.share[k]
        rows = np.flatnonzero(share.any(1))
        if rows.size == 0:
            return
        part = slice(rows[0], rows[-1] + 1)
        value = self.hu if self.texture is None else self.hu + tile_slice(self.texture, k, hu.shape)[part]
        hu[part] += share[part] * np.float32(1 / 255) * (value - hu[part])


@dataclass(frozen=True, eq=False)
class Patch:
    """Covers a small box as a (d, h, w) share says."""

    box: tuple[slice, ...]
    share: Field
    hu: float
    texture: Field | None = None

    def __call__(self, hu: Field, k: int) -> None:
        """Blend the value in."""
        first, last = self.box[0].start, self.box[0].stop
        if first <= k < last:
            part = hu[self.box[1:]]
            rough = 0.0 if self.texture is None else tile_slice(self.texture, k, hu.shape)[self.box[1:]]
            part += self.share[k - first] * (self.hu + rough - part)


def draw_tubes(grid: Grid, tubes: Tubes) -> NDArray[np.uint8]:
    """(D, H, W) share of each voxel that lies in a tube, times 255; thin tubes keep their cross-section."""
    spacing = grid.geometry.spacing_irc
    share = np.zeros(grid.shape_irc, np.uint8)
    start, end = (grid.geometry.to_irc(p) * spacing for p in (tubes.start, tubes.end))
    reach = np.maximum(tubes.radius_start, tubes.radius_end)[:, None] + spacing
    limit = np.array(grid.shape_irc)
    low = np.clip(np.floor((np.minimum(start, end) - reach) / spacing), 0, limit).astype(int)
    high = np.clip(np.ceil((np.maximum(start, end) + reach) / spacing) + 1, 0, limit).astype(int)
    brushes = _brushes(tubes, end - start, (tubes.normal @ grid.geometry.direction)[:, ::-1], spacing)
    lines = [np.arange(n, dtype=np.float32) * np.float32(mm) for n, mm in zip(limit, spacing, strict=True)]
    seen = (high > low).all(1) & (np.maximum(tubes.radius_start, tubes.radius_end) > 0)
    for i in np.flatnonzero(seen):
        (a, c, e), (b, d, f) = low[i], high[i]
        z, y, x = start[i].astype(np.float32)
        q = (lines[0][a:b, None, None] - z, lines[1][c:d, None] - y, lines[2][e:f] - x)
        box = share[a:b, c:d, e:f]
        np.maximum(box, _tube_share(q, brushes[i]), out=box)
    return share


class _Brush(NamedTuple):
    """What one tube's share is computed from."""

    along: Field  # (3,) unit vector, index, row, col
    length: np.float32
    radius: np.float32  # drawn at the start
    taper: np.float32  # mm per mm
    width: np.float32  # over which the edge is blurred
    peak: np.float32  # 255 or less: what is thinner than a voxel is drawn wider and fainter
    across: Field | None  # (3,) the thin side's unit vector, times its stretching


def _brushes(
    tubes: Tubes, along: NDArray[np.float64], normal: NDArray[np.float64], spacing: NDArray[np.float64]
) -> list[_Brush]:
    length = np.maximum(np.linalg.norm(along, axis=1), 1e-6)
    unit = along / length[:, None]
    width = np.sqrt((spacing**2 * (1 - unit**2)).sum(1) / 2) * (1 + tubes.flatness) / 2
    mean = np.maximum((tubes.radius_start + tubes.radius_end) / 2, 0.0)
    drawn = np.maximum(np.sqrt(np.maximum(mean**2 - width**2 / 12, 0.0)), width / 2)
    peak = 255 * np.minimum(1.0, mean**2 / (drawn**2 + width**2 / 12))  # keeps the cross-section's area
    first = tubes.radius_start + drawn - mean
    taper = (tubes.radius_end - tubes.radius_start) / length
    numbers = np.stack([length, first, taper, width, peak], 1).astype(np.float32)
    flat = (normal * np.sqrt(tubes.flatness**2 - 1)).astype(np.float32) if tubes.flatness > 1 else None
    return [
        _Brush(u, row[0], row[1], row[2], row[3], row[4], None if flat is None else flat[i])
        for i, (u, row) in enumerate(zip(unit.astype(np.float32), numbers, strict=True))
    ]


def _tube_share(q: tuple[Field, Field, Field], brush: _Brush) -> NDArray[np.uint8]:
    """The share, times 255, of one tube in a box; q: offsets in mm from its start along each image axis."""
    z, y, x = q
    u = brush.along
    t_free = z * u[0] + (y * u[1] + x * u[2])
    t = np.minimum(np.maximum(t_free, 0), brush.length)
    d2 = z * z + (y * y + x * x)
    d2 += t * (t - 2 * t_free)
    if brush.across is not None:
        n = brush.across
        d2 += (z * n[0] + (y * n[1] + x * n[2])) ** 2
    np.maximum(d2, 0, out=d2)
    share = (t * brush.taper + brush.radius - np.sqrt(d2)) * (brush.peak / brush.width) + brush.peak / 2
    return np.asarray(np.minimum(np.maximum(share, 0), brush.peak), np.uint8)
