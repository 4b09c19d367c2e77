"""Which library computes the networks: torch, or on a CPU another one, with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import nn

from p2ch_luna.errors import LunaError
from p2ch_luna.inference.fast import ready
from p2ch_luna.inference.runtime_onnx import through_onnxruntime
from p2ch_luna.inference.runtime_openvino import through_openvino
from p2ch_luna.inference.unreported import import_unreported

Runtime = Literal["torch", "openvino", "onnxruntime"]


class Other(NamedTuple):
    """A library beside torch; its extra is called as itself."""

    packages: tuple[str, ...]  # what must be installed
    through: Callable[[nn.Module, int | None], nn.Module]  # a network, and how many of its answers are wanted


OTHERS: Mapping[Runtime, Other] = {
    "openvino": Other(("openvino",), through_openvino),
    "onnxruntime": Other(("onnx", "onnxruntime"), through_onnxruntime),
}


def check_runtime(runtime: Runtime, device: torch.device) -> None:
    """Raise LunaError for a runtime that is not installed or does not compute on this device."""
    if runtime == "torch":
        return
    if runtime not in OTHERS:
        raise LunaError(f"runtime {runtime!r}: wanted torch, {' or '.join(OTHERS)}")
    if device.type != "cpu":
        raise LunaError(
            f"runtime {runtime!r} on {device.type}: it computes on the CPU alone; wanted device cpu"
        )
    check_packages(f"runtime {runtime!r}", OTHERS[runtime].packages, extra=runtime)


def check_packages(what: str, packages: tuple[str, ...], extra: str) -> None:
    """Raise LunaError, of `what`, where one of the packages of an extra is not installed."""
    for package in packages:
        try:
            import_unreported(package)
        except ImportError as error:
            raise LunaError(
                f'{what}: the package {package} is not installed; wanted pip install "p2ch-luna[{extra}]"'
            ) from error


def on_runtime(
    model: nn.Module, device: torch.device, runtime: Runtime, answers: int | None = None
) -> nn.Module:
    """The network, ready to be called without gradients as before, computed by this library.

    answers: how many of the tensors that it returns are wanted; None: all.
    Raises LunaError as `check_runtime`.
    """
    check_runtime(runtime, device)
    if runtime == "torch":
        return ready(model, device)
    return OTHERS[runtime].through(model.eval(), answers)
