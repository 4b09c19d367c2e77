"""The classifier of candidate crops: nodule? malignant? how large?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from p2ch_luna.models.blocks import HuWindow, ResidualBlock, space_to_depth

TYPICAL_MM = 7.3  # diameter that a new head starts from: the geometric mean of LUNA16's nodules


class Verdict(NamedTuple):
    """What the classifier says of each crop of a batch; one field a head."""

    nodule_logit: Tensor  # (B,)
    malignancy_logit: Tensor  # (B,) meaningful where there is a nodule
    log_diameter: Tensor | None = None  # (B,) natural logarithm of mm, likewise; None: no such head


class NoduleClassifier(nn.Module):
    """3D CNN: (B, 1, D, H, W) crop in HU, centred on a candidate -> `Verdict`. D, H, W multiples of 16.

    The head sees the middle of the crop beside the mean of all of it: what is at the centre decides,
    what surrounds it explains. `diameter_head`: it says too how large a nodule is.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96, 128),
        window_hu: tuple[float, float] = (-1000.0, 400.0),
        dropout: float = 0.2,
        diameter_head: bool = False,
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
        names = ("nodule", "malignancy", *(["diameter"] if diameter_head else []))
        self.heads = nn.ModuleDict({name: nn.Linear(2 * widths[-1], 1) for name in names})
        if diameter_head:
            nn.init.constant_(self.heads["diameter"].bias, math.log(TYPICAL_MM))  # type: ignore[arg-type]

    def forward(self, hu: Tensor) -> Verdict:
        """What every head says."""
        x = self.down(self.stem(space_to_depth(self.window(hu))))  # (B, C, D/16, H/16, W/16)
        middle = x[(..., *(slice((n - 1) // 2, n // 2 + 1) for n in x.shape[2:]))]
        features = torch.cat([x.mean(dim=(2, 3, 4)), middle.mean(dim=(2, 3, 4))], dim=1)  # (B, 2C)
        features = self.dropout(features)
        return Verdict(*(head(features).squeeze(1) for head in self.heads.values()))
