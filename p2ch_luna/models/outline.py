"""Which voxels are the nodule in the middle of a crop, and what can be measured of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from p2ch_luna.models.blocks import conv_norm_act, depth_to_space
from p2ch_luna.models.unet import RARE

CHANNELS = 16
MEASURED_HU = (-1000.0, 400.0)
EDGES_HU = (-700.0, -400.0, -100.0, 50.0, 150.0, 250.0)  # from ground glass over soft tissue to calcium …
EDGE_WIDTH_HU = 30.0  # … each as soft as a scan is noisy
MEASURES = 7 + len(EDGES_HU)
AMPLIFIED = 4.0  # measures, so that few steps of a head's weights are enough to use them
SMALLEST_MM3 = 1.0  # one voxel: keeps what is not outlined at all finite


class Outliner(nn.Module):
    """The stages of a trunk, fine to coarse -> mask logit at twice the resolution of the finest.

    Coarse stages are added to finer ones (feature pyramid, Lin et al. 2017, arXiv:1612.03144).
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv3d(width, CHANNELS, 1) for width in widths)
        self.merge = conv_norm_act(CHANNELS, CHANNELS)
        self.head = nn.Conv3d(CHANNELS, 8, 1)
        nn.init.constant_(self.head.bias, RARE)  # type: ignore[arg-type]

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """(B, widths[k], D / 2^(k+1), …) each -> (B, 1, D, H, W)."""
        *finer, coarsest = zip(self.lateral, stages, strict=True)
        x = coarsest[0](coarsest[1])
        for lateral, stage in reversed(finer):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest") + lateral(stage)
        return depth_to_space(self.head(self.merge(x)))


def measure(hu: Tensor, outline: Tensor) -> Tensor:
    """Size, density, texture, surface and rim of what is outlined: float32, -3 to 3 times `AMPLIFIED`.

    hu: (B, 1, D, H, W) at 1 mm.    outline: the same shape, the probability of each voxel.
    Returns (B, MEASURES): log of the volume, mean and spread of the HU, the shares above `EDGES_HU`, how much
    surface for that volume, mean and spread of the HU in a rim outside, and the surest voxel.
    """
    hu, outline = hu.float(), outline.float()
    inside, volume = _weighted(outline)
    around = dilated(outline, 1)
    rim, _ = _weighted(dilated(around, 2) - around)
    squared_steps = sum(_steps(outline, axis).square().flatten(1).sum(1) for axis in (2, 3, 4))
    surface = torch.as_tensor(squared_steps).clamp(min=1e-3).log() - volume.log() * 2 / 3
    clamped = hu.clamp(*MEASURED_HU)
    columns = [
        (volume.log() - 5.5) / 1.5,
        *_mean_and_spread(clamped, inside),
        *((inside * torch.sigmoid((hu - edge) / EDGE_WIDTH_HU)).flatten(1).sum(1) for edge in EDGES_HU),
        surface - 1.0,
        *_mean_and_spread(clamped, rim),
        outline.flatten(1).amax(1),
    ]
    return AMPLIFIED * torch.stack(columns, dim=1)


def _steps(x: Tensor, axis: int) -> Tensor:
    """From each place to the next along an axis; `Tensor.diff`, which OpenVINO cannot read."""
    n = x.shape[axis] - 1
    return x.narrow(axis, 1, n) - x.narrow(axis, 0, n)


def dilated(x: Tensor, reach: int) -> Tensor:
    """The highest value within so many voxels along each axis, in place of each of (B, C, D, H, W).

    As `max_pool3d`, whose 3D kernels take fifty times as long on a CPU as a step along each axis.
    """
    for axis in (2, 3, 4):
        n, widest = x.shape[axis], x
        for step in range(1, min(reach, n - 1) + 1):
            up = F.pad(x.narrow(axis, step, n - step), _at_end(axis, 0, step), value=-torch.inf)
            down = F.pad(x.narrow(axis, 0, n - step), _at_end(axis, step, 0), value=-torch.inf)
            widest = torch.maximum(widest, torch.maximum(up, down))
        x = widest
    return x


def _at_end(axis: int, before: int, after: int) -> list[int]:
    """What `F.pad` wants to pad one axis of five."""
    pads = [0] * 10
    pads[2 * (4 - axis)], pads[2 * (4 - axis) + 1] = before, after
    return pads


def _weighted(part: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the voxels of a part, which add up to 1 unless it is next to nothing; (B,) its volume."""
    volume = part.flatten(1).sum(1).clamp(min=SMALLEST_MM3)
    return part / volume[:, None, None, None, None], volume


def _mean_and_spread(hu: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) each, in units of 200 HU round -200, which is between lung and soft tissue, and of 200 HU."""
    mean = (weight * hu).flatten(1).sum(1)
    off = hu - mean[:, None, None, None, None]
    spread = (weight * off.square()).flatten(1).sum(1).clamp(min=1.0).sqrt()
    return (mean + 200.0) / 200.0, spread / 200.0
