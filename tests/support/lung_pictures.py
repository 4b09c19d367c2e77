"""Pictures of two small lungs with vessels, moved as a test wants them."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from p2ch_luna.geometry import PADDING_HU, CtVolume, ImageGeometry
from p2ch_luna.inference.alignment_views import Rigid
from p2ch_luna.io import write_ct
from p2ch_luna.report.schema import Report

MIDDLE = np.array([10.0, -150.0, -200.0])  # of the lungs, before they are moved
HALF_MM = np.array([24.0, 38.0, 56.0])  # axes of a lung
APART_MM = 29.0  # its centre from the middle
STILL = Rigid(np.eye(3), np.zeros(3))


def turned(degrees_xyz: tuple[float, float, float], shift_xyz: tuple[float, float, float]) -> Rigid:
    """A rotation about the middle of the lungs, then a shift."""
    rotation = Rotation.from_euler("xyz", degrees_xyz, degrees=True).as_matrix()
    return Rigid(rotation, MIDDLE - rotation @ MIDDLE + shift_xyz)


@cache
def _vessels(seed: int) -> NDArray[np.float32]:
    """(n, n, n) HU of lung with bright grains, on points 2 mm apart round the middle."""
    noise = np.random.default_rng(seed).normal(size=(72, 72, 72)).astype(np.float32)
    grains = ndimage.gaussian_filter(noise, 1.3)
    return -880 + 500 * np.clip(grains / grains.std() - 1, 0, 2)


def lung_hu(xyz: NDArray[np.float64], seed: int) -> NDArray[np.int16]:
    """HU at any points (..., 3): vessels inside, 30 HU in the outermost 2 mm, padding outside."""
    from_middle = xyz - MIDDLE
    sides = [np.linalg.norm((from_middle - (x, 0, 0)) / HALF_MM, axis=-1) for x in (-APART_MM, APART_MM)]
    depth = np.minimum(sides[0], sides[1] * [1.0] + 0.06)  # the left lung is the smaller one
    at = np.moveaxis(from_middle[..., ::-1] / 2 + 35.5, -1, 0)
    hu = ndimage.map_coordinates(_vessels(seed), at, order=1, mode="wrap")
    hu = np.where(depth > 0.92, 30, hu)
    return np.where(depth > 1, PADDING_HU, np.rint(hu)).astype(np.int16)


def lungs(
    move: Rigid = STILL,
    shown: tuple[float, float] = (0.0, 1.0),
    axes: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> CtVolume:
    """As `lung_picture` makes it. `shown`: from and to which share of its height the scan goes.

    axes: directions of columns, rows and slices, as in `ImageGeometry`.    seed: of the patient.
    """
    direction = np.eye(3) if axes is None else axes
    corners = MIDDLE + np.array(list(product((-1, 1), repeat=3))) * (HALF_MM + np.array([APART_MM, 0, 0]))
    corners = move(corners)
    low, high = corners.min(0) - 10, corners.max(0) + 10
    z_low, z_high = (low[2] + (high[2] - low[2]) * share for share in shown)
    low[2], high[2] = z_low, z_high
    across = np.abs(direction.T @ (high - low))  # mm along col, row, index
    shape = np.rint(across[::-1] / 2).astype(int)
    geometry = ImageGeometry(np.zeros(3), np.full(3, 2.0), direction)
    centred = geometry.to_xyz((shape - 1) / 2)
    geometry = ImageGeometry((low + high) / 2 - centred, np.full(3, 2.0), direction)
    points = geometry.to_xyz(np.stack(np.indices(tuple(shape)), axis=-1))
    return CtVolume("1.2.3", lung_hu(move.inverse()(points), seed), geometry)


def write_diagnosed(folder: Path, picture: CtVolume, report: Report) -> Path:
    """A folder as `luna diagnose` writes it, of report and lungs alone."""
    write_ct(folder / "lungs.nii.gz", picture)
    named = report.model_copy(update={"files": ("lungs.nii.gz",)})
    (folder / "report.json").write_text(named.to_json(), encoding="utf-8")
    return folder
