"""The tubular parts of the synthetic chest that lie alike in everyone: ribs, great vessels, large airways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2ch_luna.datasets.phantom_anatomy import (
    CAGE_DEPTH,
    CAGE_WIDTH,
    CAGE_Y,
    TOP_RIB_MM,
    VERTEBRA_MM,
    Chest,
    spine_y,
)

Points = NDArray[np.float64]  # (N, 3) LPS mm round the chest's middle


@dataclass(frozen=True, eq=False)
class Tubes:
    """N straight pieces with round ends whose radius changes evenly from start to end.

    start, end, normal: (N, 3) mm.    radius_start, radius_end: (N,) mm.
    flatness: how many times thinner the tubes are along `normal` (a unit vector across the tube).
    """

    start: Points
    end: Points
    radius_start: NDArray[np.float64]
    radius_end: NDArray[np.float64]
    normal: Points
    flatness: float = 1.0

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: slice | NDArray[np.bool_]) -> Tubes:
        """Some of the tubes."""
        return Tubes(
            self.start[rows],
            self.end[rows],
            self.radius_start[rows],
            self.radius_end[rows],
            self.normal[rows],
            self.flatness,
        )

    def shrunk(self, mm: float) -> Tubes:
        """What lies deeper than `mm` in the tubes, measured across their thin side."""
        by = mm * self.flatness
        return replace(self, radius_start=self.radius_start - by, radius_end=self.radius_end - by)

    def clearance(self, xyz: ArrayLike) -> NDArray[np.float64]:
        """(N,) mm from one point to each tube's surface, negative inside; flatness is left out."""
        along = self.end - self.start
        offset = np.asarray(xyz, float) - self.start
        t = np.clip((offset * along).sum(1) / np.maximum((along**2).sum(1), 1e-9), 0, 1)
        radius = self.radius_start + t * (self.radius_end - self.radius_start)
        distance: NDArray[np.float64] = np.linalg.norm(offset - t[:, None] * along, axis=1) - radius
        return distance

    def wider_than(self, radius_mm: float) -> Tubes:
        """The tubes that start at least so wide."""
        return self[self.radius_start >= radius_mm]


def join(tubes: Sequence[Tubes]) -> Tubes:
    """All in one; they must be equally flat."""
    return Tubes(
        np.concatenate([t.start for t in tubes]),
        np.concatenate([t.end for t in tubes]),
        np.concatenate([t.radius_start for t in tubes]),
        np.concatenate([t.radius_end for t in tubes]),
        np.concatenate([t.normal for t in tubes]),
        tubes[0].flatness,
    )


def tubes_between(start: Points, end: Points, radius_start: ArrayLike, radius_end: ArrayLike) -> Tubes:
    """Round tubes."""
    n = len(start)
    radii = [np.broadcast_to(np.asarray(r, float), n) for r in (radius_start, radius_end)]
    return Tubes(start, end, radii[0], radii[1], np.zeros((n, 3)))


def path_tubes(path: Points, radius: ArrayLike) -> Tubes:
    """Round tubes along the (M, 3) points of a path; radius: one, or (M,) at the points."""
    radii = np.broadcast_to(np.asarray(radius, float), len(path))
    return tubes_between(path[:-1], path[1:], radii[:-1], radii[1:])


@dataclass(frozen=True, eq=False)
class FixedTubes:
    """The tubes that `fixed_tubes` makes."""

    ribs: Tubes
    cartilage: Tubes
    clavicles: Tubes
    blood: Tubes
    soft: Tubes  # the oesophagus
    airways: Tubes  # the air in them


_BLOOD_PATHS: Sequence[tuple[float, Sequence[tuple[float, float, float]]]] = (
    (
        15.0,
        ((0, -24, -8), (-12, -30, 22), (-10, -24, 44), (0, -10, 56), (12, 8, 59), (21, 24, 52), (24, 32, 38)),
    ),
    (11.5, ((24, 32, 38), (24, 33, -40), (16, 32, -100), (6, 26, -160))),
    (9.0, ((-27, -16, 78), (-28, -16, 40), (-28, -18, 0))),
    (7.0, ((-27, -16, 78), (-34, -12, 110), (-40, -6, 140))),
    (6.0, ((-27, -18, 78), (4, -26, 86), (30, -14, 112), (40, -6, 140))),
    (6.0, ((-8, -18, 54), (-20, -8, 92), (-24, 0, 150))),
    (4.5, ((4, -8, 58), (14, -6, 92), (22, 0, 150))),
    (5.0, ((14, 10, 58), (24, 10, 98), (52, 4, 122))),
    (13.0, ((10, -34, 2), (14, -26, 24), (16, -12, 32))),
    (10.0, ((16, -12, 32), (0, -6, 28), (-22, 0, 24), (-38, 4, 18))),
    (10.0, ((16, -12, 32), (30, 2, 32), (42, 10, 26))),
    (9.0, ((-28, 2, -2), (0, 6, -4), (30, 8, -4))),
    (2.0, ((-6, 38, 60), (-7, 42, -120))),
)
_AIRWAY_PATHS: Sequence[tuple[float, Sequence[tuple[float, float, float]]]] = (
    (8.5, ((0, 2, 170), (0, 4, 130), (-1, 10, 90), (-2, 15, 54))),
    (6.8, ((-2, 15, 54), (-18, 15, 36), (-36, 12, 22))),
    (6.0, ((-2, 15, 54), (16, 18, 32), (40, 17, 14))),
    (5.0, ((-36, 12, 22), (-40, 16, -12))),
    (4.2, ((40, 17, 14), (46, 24, -14))),
)
_OESOPHAGUS = ((4, 22, 160), (5, 30, 60), (8, 30, 0), (16, 22, -70), (24, 8, -105))


