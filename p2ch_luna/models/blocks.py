"""Building blocks shared by the networks. Axes are (B, C, D, H, W)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv3x3x3(nn.Conv3d):
    """3x3x3 convolution without a bias; keeps D, H, W.

    On a CPU, torch 2.13 gives wrong weight gradients in bfloat16 (up to 1e37) where the input is two slices
    deep and padded along them by the convolution; padded before, they are right.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, D, H, W) -> (B, channels_out, D, H, W)."""
        if x.shape[2] == 2 and x.device.type == "cpu":
            return F.conv3d(F.pad(x, (0, 0, 0, 0, 1, 1)), self.weight, padding=(0, 1, 1))
        return super().forward(x)


def conv_norm_act(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3x3 convolution, batch norm, SiLU; keeps D, H, W."""
    return nn.Sequential(
        Conv3x3x3(channels_in, channels_out),
        nn.BatchNorm3d(channels_out),
        nn.SiLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two convolutions and a short cut, 1x1x1 where the channels change; keeps D, H, W."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = conv_norm_act(channels_in, channels_out)
        self.second = nn.Sequential(Conv3x3x3(channels_out, channels_out), nn.BatchNorm3d(channels_out))
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv3d(channels_in, channels_out, 1, bias=False)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, D, H, W) -> (B, channels_out, D, H, W)."""
        out: Tensor = self.act(self.second(self.first(x)) + self.shortcut(x))
        return out


class HuWindow(nn.Module):
    """HU -> [0, 1] between `low` and `high`; the two numbers are saved with the weights."""

    low_high: Tensor

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"an HU window needs low < high, got {low} and {high}")
        self.register_buffer("low_high", torch.tensor([low, high]))

    def forward(self, hu: Tensor) -> Tensor:
        """Any shape in, the same out."""
        low, high = self.low_high[0], self.low_high[1]
        return (hu.clamp(low, high) - low) / (high - low)


def space_to_depth(x: Tensor, step: int = 2) -> Tensor:
    """(B, 1, D, H, W) -> (B, step^3, D/step, H/step, W/step): no voxel is lost, the grid is coarser."""
    b, _, d, h, w = x.shape
    blocks = x.reshape(b, d // step, step, h // step, step, w // step, step)
    return blocks.permute(0, 2, 4, 6, 1, 3, 5).reshape(b, step**3, d // step, h // step, w // step)


def depth_to_space(x: Tensor, step: int = 2) -> Tensor:
    """Invert `space_to_depth`: (B, C step^3, D, H, W) -> (B, C, D step, H step, W step)."""
    b, channels, d, h, w = x.shape
    blocks = x.reshape(b, channels // step**3, step, step, step, d, h, w)
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, -1, d * step, h * step, w * step)
