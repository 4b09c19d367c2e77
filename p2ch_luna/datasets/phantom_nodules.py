"""Nodules of known place, size and texture for the synthetic chest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from p2ch_luna.datasets.phantom_anatomy import Chest, Field
from p2ch_luna.datasets.phantom_canvas import Grid
from p2ch_luna.datasets.phantom_tubes import Points, Tubes, join, path_tubes
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Point

Texture = Literal["solid", "part-solid", "ground-glass"]
Outline = Literal["round", "lobulated", "spiculated"]
Place = Literal["isolated", "vessel", "pleura"]
_FINE = 48  # points along one side of the box in which a nodule's own shape is worked out
_BOX = 1.7  # half side of that box, in radii
_POOL = 60_000  # points tried as centres
_PATIENCE = 80  # of them, those that are looked at closely for one nodule


@dataclass(frozen=True)
class PhantomNodule:
    """The truth about one nodule. Thin spicules are not counted to its size."""

    center_xyz: Point
    diameter_mm: float  # of the sphere of its volume
    texture: Texture
    shape: Outline
    place: Place  # alone in the lung, beside a vessel, or at the chest wall, diaphragm or a fissure


@dataclass(frozen=True, eq=False)
class Lesion:
    """A nodule with its own shape, round the chest's middle.

    distance, opaque: (n, n, n) [z, y, x] signed mm on points `step_mm` apart round `box_xyz`; `opaque` is
    drawn: it reaches into the wall, so that no seam of lung is left between.
    """

    nodule: PhantomNodule
    box_xyz: NDArray[np.float64]
    step_mm: float
    distance: Field
    opaque: Field
    spicules: Tubes
    hu: float
    core_hu: float
    core_mm: float  # depth under the surface where a part-solid nodule's core begins

    def share(self, grid: Grid, field: Field, edge_mm: float = 0.01) -> tuple[tuple[slice, ...], Field]:
        """A box of the CT, and the (d, h, w) share of its voxels with a negative `field`.

        At the surface it fades over `edge_mm`, and over a voxel in any case.
        """
        spacing = grid.geometry.spacing_irc
        middle = grid.geometry.to_irc(self.box_xyz)
        reach = self.step_mm * (_FINE - 1) / 2 / spacing  # of the largest sphere in the box, any direction
        low = np.clip(np.floor(middle - reach), 0, np.array(grid.shape_irc) - 1).astype(int)
        high = np.clip(np.ceil(middle + reach) + 1, low + 1, grid.shape_irc).astype(int)
        parts = np.clip(np.ceil(spacing / 0.45), 1, 6).astype(int)
        irc = [(np.arange((b - a) * p) + 0.5) / p - 0.5 + a for a, b, p in zip(low, high, parts, strict=True)]
        xyz = grid.geometry.to_xyz(np.stack(np.meshgrid(*irc, indexing="ij"), -1))
        at = ((xyz - self.box_xyz) / self.step_mm + (_FINE - 1) / 2)[..., ::-1]
        distance = ndimage.map_coordinates(field, np.moveaxis(at, -1, 0), order=1, mode="constant", cval=9.0)
        n, p = high - low, parts
        inside = np.clip(0.5 - distance / edge_mm, 0, 1)
        share = inside.reshape(n[0], p[0], n[1], p[1], n[2], p[2]).mean((1, 3, 5), dtype=np.float32)
        return tuple(slice(a, b) for a, b in zip(low, high, strict=True)), share


class Room(NamedTuple):
    """Where nodules may be put."""

    chest: Chest
    vessels: Tubes
    airways: Tubes
    grid: Grid


def make_lesions(rng: np.random.Generator, room: Room, diameters_mm: Sequence[float]) -> list[Lesion]:
    """Put one nodule of each diameter into the lungs, apart from each other.

    Raises LunaError if one finds no room.
    """
    pool = rng.uniform(-150, 150, (_POOL, 3))
    pool = pool[room.chest.fields(pool).lung < -0.5]
    wanted = [_random_kind(rng) for _ in diameters_mm]
    lesions: dict[int, Lesion] = {}
    for k in np.argsort(diameters_mm)[::-1]:  # the largest first: they find room least easily
        mm = float(diameters_mm[k])
        texture, outline, place = wanted[k]
        places: list[Place] = [place, "isolated", "pleura", "vessel"]
        tries = (
            _try_place(rng, room, pool, (mm, texture, outline, p), list(lesions.values())) for p in places
        )
        lesion = next((x for x in tries if x is not None), None)
        if lesion is None:
            raise LunaError(
                f"phantom: nodule {k + 1} of {len(diameters_mm)}, {mm:g} mm, finds no room in the lungs "
                f"within the image; expected fewer or smaller nodules, or a larger image"
            )
        lesions[int(k)] = lesion
    return [lesions[k] for k in range(len(lesions))]


def _random_kind(rng: np.random.Generator) -> tuple[Texture, Outline, Place]:
    textures: tuple[Texture, ...] = ("solid", "part-solid", "ground-glass")
    outlines: tuple[Outline, ...] = ("round", "lobulated", "spiculated")
    places: tuple[Place, ...] = ("isolated", "vessel", "pleura")
    return (
        textures[rng.choice(3, p=[0.64, 0.18, 0.18])],
        outlines[rng.choice(3, p=[0.45, 0.30, 0.25])],
        places[rng.choice(3, p=[0.4, 0.3, 0.3])],
    )


Kind = tuple[float, Texture, Outline, Place]


def _try_place(
    rng: np.random.Generator, room: Room, pool: Points, kind: Kind, others: list[Lesion]
) -> Lesion | None:
    """A nodule at the first of the pool's points that suits it, or None."""
    mm, _, _, place = kind
    radius = mm / 2
    points = (
        _beside_vessels(rng, room.vessels, radius, len(pool)) if place == "vessel" else rng.permutation(pool)
    )
    points = points[_suits(room, points, radius, place)]
    for other in others:
        gap = radius + other.nodule.diameter_mm / 2 + 5.0
        center = np.asarray(other.nodule.center_xyz)
        points = points[np.linalg.norm(points - center, axis=1) > 1.25 * gap]
    near_vessel = {"isolated": 1.0, "vessel": 2.6, "pleura": 1.6}[place]
    wide, airways = room.vessels.wider_than(near_vessel), room.airways.wider_than(1.2)
    for point in points[:_PATIENCE]:
        gap = 1.5 if place == "isolated" else 0.5
        if wide.clearance(point).min() > radius + gap and airways.clearance(point).min() > radius + 1.0:
            lesion = _shape_lesion(rng, room, point, kind)
            if lesion is not None:
                return lesion
    return None