def fixed_tubes(chest: Chest) -> FixedTubes:
    """Place ribs, clavicles, great vessels, oesophagus and large airways in one chest."""
    bone, cartilage = zip(*(_rib(chest, k, side) for k in range(12) for side in (-1, 1)), strict=True)
    clavicle_paths = [[(s * 16, -50, 84), (s * 60, -52, 98), (s * 110, -20, 120)] for s in (-1, 1)]
    return FixedTubes(
        ribs=join(bone),
        cartilage=join(cartilage),
        clavicles=join([path_tubes(chest.place(path), (8, 5.5, 6)) for path in clavicle_paths]),
        blood=join([path_tubes(chest.place(_curve(path)), radius) for radius, path in _BLOOD_PATHS]),
        soft=path_tubes(chest.place(_curve(_OESOPHAGUS)), 6.5),
        airways=join([path_tubes(chest.place(_curve(path)), radius) for radius, path in _AIRWAY_PATHS]),
    )


def _curve(path: Sequence[tuple[float, float, float]], steps: int = 5) -> Points:
    """A smooth curve through the points, `steps` pieces between each two."""
    return catmull_rom(np.asarray(path, float), steps)


def catmull_rom(path: Points, steps: int) -> Points:
    """(M, 3) -> ((M - 1) steps + 1, 3) points of the smooth curve through all M."""
    ends = np.vstack([2 * path[0] - path[1], path, 2 * path[-1] - path[-2]])
    t = np.arange(1, steps + 1)[:, None] / steps
    corners = zip(ends, ends[1:], ends[2:], ends[3:], strict=False)
    pieces = [spline(before, a, b, after, t) for before, a, b, after in corners]
    return np.vstack([path[:1], *pieces])


def spline(before: Points, a: Points, b: Points, after: Points, t: ArrayLike) -> Points:
    """The Catmull-Rom curve from `a` (t = 0) to `b` (t = 1)."""
    t = np.asarray(t, float)
    bend = (after - 3 * b + 3 * a - before) * t + (2 * before - 5 * a + 4 * b - after)
    curve: Points = a + 0.5 * t * ((b - before) + t * bend)
    return curve


def _rib(chest: Chest, k: int, side: int) -> tuple[Tubes, Tubes]:
    """Bone and cartilage of rib `k` (0 is the highest): round the cage, lower in front than behind."""
    last = (2.55, 2.7, 2.8, 2.85, 2.85, 2.85, 2.8, 2.7, 2.5, 2.2, 1.75, 1.4)[k]
    bone_end = min(last, 2.25 - 0.05 * max(0, k - 4))
    drop = 34.0 + 4.5 * min(k, 8)
    angle = np.linspace(0.30, last, 46)
    z = TOP_RIB_MM - VERTEBRA_MM * k + 4.0 - drop * np.clip((angle - 0.3) / 2.0, 0, None) ** 1.15
    z = z + (10.0 + 2.5 * k) * np.clip((angle - 2.2) / 0.6, 0, None) ** 1.5
    sin, cos = np.sin(angle), np.cos(angle)
    rho = ((sin / CAGE_WIDTH(z)) ** 2.3 + (np.abs(cos) / CAGE_DEPTH(z)) ** 2.3) ** (-1 / 2.3) + 5.0
    path = np.stack([side * rho * sin, CAGE_Y(z) + rho * cos, z], -1)
    head = [(side * 16.0, float(spine_y(z[0])) + 12.0, z[0] + 2.0)]
    path = chest.place(np.vstack([head, path]))
    n_bone = int(np.searchsorted(angle, bone_end)) + 1
    tubes = _flattened(path, chest.place(np.array([[0.0, 5.0, z.mean()]]))[0], radius=6.2)
    return tubes[:n_bone], tubes[n_bone:]


def _flattened(path: Points, middle: Points, radius: float) -> Tubes:
    """Tubes along a path that are thin towards `middle`, as ribs are."""
    round_tubes = path_tubes(path, radius)
    along = np.diff(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    outwards = round_tubes.start - middle
    outwards[:, 2] = 0
    outwards -= (outwards * along).sum(1, keepdims=True) * along
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    return replace(round_tubes, normal=outwards, flatness=1.75)
