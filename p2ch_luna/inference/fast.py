"""How networks are run here: without gradients, in the precision and memory layout that are fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2ch_luna.errors import LunaError
from p2ch_luna.models.precision import Network, autocast, on_device


def ready(model: Network, device: torch.device) -> Network:
    """The model on its device, in evaluation mode, in the memory layout that is fast there."""
    return on_device(model.eval(), device)


@contextmanager
def fast_inference(device: torch.device) -> Iterator[None]:
    """No gradients, and bfloat16 where the device computes in it faster than in float32."""
    with torch.inference_mode(), autocast(device):
        yield


def probabilities(logits: Tensor, network: str) -> NDArray[np.float32]:
    """The sigmoid of logits of any shape, as a float32 array. Raises LunaError if `network` gave a NaN."""
    values = torch.sigmoid(logits.float()).cpu().numpy()
    if np.isnan(values).any():
        raise LunaError(f"the {network} network answers NaN for this scan; wanted numbers (damaged weights?)")
    return values
