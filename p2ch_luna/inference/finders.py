"""How a network that is being trained finds nodules in a whole scan: by the stages of the diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from p2ch_luna.findings import Candidate
from p2ch_luna.inference.classify import classify
from p2ch_luna.inference.detector import propose_candidates
from p2ch_luna.inference.fast import ready
from p2ch_luna.inference.joint import score
from p2ch_luna.lungs import PreparedCt
from p2ch_luna.metrics.matching import Scored
from p2ch_luna.models.checkpoint import bundled, load_model

Find = Callable[[nn.Module, PreparedCt], Sequence[Scored]]  # the model is in evaluation mode, on its device


def segmentation_finder(device: torch.device) -> Find:
    """Find by a segmentation alone: what it proposes, with its highest probability there."""

    def find(model: nn.Module, prepared: PreparedCt) -> Sequence[Scored]:
        return propose_candidates(model, prepared, device)

    return find


def classifier_finder(device: torch.device, segmentation: Path | None, crop_irc: Sequence[int]) -> Find:
    """Find by a classifier of crops of `crop_irc` voxels, with the mean of both stages' logits.

    The weights of `segmentation` (None: the bundled ones) are read now. It proposes once in each scan, by
    its uid: only the classifier changes from epoch to epoch.
    """
    proposer, _ = load_model(segmentation or bundled("segmentation"), device, "segmentation_unet")
    proposer = ready(proposer, device)
    proposed: dict[str, list[Candidate]] = {}

    def find(model: nn.Module, prepared: PreparedCt) -> Sequence[Scored]:
        uid = prepared.ct.series_uid
        if uid not in proposed:
            proposed[uid] = propose_candidates(proposer, prepared, device)
        opinions = classify(
            model, prepared.ct, proposed[uid], crop_irc=crop_irc, device=device, advance=lambda _: None
        )
        return score(proposed[uid], opinions)

    return find
