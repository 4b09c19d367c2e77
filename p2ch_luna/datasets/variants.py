"""The same scan as another kernel, dose or view would have given it; nothing moves in the patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import PADDING_HU, CtVolume, HuArray, crop_box, resample
from p2ch_luna.lungs import PreparedCt

FORMAT = 1  # of how variants are made: a new one makes all results anew
SLICES_MM = (0.6, 1.0, 2.0, 3.0, 5.0)
NOISE_HU = (20.0, 40.0)  # standard deviations, added to what the scan has
GRAIN_MM = 0.7  # sigma of the kernel that makes noise grainy within a slice
KERNEL_MM = 1.0  # sigma of the Gaussian that makes a kernel softer, or by what it takes away sharper
SHARPEN = 1.0  # times what that Gaussian takes away, added

# prepared: what `lungs.prepare` makes of the scan without variation
Change = Callable[[CtVolume, PreparedCt, np.random.Generator], CtVolume]


def sliced(ct: CtVolume, thickness_mm: float) -> CtVolume:
    """Slices (along the first axis) of this thickness and distance.

    A thicker slice is the mean of what it covers; thinner ones are interpolated between those there are. The
    low face of the volume stays; what does not fill a whole slice at the other end is left out.
    """
    step = thickness_mm / float(ct.geometry.spacing_irc[0])
    spacing = np.array([*ct.geometry.spacing_xyz[:2], thickness_mm])
    if step <= 1:
        return resample(ct, spacing.tolist())
    n_in = len(ct.hu)
    hu = np.stack(
        [_mean_of(ct.hu, k * step, min((k + 1) * step, n_in)) for k in range(max(1, int(n_in / step + 1e-6)))]
    )
    moved = ct.geometry.moved_to([(step - 1) / 2, 0, 0])
    return replace(ct, hu=_like(ct.hu, hu), geometry=replace(moved, spacing_xyz=spacing))


def _mean_of(hu: HuArray, start: float, end: float) -> NDArray[np.float32]:
    """(H, W): the mean from face `start` to face `end`, where slice i lies between faces i and i + 1."""
    first, last = int(start), int(np.ceil(end - 1e-6))
    index = np.arange(first, last)
    share = np.minimum(index + 1, end) - np.maximum(index, start)
    weight = (share / share.sum()).astype(np.float32)
    mean: NDArray[np.float32] = np.tensordot(weight, hu[first:last].astype(np.float32), axes=1)
    return mean


def noisy(ct: CtVolume, sigma_hu: float, rng: np.random.Generator) -> CtVolume:
    """More noise, of a grain within slices and none across them; what the scanner did not see stays."""
    grain = _in_plane(ct, GRAIN_MM)[1:]
    hu = np.empty(ct.hu.shape, np.float32)
    for i, of_slice in enumerate(ct.hu):
        noise = ndimage.gaussian_filter(rng.standard_normal(of_slice.shape), grain, mode="wrap")
        hu[i] = of_slice + noise * (sigma_hu / noise.std())
    return _where_seen(ct, hu)


def softer(ct: CtVolume) -> CtVolume:
    """As by a soft kernel: a Gaussian of `KERNEL_MM` within slices."""
    return _where_seen(ct, _blurred(ct))


def sharper(ct: CtVolume) -> CtVolume:
    """As by a sharp kernel, edges that overshoot and more noise: unsharp masking within slices."""
    seen = np.maximum(ct.hu, PADDING_HU).astype(np.float32)
    return _where_seen(ct, seen + SHARPEN * (seen - _blurred(ct)))


def turned(ct: CtVolume, axes: Sequence[int]) -> CtVolume:
    """The array reversed along these axes; its geometry says so, and the patient stays as he was."""
    far = np.zeros(3)
    direction = ct.geometry.direction.copy()
    for axis in axes:
        far[axis] = ct.hu.shape[axis] - 1
        direction[:, 2 - axis] *= -1
    geometry = replace(ct.geometry.moved_to(far), direction=direction)
    steps = tuple(slice(None, None, -1 if axis in axes else 1) for axis in range(3))
    return replace(ct, hu=ct.hu[steps], geometry=geometry)


def cropped(ct: CtVolume, prepared: PreparedCt, half: str = "") -> CtVolume:
    """The box of the lungs with its margin as of `prepared`, or the patient's `half` of it: left or right."""
    corners = product(*((-0.5, side - 0.5) for side in prepared.ct.hu.shape))
    irc = ct.geometry.to_irc(prepared.ct.geometry.to_xyz(list(corners)))
    low, high = np.floor(irc.min(axis=0) + 0.5), np.ceil(irc.max(axis=0) + 0.5)
    if half:
        to_left = ct.geometry.direction[0]  # how far a step along col, row, index goes to the left
        column = int(np.abs(to_left).argmax())
        middle = np.rint(irc.mean(axis=0) + 0.5)[2 - column]
        (low if (half == "left") == (to_left[column] > 0) else high)[2 - column] = middle
    return crop_box(ct, low, high)


