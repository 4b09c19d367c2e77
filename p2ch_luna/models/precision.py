"""The precision and memory layout that networks compute in, the same in training and in use."""

from __future__ import annotations

import re
from typing import Literal, TypeVar

import torch
from torch import nn

from p2ch_luna.errors import LunaError

Network = TypeVar("Network", bound=nn.Module)
Precision = Literal["auto", "bf16", "fp16", "fp32"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def device_of(name: str) -> torch.device:
    """The device that auto, cpu, cuda, cuda:1 or mps stands for; auto: CUDA if it is there, else the CPU.

    Raises LunaError if it is not there.
    """
    # a driver too old for this torch is counted, and cannot be used
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    counts = {"cpu": 1, "cuda": gpus, "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = "cuda" if counts["cuda"] else "cpu"
    asked = re.fullmatch(r"(?P<kind>cpu|cuda|mps)(:(?P<number>0|[1-9][0-9]*))?", name)
    if not asked:
        raise LunaError(f"device {name}: wanted auto, {', '.join(counts)}, or a numbered one such as cuda:1")
    if int(asked["number"] or 0) >= counts[asked["kind"]]:
        there = ", ".join(["cpu", *(f"cuda:{k}" for k in range(gpus)), *["mps"] * counts["mps"]])
        raise LunaError(f"device {name}: torch {torch.__version__} finds none here; there is {there}")
    return torch.device(name)


def autocast(device: torch.device, precision: Precision = "auto") -> torch.autocast:
    """Convolutions in the precision; auto: bfloat16 where the device computes in it faster than in float32.

    float16 needs its losses scaled in training, bfloat16 does not.
    """
    if precision == "auto":
        precision = "bf16" if _is_fast_in_bf16(device) else "fp32"
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def check_precision(device: torch.device, precision: Precision) -> None:
    """Raise LunaError for a precision that the device does not train in."""
    if precision == "fp16" and device.type != "cuda":
        raise LunaError(
            f"compute.precision = 'fp16' on {device.type}: its gradients cannot be scaled there; "
            "wanted auto, bf16 or fp32, or a CUDA device"
        )


def _is_fast_in_bf16(device: torch.device) -> bool:
    if device.type == "cpu":  # without AVX-512 oneDNN has no bfloat16 convolution, and torch's own is slow
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def on_device(model: Network, device: torch.device, *, channels_last: bool = True) -> Network:
    """The model on its device, its weights laid out as 3-D convolutions want them there."""
    if device.type == "mps" or not channels_last:  # mps knows no channels-last layout of five axes
        return model.to(device)
    return model.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]
