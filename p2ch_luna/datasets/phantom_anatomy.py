"""A synthetic chest as functions of position: how deep a point lies in the lungs, the body, the bones.

Every shape is a signed distance (mm, negative inside, exact enough near its surface) of canonical
coordinates x (left), y (back), z (up) round the middle of an average chest; `Chest.canonical` takes
patient millimetres there, so that each chest has its own size and irregularities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

Field = NDArray[np.float32]
APEX_MM = 128.0  # height of the top of the lungs
TOP_RIB_MM = 121.0  # height of the middle of the first rib's vertebra
VERTEBRA_MM = 24.5  # from one vertebra to the next
_TABLE_Z = np.arange(-260.0, 261.0)


class _Profile:
    """A smooth function of height given by a few (z, value) pairs."""

    def __init__(self, *points: tuple[float, float]) -> None:
        z, value = zip(*points, strict=True)
        inside = np.clip(_TABLE_Z, z[0], z[-1])
        self._table = PchipInterpolator(z, value)(inside).astype(np.float32)

    def __call__(self, z: ArrayLike) -> Field:
        return np.asarray(np.interp(np.asarray(z), _TABLE_Z, self._table), np.float32)


CAGE_WIDTH = _Profile((-160, 126), (-60, 130), (0, 126), (40, 117), (80, 98), (105, 79), (130, 52), (160, 46))
CAGE_DEPTH = _Profile((-160, 90), (-60, 90), (0, 85), (40, 76), (80, 60), (105, 48), (130, 32), (160, 28))
CAGE_Y = _Profile((-160, 2), (0, 0), (60, 4), (100, 11), (130, 17), (160, 19))
_BODY_WIDTH = _Profile(
    (-160, 148), (-60, 153), (0, 154), (50, 161), (90, 170), (120, 160), (140, 120), (165, 72)
)
_BODY_DEPTH = _Profile((-160, 108), (-60, 108), (0, 104), (50, 96), (90, 83), (120, 70), (165, 58))
_BODY_Y = _Profile((-160, 5), (0, 5), (60, 9), (100, 15), (130, 19), (165, 20))
_MIDDLE_WIDTH = _Profile((-140, 22), (-90, 20), (-30, 28), (15, 36), (40, 31), (70, 28), (105, 24), (150, 34))


class Fields(NamedTuple):
    """Signed distances at the points of one array; the shapes of all are equal."""

    x: Field
    y: Field
    z: Field
    cage: Field  # the inside of the ribs
    mediastinum: Field
    lung: Field
    abdomen: Field  # what lies under the diaphragm


@dataclass(frozen=True, eq=False)
class Chest:
    """The numbers that make one patient."""

    scale_xyz: NDArray[np.float32]  # (3,) size relative to the average chest
    wave_xyz: NDArray[np.float32]  # (K, 3) radians per mm of the irregularities
    wave_mm: NDArray[np.float32]  # (K, 3) their amplitudes
    wave_phase: NDArray[np.float32]  # (K,)
    heart_scale: float
    fat_mm: float  # under the skin, beyond that of a slim person
    breast_mm: float  # radius; 0: none
    dome_mm: tuple[float, float]  # tops of the right and the left diaphragm
    blood_hu: float  # high: with contrast agent
    lung_hu: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Chest:
        """Draw a patient."""
        waves = rng.normal(size=(6, 3))
        waves *= 2 * np.pi / rng.uniform(60, 170, size=(6, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
        return cls(
            scale_xyz=rng.uniform([0.92, 0.90, 0.90], [1.04, 1.08, 1.02]).astype(np.float32),
            wave_xyz=waves.astype(np.float32),
            wave_mm=rng.normal(scale=1.3, size=(6, 3)).astype(np.float32),
            wave_phase=rng.uniform(0, 2 * np.pi, 6).astype(np.float32),
            heart_scale=rng.uniform(0.9, 1.1),
            fat_mm=rng.uniform(-3, 12),
            breast_mm=rng.uniform(38, 52) if rng.random() < 0.5 else 0.0,
            dome_mm=(rng.uniform(-72, -50), rng.uniform(-82, -62)),
            blood_hu=rng.uniform(130, 230) if rng.random() < 0.4 else rng.uniform(36, 48),
            lung_hu=rng.uniform(-885, -835),
        )

    def canonical(self, xyz: ArrayLike) -> tuple[Field, Field, Field]:
        """(..., 3) LPS mm round the chest's middle -> canonical x, y, z, each (...)."""
        points = np.asarray(xyz, np.float32)
        moved = points / self.scale_xyz
        for wave, mm, phase in zip(self.wave_xyz, self.wave_mm, self.wave_phase, strict=True):
            moved += np.sin(points @ wave + phase)[..., None] * mm
        return moved[..., 0], moved[..., 1], moved[..., 2]

    def place(self, canonical_xyz: ArrayLike) -> NDArray[np.float64]:
        """Invert `canonical`: (..., 3) -> (..., 3) LPS mm round the chest's middle."""
        wanted = np.asarray(canonical_xyz, float)
        points: NDArray[np.float64] = wanted * self.scale_xyz
        for _ in range(6):  # the irregularities are gentle, so this converges
            points += (wanted - np.stack(self.canonical(points), -1)) * self.scale_xyz
        return points

    @cached_property
    def heart_center(self) -> NDArray[np.float32]:
        """(3,) canonical; the heart rests on the diaphragm."""
        return np.array([19.0, -24.0, max(self.dome_mm) + 22.0], np.float32)

    def fields(self, xyz: ArrayLike) -> Fields:
        """Signed distances at (..., 3) LPS mm round the chest's middle."""
        x, y, z = self.canonical(xyz)
        cage = ellipse(x, y - CAGE_Y(z), CAGE_WIDTH(z), CAGE_DEPTH(z), 2.3)
        mediastinum = self._mediastinum(x, y, z)
        abdomen = self._abdomen(x, y, z)
        lung = smooth_max(np.maximum(cage, _hemithorax(x, y, z)), -mediastinum, 5.0)
        lung = smooth_max(lung, -abdomen, 3.0)
        return Fields(x, y, z, cage, mediastinum, lung, abdomen)

    def fissures(self, x: Field, y: Field, z: Field) -> tuple[Field, Field]:
        """Signed distance from the oblique fissures, and from the horizontal one of the right lung.

        The latter is far away where there is none (left, and behind the oblique fissure).
        """
        bend = 4.0 * np.sin(x / 28.0 + self.wave_phase[0]) + 3.0 * np.sin(y / 33.0 + self.wave_phase[1])
        oblique = (0.72 * (z - 8.0) - 0.69 * (y - 12.0) + np.where(x > 0, 4.0, -2.0) + bend).astype(
            np.float32
        )
        level = z - 2.0 + 0.1 * (y + 30) + 0.8 * bend
        return oblique, np.where((x < 0) & (oblique > 0), level, np.float32(100.0))

    def body(self, x: Field, y: Field, z: Field) -> Field:
        """The skin's surface."""
        side = ellipse(x, y - _BODY_Y(z), _BODY_WIDTH(z) + self.fat_mm, _BODY_DEPTH(z) + self.fat_mm, 2.35)
        if self.breast_mm == 0:
            return side
        breast = ellipsoid(
            np.abs(x) - 72, y + 88, z + 15, (self.breast_mm + 12, self.breast_mm, self.breast_mm + 8)
        )
        return -smooth_max(-side, -breast, 15.0)

    def heart(self, x: Field, y: Field, z: Field) -> Field:
        """The heart's muscle with what it holds."""
        cx, cy, cz = self.heart_center
        along = np.array([0.74, -0.50, -0.45], np.float32)
        across = np.array([0.56, 0.83, 0.0], np.float32)
        up = np.cross(along, across)
        u, v, w = ((x - cx) * a[0] + (y - cy) * a[1] + (z - cz) * a[2] for a in (along, across, up))
        s = self.heart_scale
        apex = ellipsoid(u, v, w, (62 * s, 42 * s, 43 * s))
        atria = ellipsoid(x + 6, y + 8, z - cz - 24, (44 * s, 34 * s, 33 * s))
        return -smooth_max(-apex, -atria, 10.0)

    def _mediastinum(self, x: Field, y: Field, z: Field) -> Field:
        """All between the lungs: the middle, the heart, the aorta and the ridge of the spine."""
        narrowing = 0.30 + 0.70 * ramp(y, -72, -36) - 0.50 * ramp(y, 8, 36)
        middle = np.abs(x) - _MIDDLE_WIDTH(z) * narrowing
        aorta = np.maximum(np.hypot(x - 24, y - 32) - 15.0, z - 52)
        arch = ellipsoid(x - 12, y - 4, z - 52, (24, 34, 18))
        dy = y - spine_y(z)
        ridge = np.minimum(ellipse(x, dy, 20.0, 17.0, 2.0), np.maximum(np.abs(x) - 15 - 0.45 * dy, -dy) * 0.9)
        inside = np.minimum(np.minimum(middle, aorta), np.minimum(arch, self.heart(x, y, z) - 3.0))
        return -smooth_max(-inside, -ridge, 6.0)

    def _abdomen(self, x: Field, y: Field, z: Field) -> Field:
        """Under the domes; steep at their sides, so that a wedge of lung reaches deep behind them."""
        height = np.full_like(x, -150.0)
        for top, cx in zip(self.dome_mm, (-64.0, 66.0), strict=True):
            q = ((x - cx) / 74) ** 2 + ((y + 8) / 90) ** 2
            height = np.maximum(height, top - 82 * (1 - np.sqrt(np.clip(1 - q, 0, 1))))
        slope = 1 + 0.8 * ramp(np.abs(y + 8), 20, 90)
        return ((z - height) / slope).astype(np.float32)