def is_in_view(ct: CtVolume, nodule: Nodule) -> bool:
    """Whether its centre lies in the image."""
    irc = ct.geometry.to_irc(nodule.center_xyz)
    return bool(((irc >= -0.5) & (irc <= np.array(ct.hu.shape) - 0.5)).all())


def _in_plane(ct: CtVolume, sigma_mm: float) -> NDArray[np.float64]:
    """(3,) voxels along index, row, col: none across slices."""
    return np.array([0, 1, 1]) * sigma_mm / ct.geometry.spacing_irc


def _blurred(ct: CtVolume) -> NDArray[np.float32]:
    seen = np.maximum(ct.hu, PADDING_HU).astype(np.float32)
    blurred: NDArray[np.float32] = ndimage.gaussian_filter(seen, _in_plane(ct, KERNEL_MM), mode="nearest")
    return blurred


def _where_seen(ct: CtVolume, hu: NDArray[np.float32]) -> CtVolume:
    """With these voxels, but for padding; cut off at the scale's end, as scanners do."""
    changed = np.where(ct.hu <= PADDING_HU, ct.hu, np.maximum(hu, PADDING_HU))
    return replace(ct, hu=_like(ct.hu, changed))


def _like(original: HuArray, hu: NDArray[np.float32]) -> HuArray:
    """Rounded if the original's are integers."""
    return np.rint(hu).astype(np.int16) if original.dtype == np.int16 else hu.astype(np.float32)


def slices_of(thickness_mm: float) -> str:
    """The name of this variant."""
    return f"slices of {thickness_mm:g} mm"


def _sliced(ct: CtVolume, _: PreparedCt, __: np.random.Generator, *, thickness_mm: float) -> CtVolume:
    return sliced(ct, thickness_mm)


def _noisy(ct: CtVolume, _: PreparedCt, rng: np.random.Generator, *, sigma_hu: float) -> CtVolume:
    return noisy(ct, sigma_hu, rng)


def _turned(ct: CtVolume, _: PreparedCt, __: np.random.Generator, *, axes: Sequence[int]) -> CtVolume:
    return turned(ct, axes)


def _cropped(ct: CtVolume, prepared: PreparedCt, _: np.random.Generator, *, half: str = "") -> CtVolume:
    return cropped(ct, prepared, half)


AS_IT_IS = "as it is"
VARIANTS: dict[str, Change] = {  # by the name in the table, in its order
    AS_IT_IS: lambda ct, _, __: ct,
    **{slices_of(mm): partial(_sliced, thickness_mm=mm) for mm in SLICES_MM},
    **{f"noise of {hu:g} HU": partial(_noisy, sigma_hu=hu) for hu in NOISE_HU},
    "soft kernel": lambda ct, _, __: softer(ct),
    "sharp kernel": lambda ct, _, __: sharper(ct),
    "turned along z": partial(_turned, axes=(0,)),
    "turned along x and y": partial(_turned, axes=(1, 2)),
    "lungs in view": _cropped,
    "left half in view": partial(_cropped, half="left"),
    "right half in view": partial(_cropped, half="right"),
}
