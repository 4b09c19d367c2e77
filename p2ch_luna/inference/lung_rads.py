"""Size categories of Lung-RADS v2022 (American College of Radiology): a hint for research, no reading."""

from __future__ import annotations

from typing import Literal

from p2ch_luna.inference.texture import Texture

LungRads = Literal["2", "3", "4A", "4B"]
PART_SOLID_FROM_MM = 6.0  # in all; a smaller one is benign in appearance whatever is solid in it
NON_SOLID_FROM_MM = 30.0


def lung_rads(texture: Texture, mean_diameter_mm: float, solid_mm: float) -> LungRads:
    """The category that the size of a nodule alone gives at a baseline screening.

    Mean diameters, of all of it and of its solid part, in mm; to one decimal, as Lung-RADS wants them and
    a report shows them. Nothing else that Lung-RADS asks for is judged: growth, calcification, spiculation,
    cysts, airways, the pleura.
    """
    mean_diameter_mm, solid_mm = round(mean_diameter_mm, 1), round(solid_mm, 1)
    if texture == "ground-glass":
        return "3" if mean_diameter_mm >= NON_SOLID_FROM_MM else "2"
    if texture == "solid":
        return _by_limits(mean_diameter_mm, (6.0, 8.0, 15.0))
    if mean_diameter_mm < PART_SOLID_FROM_MM:
        return "2"
    return _by_limits(solid_mm, (0.0, 6.0, 8.0))


def _by_limits(mm: float, limits: tuple[float, float, float]) -> LungRads:
    """The category of a length, from each limit on the next."""
    names: tuple[LungRads, ...] = ("2", "3", "4A", "4B")
    return names[sum(mm >= limit for limit in limits)]
