"""Noise: of the tissues, repeated in tiles, and of the scanner, which also blurs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from p2ch_luna.datasets.phantom_anatomy import Field

_TILE_SHAPE = (48, 160, 160)  # voxels
_SHARED = 0.35  # of a slice's noise that the next one shows too, as they share projections


def texture_tile(
    rng: np.random.Generator,
    shape_irc: Sequence[int],
    spacing_irc: NDArray[np.float64],
    *,
    grain_mm: float,
    hu: float,
) -> Field:
    """Periodic noise of standard deviation `hu` whose grains are about `grain_mm` wide.

    The tile is not larger than the image, `shape_irc`.
    """
    shape = tuple(min(n, m) for n, m in zip(shape_irc, _TILE_SHAPE, strict=True))
    f_irc = [fft.fftfreq(n, mm) for n, mm in zip(shape, spacing_irc, strict=True)]
    f2 = sum(f**2 for f in np.meshgrid(*f_irc, indexing="ij", sparse=True))
    spectrum = fft.fftn(rng.standard_normal(shape, dtype=np.float32))
    tile = fft.ifftn(spectrum * np.exp(-f2 * (1.6 * grain_mm) ** 2)).real.astype(np.float32)
    return tile * np.float32(hu / tile.std())


def tile_slice(tile: Field, k: int, shape: tuple[int, ...]) -> Field:
    """(H, W) of the tile repeated without end."""
    repeats = [-(-n // m) for n, m in zip(shape, tile.shape[1:], strict=True)]
    return np.tile(tile[k % len(tile)], repeats)[: shape[0], : shape[1]]


class Scanner(NamedTuple):
    """How the image is blurred and how noisy it is."""

    blur_mm: float  # sigma of the point spread in the plane
    profile: float  # share of each neighbour in a slice
    sharpening: float  # 0: a soft kernel
    noise_hu: float  # standard deviation
    noise_cutoff: float  # line pairs per mm where it fades


def blur(hu: Field, scanner: Scanner, spacing_irc: NDArray[np.float64]) -> None:
    """Slice profile and in-plane point spread of a (D, H, W) image, in place."""
    previous = hu[0].copy()
    for k in range(len(hu)):
        here = hu[k].copy()
        following = hu[min(k + 1, len(hu) - 1)]
        hu[k] = (1 - 2 * scanner.profile) * here + scanner.profile * (previous + following)
        previous = here
        for axis in (0, 1):
            hu[k] = ndimage.gaussian_filter1d(
                hu[k], scanner.blur_mm / spacing_irc[axis + 1], axis, mode="nearest"
            )
        if scanner.sharpening > 0:
            hu[k] += scanner.sharpening * (hu[k] - ndimage.uniform_filter(hu[k], 3, mode="nearest"))


def noise_filter(shape: tuple[int, ...], scanner: Scanner, spacing_irc: NDArray[np.float64]) -> Field:
    """(H, W/2 + 1) amplitude of noise as filtered back-projection leaves it: little at low frequencies."""
    f = np.hypot(fft.fftfreq(shape[0], spacing_irc[1])[:, None], fft.rfftfreq(shape[1], spacing_irc[2]))
    amplitude = np.sqrt(f + 0.02) * np.exp(-((f / scanner.noise_cutoff) ** 2))
    full = np.concatenate([amplitude, amplitude[:, 1 : (shape[1] + 1) // 2]], axis=1)
    return np.asarray(amplitude / np.sqrt((full**2).mean()), np.float32)


def add_noise(
    hu: NDArray[np.float32], scanner: Scanner, spacing_irc: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int16]:
    """(D, H, W) HU as they are stored, with the scanner's noise."""
    shape = hu.shape[1:]
    amplitude = noise_filter(shape, scanner, spacing_irc) * np.float32(scanner.noise_hu)
    stored = np.empty(hu.shape, np.int16)
    before = np.zeros(shape, np.float32)
    for k, clean in enumerate(hu):
        white = rng.standard_normal(shape, dtype=np.float32)
        noise = fft.irfft2(fft.rfft2(white) * amplitude, shape)
        mixed = (noise + _SHARED * before) / np.float32(np.hypot(1, _SHARED))
        before = noise
        stored[k] = np.clip(np.rint(clean + mixed), -1024, 3071)
    return stored