def spine_y(z: ArrayLike) -> Field:
    """y of the middle of the vertebral bodies: the spine lies along the back of the cage."""
    return CAGE_Y(z) + CAGE_DEPTH(z) - np.float32(37.0)


def _hemithorax(x: Field, y: Field, z: Field) -> Field:
    """The two domed halves that the lungs fill, without what lies between them."""
    roof = np.sqrt(np.clip(1 - np.clip((z - 15) / (APEX_MM - 15), 0, 1) ** 2.6, 1e-4, 1))
    width = CAGE_WIDTH(z)
    half = 0.5 * width * roof
    return ellipse(np.abs(x) - 0.5 * width, y - CAGE_Y(z), half, CAGE_DEPTH(z) * roof, 2.7)


def ellipse(x: ArrayLike, y: ArrayLike, a: ArrayLike, b: ArrayLike, power: float) -> Field:
    """Distance in the axial plane from the superellipse of half axes a, b, measured along the radius."""
    x, y = np.abs(np.asarray(x, np.float32)), np.abs(np.asarray(y, np.float32))
    rho = ((x / a) ** power + (y / b) ** power) ** (1 / power)
    return np.asarray(np.hypot(x, y) * (1 - 1 / np.maximum(rho, 1e-3)), np.float32)


def ellipsoid(x: Field, y: Field, z: Field, axes: Sequence[float]) -> Field:
    """Distance from the ellipsoid of half axes `axes` at the origin, to first order."""
    a, b, c = np.asarray(axes, np.float32)
    k0 = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    k1 = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2)
    return np.asarray(k0 * (k0 - 1) / np.maximum(k1, 1e-6), np.float32)


def smooth_max(a: ArrayLike, b: ArrayLike, radius_mm: float) -> Field:
    """The larger of both, rounded where they meet: the meet of two shapes without an edge."""
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    h = np.clip(radius_mm - np.abs(a - b), 0, None) / radius_mm
    return np.asarray(np.maximum(a, b) + h * h * (radius_mm / 4), np.float32)


def ramp(value: ArrayLike, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((np.asarray(value, np.float32) - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
