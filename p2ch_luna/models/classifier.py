"""The classifier of candidate crops: nodule? malignant? how large?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from p2ch_luna.models.blocks import HuWindow, ResidualBlock, space_to_depth
from p2ch_luna.models.outline import MEASURES, Outliner, measure

TYPICAL_MM = 7.3  # diameter that a new head starts from: the geometric mean of LUNA16's nodules


class Verdict(NamedTuple):
    """What the classifier says of each crop of a batch; one field a head."""

    nodule_logit: Tensor  # (B,)
    malignancy_logit: Tensor  # (B,) meaningful where there is a nodule
    log_diameter: Tensor | None = None  # (B,) natural logarithm of mm, likewise; None: no such head
    outline_logit: Tensor | None = None  # (B, 1, D, H, W) which voxels are the nodule in the middle; likewise


class NoduleClassifier(nn.Module):
    """3D CNN: (B, 1, D, H, W) crop in HU, centred on a candidate -> `Verdict`. D, H, W multiples of 16.

    The heads see the middle of the crop beside the mean of all of it: what is at the centre decides,
    what surrounds it explains. With `near_widths` a second trunk looks at the middle half of the crop with
    every voxel as it is, for what is small; the first sees 2x2x2 voxels as one place. Two scales, as in
    multi-level contextual networks (Dou et al. 2017, doi 10.1109/TBME.2016.2613502).
    `diameter_head`: it says too how large a nodule is. `outline`: it outlines the nodule, and the
    heads of malignancy and diameter see what is measured of that, its size, density and texture, in place of
    the features: an outline is learnt of every voxel, so from far fewer nodules than judging whole crops.
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96, 128),
        window_hu: tuple[float, float] = (-1000.0, 400.0),
        dropout: float = 0.2,
        diameter_head: bool = False,
        near_widths: Sequence[int] = (),
        outline: bool = False,
    ) -> None:
        super().__init__()
        self.window = HuWindow(*window_hu)
        self.stem = ResidualBlock(8, widths[0])
        self.down = nn.Sequential(*map(_halved, widths, widths[1:]))
        self.near: nn.Module | None = None
        if near_widths:
            halves = map(_halved, near_widths, near_widths[1:])
            self.near = nn.Sequential(ResidualBlock(1, near_widths[0]), *halves)
        self.dropout = nn.Dropout(dropout)
        names = ("nodule", "malignancy", *(["diameter"] if diameter_head else []))
        features = 2 * (widths[-1] + (near_widths[-1] if near_widths else 0))
        sees = {name: MEASURES if outline and name != "nodule" else features for name in names}
        self.heads = nn.ModuleDict({name: nn.Linear(sees[name], 1) for name in names})
        if diameter_head:
            nn.init.constant_(self.heads["diameter"].bias, math.log(TYPICAL_MM))  # type: ignore[arg-type]
        self.outline = Outliner(widths) if outline else None
        for name in names[1:] if outline else ():  # the first outlines are of nothing: they shall not count
            nn.init.zeros_(self.heads[name].weight)  # type: ignore[arg-type]

    def forward(self, hu: Tensor) -> Verdict:
        """What every head says."""
        x = self.window(hu)
        stages = [self.stem(space_to_depth(x))]  # (B, C, D/2, H/2, W/2)
        for down in self.down:
            stages.append(down(stages[-1]))
        seen = [stages[-1]]  # (B, C, D/16, H/16, W/16)
        if self.near is not None:
            d, h, w = (slice(n // 4, n // 4 + n // 2) for n in x.shape[2:])
            seen.append(self.near(x[:, :, d, h, w]))
        features = self.dropout(torch.cat([_all_and_middle(trunk) for trunk in seen], dim=1))
        if self.outline is None:
            return Verdict(*(head(features).squeeze(1) for head in self.heads.values()))
        outline_logit = self.outline(stages)
        # detached: it is learnt from readers' outlines, not bent to what the heads would like
        measured = measure(hu, outline_logit.detach().float().sigmoid())
        with torch.autocast(hu.device.type, enabled=False):  # half precision would round the measures
            malignancy, *diameter = (
                head(measured).squeeze(1) for name, head in self.heads.items() if name != "nodule"
            )
        nodule = self.heads["nodule"](features).squeeze(1)
        return Verdict(nodule, malignancy, diameter[0] if diameter else None, outline_logit)


def _halved(channels_in: int, channels_out: int) -> nn.Sequential:
    """Half the grid, then a block."""
    return nn.Sequential(
        nn.Conv3d(channels_in, channels_out, 2, stride=2, bias=False),
        ResidualBlock(channels_out, channels_out),
    )


def _all_and_middle(x: Tensor) -> Tensor:
    """(B, C, D, H, W) -> (B, 2C): the mean of all places, and that of one or two in the middle of an axis."""
    d, h, w = (slice((n - 1) // 2, n // 2 + 1) for n in x.shape[2:])
    return torch.cat([x.mean(dim=(2, 3, 4)), x[:, :, d, h, w].mean(dim=(2, 3, 4))], dim=1)