def _beside_vessels(rng: np.random.Generator, vessels: Tubes, radius: float, n: int) -> Points:
    """(n, 3) points so far from the axis of a vessel of some width that a nodule there touches it."""
    usable = vessels[(vessels.radius_start > 0.75) & (vessels.radius_start < 2.5)]
    pick = rng.integers(len(usable), size=n // 10)
    along = usable.end[pick] - usable.start[pick]
    aside = np.cross(along, rng.normal(size=along.shape))
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    return usable.start[pick] + aside * (usable.radius_start[pick] + 0.8 * radius)[:, None]


def _suits(room: Room, points: Points, radius: float, place: Place) -> NDArray[np.bool_]:
    """Which points lie as a centre must: by depth in the lung, off the mediastinum, within the image."""
    f = room.chest.fields(points)
    oblique, level = room.chest.fissures(f.x, f.y, f.z)
    fissure, depth = np.minimum(np.abs(oblique), np.abs(level)), -f.lung
    irc = room.grid.geometry.to_irc(points)
    margin = 1.3 * radius / room.grid.geometry.spacing_irc + 1
    seen = ((irc > margin) & (irc < np.array(room.grid.shape_irc) - 1 - margin)).all(1)
    clear = seen & (f.mediastinum > 1.3 * radius + 4.0) & (depth > 0.5)
    if place == "pleura":
        at_wall = (depth > 0.35 * radius) & (depth < 0.85 * radius) & (fissure > 1.4 * radius)
        at_fissure = (fissure > 0.4 * radius) & (fissure < 0.8 * radius) & (depth > 1.4 * radius)
        return np.asarray(clear & (at_wall | at_fissure))
    return np.asarray(clear & (depth > 1.3 * radius + 3.0) & (fissure > 1.3 * radius + 1.0))


def _shape_lesion(rng: np.random.Generator, room: Room, point: Points, kind: Kind) -> Lesion | None:
    """Grow the shape round a point until what lies in the lung has the wanted volume; None if it cannot."""
    mm, texture, outline, place = kind
    step = _BOX * mm / (_FINE - 1)
    offsets = (np.arange(_FINE) - (_FINE - 1) / 2) * step
    zyx = np.stack(np.meshgrid(offsets, offsets, offsets, indexing="ij"), -1).astype(np.float32)
    xyz = zyx[..., ::-1]
    lung, fissure = _walls(room.chest, xyz + point, point)
    shape = _OUTLINES[outline](rng)
    wanted = np.pi / 6 * mm**3
    scale = np.float32(mm / 2)
    for _ in range(6):
        whole = shape(xyz / scale) * scale
        distance = np.maximum(whole, np.maximum(lung, fissure))
        share = np.clip(0.5 - distance / step, 0, 1)
        scale *= np.float32(np.cbrt(wanted / max(float(share.sum()) * step**3, 0.1 * wanted)))
    if abs(share.sum() * step**3 / wanted - 1) > 0.02:
        return None
    center = point + (share[..., None] * xyz).sum((0, 1, 2), dtype=float) / share.sum(dtype=float)
    x, y, z = (float(v) for v in center)
    nodule = PhantomNodule((x, y, z), mm, texture, outline, place)
    opaque = np.maximum(whole, np.maximum(lung - np.float32(1.0), fissure))
    ground_hu, solid_hu = rng.uniform(-600, -450), rng.uniform(20, 60)
    return Lesion(
        nodule, point, step, distance, opaque if texture == "solid" else distance,
        _spicules(rng, center, mm / 2) if outline == "spiculated" else room.vessels[:0],
        solid_hu if texture == "solid" else ground_hu, solid_hu, rng.uniform(0.2, 0.3) * mm,
    )  # fmt: skip


def _walls(chest: Chest, xyz: Points, point: Points) -> tuple[Field, Field]:
    """Signed distances, negative on the side of `point`: from the lung's surface, from the fissures."""
    f, at = chest.fields(xyz), chest.fields(point[None])
    here = chest.fissures(at.x, at.y, at.z)
    sheets = chest.fissures(f.x, f.y, f.z)
    sides = [-np.sign(h[0]) * s for h, s in zip(here, sheets, strict=True)]
    return f.lung, np.maximum(sides[0], sides[1]).astype(np.float32)


Shaper = Callable[[NDArray[np.float32]], Field]


def _round(rng: np.random.Generator) -> Shaper:
    """Nearly a ball; distances in radii."""
    axes = rng.uniform(0.88, 1.14, 3).astype(np.float32)
    turn = _rotation(rng)
    waves, phases = rng.normal(size=(4, 3)).astype(np.float32) * 2.2, rng.uniform(0, 2 * np.pi, 4)

    def shape(p: NDArray[np.float32]) -> Field:
        q = p @ turn
        bumps = sum(np.sin(q @ w + a) for w, a in zip(waves, phases.astype(np.float32), strict=True))
        return np.asarray(np.linalg.norm(q / axes, axis=-1) - 1 - 0.022 * bumps, np.float32)

    return shape


def _lobulated(rng: np.random.Generator) -> Shaper:
    """A ball with smaller ones on it."""
    n = int(rng.integers(3, 6))
    centers = rng.normal(size=(n, 3))
    centers *= rng.uniform(0.5, 0.7, (n, 1)) / np.linalg.norm(centers, axis=1, keepdims=True)
    radii = rng.uniform(0.45, 0.62, n)

    def shape(p: NDArray[np.float32]) -> Field:
        together = np.exp(-15.0 * (np.linalg.norm(p, axis=-1) - 0.68))
        for center, radius in zip(centers.astype(np.float32), radii, strict=True):
            together += np.exp(-15.0 * (np.linalg.norm(p - center, axis=-1) - np.float32(radius)))
        return np.asarray(-np.log(together) / 15.0, np.float32)

    return shape


def _spiculated(rng: np.random.Generator) -> Shaper:
    """A ball with an uneven, spiky surface."""
    ball = _round(rng)
    axes = rng.normal(size=(18, 3))
    axes = (axes / np.linalg.norm(axes, axis=1, keepdims=True)).astype(np.float32)
    heights = rng.uniform(0.08, 0.28, 18).astype(np.float32)

    def shape(p: NDArray[np.float32]) -> Field:
        away = np.maximum(np.linalg.norm(p, axis=-1, keepdims=True), 1e-3)
        spikes = (np.exp(22.0 * ((p / away) @ axes.T - 1)) * heights).sum(-1)
        return np.asarray(ball(p) + 0.06 - spikes, np.float32)

    return shape


_OUTLINES: dict[Outline, Callable[[np.random.Generator], Shaper]] = {
    "round": _round,
    "lobulated": _lobulated,
    "spiculated": _spiculated,
}


def _spicules(rng: np.random.Generator, center: Points, radius: float) -> Tubes:
    """Thin strands that run out from the surface."""
    strands = []
    for _ in range(int(rng.integers(12, 20))):
        way = rng.normal(size=3)
        way /= np.linalg.norm(way)
        bend = 0.15 * rng.normal(size=3)
        ends = [0.75, 1.15, rng.uniform(1.35, 1.9)]
        path = np.stack([center + radius * e * (way + bend * (e - 0.75)) for e in ends])
        base = max(0.6, 0.13 * radius)
        strands.append(path_tubes(path, (base * 1.4, base, 0.3)))
    return join(strands)


def _rotation(rng: np.random.Generator) -> NDArray[np.float32]:
    return np.asarray(np.linalg.qr(rng.normal(size=(3, 3)))[0], np.float32)
