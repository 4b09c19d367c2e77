"""Where one place of a scan lies in another of the same lungs, for no rigid move follows the breath."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import fftconvolve

from p2ch_luna.inference.alignment_views import LungHu, LungView, Rigid

STEP_MM = 2.0
AROUND = 10  # steps each way that are compared: 20 mm
SEARCH = 8  # steps each way that are searched: 16 mm
WALL_HU = 50.0  # stands for all that is not lung
CLEAR = 0.6  # correlation from which the surroundings are known again
SHOWN = 0.75  # share of the surroundings that both scans must show
PER_MM = 0.002  # of correlation that a shift must bring for each mm

Cube = NDArray[np.float64]


def place_in_other(one: LungView, other: LungView, to_other: Rigid, place_xyz: ArrayLike) -> Cube:
    """(3,) LPS mm of the other scan: where the surroundings of a place of the one agree best.

    The rigid move is followed by the shift of whole steps that raises their correlation most, less `PER_MM`;
    by none where the correlation stays below `CLEAR`, or either scan shows too little of the surroundings.
    """
    place = np.asarray(place_xyz, float)
    steps = np.stack(np.meshgrid(*[np.arange(-AROUND - SEARCH, AROUND + SEARCH + 1)] * 3, indexing="ij"), -1)
    offsets = steps * STEP_MM
    inner = (slice(SEARCH, -SEARCH),) * 3
    here, there = place + offsets[inner], to_other(place + offsets)
    if not (_shows(one, here) and _shows(other, there[inner])):
        return to_other(place)
    ours, theirs = _hu(one.fine, here), _hu(other.fine, there)
    agreement = _correlations(theirs, ours)
    way_mm = np.linalg.norm(offsets[(slice(AROUND, -AROUND),) * 3], axis=-1)
    best = np.unravel_index((agreement - PER_MM * way_mm).argmax(), agreement.shape)
    if agreement[best] < CLEAR:
        return to_other(place)
    return to_other(place + (np.array(best) - SEARCH) * STEP_MM)


def _shows(view: LungView, xyz: Cube) -> bool:
    """Whether a scan tells of most of a cube of points (n, n, n, 3)."""
    return float(view.is_known(xyz.reshape(-1, 3)).mean()) >= SHOWN


def _hu(lungs: LungHu, xyz: Cube) -> Cube:
    """Of a cube of points (n, n, n, 3)."""
    hu, is_lung = lungs.at(xyz.reshape(-1, 3))
    return np.where(is_lung, hu, WALL_HU).astype(float).reshape(xyz.shape[:3])


def _correlations(image: Cube, template: Cube) -> Cube:
    """Of the template with each part of the image of its size; 0 where one of them is all the same."""
    wanted = template - template.mean()
    ones = np.ones_like(template)
    shared = fftconvolve(image, wanted[::-1, ::-1, ::-1], "valid")
    base = image - image.mean()  # so that little is lost in the difference of large sums
    total, squares = (fftconvolve(values, ones, "valid") for values in (base, base**2))
    spread = np.maximum(squares - total**2 / ones.size, 0) * (wanted**2).sum()
    known = spread > 1e-3 * ones.size**2
    return np.where(known, shared / np.sqrt(np.where(known, spread, 1.0)), 0.0)
