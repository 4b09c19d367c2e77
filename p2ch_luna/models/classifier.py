"""The classifier of candidate crops: nodule? malignant?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from p2ch_luna.models.blocks import HuWindow, ResidualBlock, space_to_depth


class Verdict(NamedTuple):
    """What the classifier says of each crop of a batch; one field a head."""

    nodule_logit: Tensor  # (B,)
    malignancy_logit: Tensor  # (B,) meaningful where there is a nodule


class NoduleClassifier(nn.Module):
    """3D CNN: (B, 1, D, H, W) crop in HU, centred on a candidate -> `Verdict`. D, H, W multiples of 16.

    The head sees the middle of the crop beside the mean of all of it: what is at the centre decides,
    what surrounds it explains.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96, 128),
        window_hu: tuple[float, float] = (-1000.0, 400.0),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.window = HuWindow(*window_hu)
        self.stem = ResidualBlock(8, widths[0])
        self.down = nn.Sequential(
            *(
                nn.Sequential(nn.Conv3d(a, b, 2, stride=2, bias=False), ResidualBlock(b, b))
                for a, b in pairwise(widths)
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(2 * widths[-1], 1) for name in ("nodule", "malignancy")})

    def forward(self, hu: Tensor) -> Verdict:
        """Logits of every head."""
        x = self.down(self.stem(space_to_depth(self.window(hu))))  # (B, C, D/16, H/16, W/16)
        middle = x[(..., *(slice((n - 1) // 2, n // 2 + 1) for n in x.shape[2:]))]
        features = torch.cat([x.mean(dim=(2, 3, 4)), middle.mean(dim=(2, 3, 4))], dim=1)  # (B, 2C)
        features = self.dropout(features)
        return Verdict(*(self.heads[name](features).squeeze(1) for name in ("nodule", "malignancy")))
