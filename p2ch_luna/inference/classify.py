"""Ask the classifier about each candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from p2ch_luna.findings import Candidate
from p2ch_luna.geometry import CtVolume, crop_around
from p2ch_luna.inference.fast import fast_inference, probabilities

CROP_IRC = (48, 48, 48)  # voxels of 1 mm around a candidate, unless the model was trained on others
BATCH = 16  # crops of a pass; 4 or 64 are no faster (`luna bench diagnose --tiles`)


class Opinions(NamedTuple):
    """What the classifier holds of N candidates."""

    nodule_probability: NDArray[np.float32]  # (N,)
    malignancy_probability: (
        NDArray[np.float32] | None
    )  # (N,) meaningful where there is a nodule; None: not judged


def classify(
    model: nn.Module,
    ct: CtVolume,
    candidates: Sequence[Candidate],
    *,
    crop_irc: Sequence[int] = CROP_IRC,
    device: torch.device,
    advance: Callable[[int], None],
    name: str = "classifier",
    batch: int = BATCH,
) -> Opinions:
    """Probabilities of the candidates of a CT of 1 mm voxels, in their order.

    model: (B, 1, D, H, W) HU -> (nodule logit (B,), malignancy logit (B,)), and more that is passed over.
    advance: is called with the number of candidates done since.    name: of the network, for an error.
    batch: candidates of a pass.
    """
    done = [np.zeros((2, 0), np.float32)]
    with fast_inference(device):
        for start in range(0, len(candidates), batch):
            some = candidates[start : start + batch]
            crops = [crop_around(ct.hu, ct.geometry.to_irc(c.center_xyz), crop_irc) for c in some]
            hu = torch.from_numpy(np.stack(crops).astype(np.float32))[:, None].to(device)
            nodule_logit, malignancy_logit, *_ = model(hu)
            done.append(probabilities(torch.stack([nodule_logit, malignancy_logit]), name))
            advance(len(some))
    return Opinions(*np.concatenate(done, axis=1))
