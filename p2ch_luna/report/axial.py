"""A place of a CT as radiologists look at it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.findings import Point
from p2ch_luna.geometry import AIR_HU, CtVolume, crop_around, crop_box, resample, to_canonical

SIDE_MM = 60  # of a picture


def axial_picture(ct: CtVolume, center_xyz: Point) -> NDArray[np.float32]:
    """(`SIDE_MM`, `SIDE_MM`) HU of the scan's most axial plane at 1 mm, the place in the middle.

    Rows run to the back and columns to the patient's left, as radiologists look at it; a tilt remains.
    Raises ValueError for a place so far outside the CT that nothing of it would be seen.
    """
    canonical = to_canonical(ct)
    center = canonical.geometry.to_irc(center_xyz)
    reach = (SIDE_MM / 2 + 3) / canonical.geometry.spacing_irc
    box = crop_box(canonical, np.floor(center - reach), np.ceil(center + reach) + 1)
    fine = resample(box, 1.0)
    middle = fine.geometry.to_irc(center_xyz)
    picture: NDArray[np.float32] = crop_around(
        fine.hu.astype(np.float32), middle, (1, SIDE_MM, SIDE_MM), AIR_HU
    )[0]
    return picture
