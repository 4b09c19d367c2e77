"""The segmentation network: which voxels belong to a nodule."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from p2ch_luna.models.blocks import HuWindow, ResidualBlock, depth_to_space, space_to_depth

RARE = -4.0  # logit at the start: almost no voxel is nodule, so the first losses are not wasted on that


class SegmentationUNet(nn.Module):
    """3D U-Net: (B, 1, D, H, W) HU -> (B, 1, D, H, W) mask logit; D, H, W multiples of `multiple`.

    A 2x2x2 block of voxels enters as 8 channels and leaves through a pixel shuffle, so that all
    convolutions run at half resolution (Shi et al. 2016, arXiv:1609.05158): 12x faster on a CPU than
    convolutions at full resolution, and no voxel is dropped.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 96, 128),
        window_hu: tuple[float, float] = (-1000.0, 400.0),
    ) -> None:
        super().__init__()
        self.window = HuWindow(*window_hu)
        self.stem = ResidualBlock(8, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv3d(a, b, 2, stride=2, bias=False), ResidualBlock(b, b))
            for a, b in pairwise(widths)
        )
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.merge = nn.ModuleList(ResidualBlock(2 * a, a) for a in widths[:-1])
        self.head = nn.Conv3d(widths[0], 8, 1)
        nn.init.constant_(self.head.bias, RARE)  # type: ignore[arg-type]
        self.multiple = 2 ** len(widths)

    def forward(self, hu: Tensor) -> Tensor:
        """Mask logits at the resolution of the input."""
        if any(n % self.multiple for n in hu.shape[2:]):
            raise ValueError(f"sides must be multiples of {self.multiple}, got {tuple(hu.shape[2:])}")
        x = self.stem(space_to_depth(self.window(hu)))  # (B, widths[0], D/2, H/2, W/2)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        for up, merge, skip in zip(reversed(self.up), reversed(self.merge), reversed(skips), strict=True):
            x = merge(torch.cat([up(x), skip], dim=1))
        return depth_to_space(self.head(x))
