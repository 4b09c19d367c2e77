"""How large a finding is, from the mask of the segmentation."""

from __future__ import annotations

import math

from p2ch_luna.geometry import ImageGeometry


def mask_volume_mm3(n_voxels: int, geometry: ImageGeometry) -> float:
    """The volume of so many voxels."""
    return n_voxels * float(geometry.spacing_xyz.prod())


def equivalent_diameter_mm(volume_mm3: float) -> float:
    """The diameter of the sphere of that volume."""
    return math.cbrt(6 * volume_mm3 / math.pi)
