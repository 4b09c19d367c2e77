"""A chest reduced to a body, two lungs and a ball; networks whose answers are known by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2ch_luna.geometry import AIR_HU, CtVolume, ImageGeometry
from p2ch_luna.inference import NoduleDetector

BALL_XYZ = (-38.0, 6.0, 45.0)  # in the patient's right lung


class BallLogit(nn.Module):
    """Segments the ball alone: logit 4 from 50 HU, half way between lung and ball, else -8."""

    def forward(self, hu: Tensor) -> Tensor:
        """Same shape out."""
        return torch.where(hu >= 50, 4.0, -8.0)


class MiddleLogit(nn.Module):
    """Says nodule (logit 2) if the middle voxel of the crop is of the ball, else -2; malignancy -1."""

    def forward(self, hu: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, D, H, W) -> two logits (B,)."""
        d, h, w = (n // 2 for n in hu.shape[2:])
        middle = hu[:, 0, d, h, w]
        return torch.where(middle >= 50, 2.0, -2.0), torch.full_like(middle, -1.0)


def chest(geometry: ImageGeometry, shape: tuple[int, int, int], radius_mm: float = 5.0) -> CtVolume:
    """A body of water in air, two lungs of -850 HU, a ball of 950 HU at `BALL_XYZ` (radius 0: none)."""
    x, y, z = np.moveaxis(geometry.to_xyz(np.moveaxis(np.indices(shape), 0, -1)), -1, 0)
    hu = np.full(shape, AIR_HU, np.int16)
    hu[(x / 85) ** 2 + (y / 62) ** 2 < 1] = 0
    for side in (-1, 1):
        hu[((x - side * 38) / 28) ** 2 + (y / 40) ** 2 + ((z - 45) / 38) ** 2 < 1] = -850
    center = np.array(BALL_XYZ)
    hu[(x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2 < radius_mm**2] = 950
    return CtVolume("1.2.3", hu, geometry)


@pytest.fixture
def scan() -> CtVolume:
    """The chest with a ball of 10 mm, seen straight."""
    return chest(ImageGeometry.axial((1.25, 1.25, 2.0), (-100.0, -75.0, -5.0)), (50, 120, 160))


@pytest.fixture
def make_chest() -> Callable[..., CtVolume]:
    return chest


@pytest.fixture
def detector() -> NoduleDetector:
    return NoduleDetector(BallLogit(), MiddleLogit(), torch.device("cpu"))
