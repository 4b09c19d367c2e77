"""The precision and memory layout that networks compute in, the same in training and in use."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the device computes in it faster than in float32; it needs no loss scaling."""
    return torch.autocast(device.type, torch.bfloat16, enabled=_is_fast_in_bf16(device))


def _is_fast_in_bf16(device: torch.device) -> bool:
    if device.type == "cpu":  # without AVX-512 oneDNN has no bfloat16 convolution, and torch's own is slow
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return device.type == "cuda"


def on_device(model: Network, device: torch.device) -> Network:
    """The model on its device, its weights laid out as 3-D convolutions want them there."""
    if device.type == "mps":  # knows no channels-last layout of five axes
        return model.to(device)
    return model.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]
