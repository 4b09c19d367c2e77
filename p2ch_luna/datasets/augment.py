"""Augmentation of whole batches on their device: draw first, then apply. A different draw per sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """How likely and how strong; a config's table."""

    thick_slices: float = 0.3  # probability; slices of 2 to 5 mm
    blur: float = 0.3  # probability; a softer kernel, sigma 0.4 to 1.0 mm
    noise_hu: float = 40.0  # standard deviation, at most
    gain: float = 0.05  # contrast changes by a factor of up to 1 +- gain
    shift_hu: float = 30.0  # brightness changes by up to this


@dataclass(frozen=True)
class Draw:
    """What happens to each sample of a batch; every field has a leading axis of B."""

    flips: Tensor  # (B, 3) bool, along D, H, W
    transpose: Tensor  # (B,) bool, rows and columns change places
    thickness: Tensor  # (B,) voxels that a slice is thick; 1: as it is
    blur_sigma: Tensor  # (B,) voxels; 0: none
    noise_sigma: Tensor  # (B,) HU
    gain: Tensor  # (B,)
    shift: Tensor  # (B,) HU
    seed: Tensor  # () of the noise


def draw(batch_size: int, how: Augmentation, generator: torch.Generator) -> Draw:
    """Draw for a batch; `generator` lives on the CPU, so that every device gets the same draw."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch_size, generator=generator)

    def sometimes(probability: float, value: Tensor, otherwise: float) -> Tensor:
        return torch.where(uniform(0, 1) < probability, value, otherwise)

    return Draw(
        flips=torch.rand(batch_size, 3, generator=generator) < 0.5,
        transpose=uniform(0, 1) < 0.5,
        thickness=sometimes(how.thick_slices, torch.randint(2, 6, (batch_size,), generator=generator), 1),
        blur_sigma=sometimes(how.blur, uniform(0.4, 1.0), 0.0),
        noise_sigma=uniform(0, 1) ** 2 * how.noise_hu,
        gain=uniform(1 - how.gain, 1 + how.gain),
        shift=uniform(-how.shift_hu, how.shift_hu),
        seed=torch.randint(2**31, (), generator=generator),
    )


def turn(image: Tensor, what: Draw) -> Tensor:
    """Mirror and transpose (B, C, D, H, W); the same for HU, masks and weights. Needs H = W."""
    out = []
    for sample, flips, transpose in zip(image, what.flips, what.transpose, strict=True):
        turned = sample.flip([axis + 1 for axis in range(3) if flips[axis]])
        out.append(turned.transpose(2, 3) if transpose else turned)
    return torch.stack(out)


def degrade(hu: Tensor, what: Draw) -> Tensor:
    """Another scanner: thicker slices, softer kernel, more noise, other HU. (B, 1, D, H, W) HU."""
    out = torch.stack(
        [
            _blurred(_thickened(sample[None], int(thickness)), float(sigma))[0]
            for sample, thickness, sigma in zip(hu, what.thickness, what.blur_sigma, strict=True)
        ]
    )
    generator = torch.Generator(hu.device).manual_seed(int(what.seed))
    noise = torch.randn(out.shape, generator=generator, device=hu.device)

    def per_sample(value: Tensor) -> Tensor:
        return value.to(hu.device).reshape(-1, 1, 1, 1, 1)

    brighter = (out + 1000) * per_sample(what.gain) - 1000 + per_sample(what.shift)
    return brighter + noise * per_sample(what.noise_sigma)


def _thickened(hu: Tensor, thickness: int) -> Tensor:
    """Average over `thickness` slices, then interpolate back to the grid it was on."""
    if thickness == 1:
        return hu
    thick = F.avg_pool3d(hu, (thickness, 1, 1), ceil_mode=True, count_include_pad=False)
    covered = thick.shape[2] * thickness
    fine = F.interpolate(thick, (covered, *hu.shape[3:]), mode="trilinear", align_corners=False)
    return fine[:, :, : hu.shape[2]]


def _blurred(hu: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of a (1, 1, D, H, W) image along all axes."""
    if sigma == 0:
        return hu
    steps = torch.arange(-3, 4, device=hu.device, dtype=hu.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]
        shape[axis + 2] = 7
        padding[2 * (2 - axis) : 2 * (2 - axis) + 2] = [3, 3]
        hu = F.conv3d(F.pad(hu, padding, mode="replicate"), kernel.reshape(shape))
    return hu
