"""Which library computes the networks: torch, or on a CPU OpenVINO, with the same weights."""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from p2ch_luna.errors import LunaError
from p2ch_luna.inference.fast import ready
from p2ch_luna.models.outline import Outliner

if TYPE_CHECKING:
    import openvino

Runtime = Literal["torch", "openvino"]

# Of the input that a network is followed on; it takes any other then. No grid within it is two slices deep,
# where `blocks.Conv3x3x3` goes another way.
EXAMPLE = (1, 1, 48, 48, 48)


def check_runtime(runtime: Runtime, device: torch.device) -> None:
    """Raise LunaError for a runtime that is not installed or does not compute on this device."""
    if runtime == "torch":
        return
    if device.type != "cpu":
        raise LunaError(
            f"runtime {runtime!r} on {device.type}: it computes on the CPU alone; wanted device cpu"
        )
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        raise LunaError(
            "runtime 'openvino': the package openvino is not installed; wanted "
            'pip install "p2ch-luna[openvino]"'
        ) from error


def on_runtime(
    model: nn.Module, device: torch.device, runtime: Runtime, answers: int | None = None
) -> nn.Module:
    """The network, ready to be called without gradients as before, computed by this library.

    answers: how many of the tensors that it returns are wanted; None: it returns a single one.
    Raises LunaError as `check_runtime`.
    """
    check_runtime(runtime, device)
    if runtime == "torch":
        return ready(model, device)
    return OpenVinoNetwork(model.eval(), answers)


class OpenVinoNetwork(nn.Module):
    """A network compiled by OpenVINO: (B, 1, D, H, W) float32 HU -> what `model` answers, in float32.

    With `answers` it is a tuple of the first so many tensors, and what leads to the others is not computed.
    It computes in bfloat16 where the CPU can, but for a network that measures an outline: rounded, the
    measures would say something else. It uses as many threads as torch, and a copy of the weights.
    """

    def __init__(self, model: nn.Module, answers: int | None = None) -> None:
        super().__init__()
        self._is_single = answers is None
        measures = any(isinstance(part, Outliner) for part in model.modules())
        converted = _converted(model if answers is None else _First(model, answers))
        self._compiled = _compiled(converted, is_exact=measures)

    def forward(self, hu: Tensor) -> Tensor | tuple[Tensor, ...]:
        """One pass."""
        found = self._compiled(hu.numpy())
        tensors = tuple(torch.from_numpy(found[output]) for output in self._compiled.outputs)
        return tensors[0] if self._is_single else tensors


class _First(nn.Module):
    """The first so many of the tensors that a network returns."""

    def __init__(self, model: nn.Module, count: int) -> None:
        super().__init__()
        self.model, self.count = model, count

    def forward(self, hu: Tensor) -> tuple[Tensor, ...]:
        """As the network itself."""
        return tuple(self.model(hu)[: self.count])


def _converted(model: nn.Module) -> openvino.Model:
    """The network in OpenVINO's own form, for inputs of any size.

    `openvino.convert_model` does the same, but reports its use to Intel where the user has once agreed to
    that, and traces twice.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that this is old, and that the checks of shapes stay behind
        traced = torch.jit.trace(model, torch.zeros(EXAMPLE), check_trace=False)  # type: ignore[no-untyped-call]
    decoder = TorchScriptPythonDecoder(traced, shared_memory=False)  # a name: it must outlive the conversion
    frontend = FrontEndManager().load_by_framework("pytorch")
    converted = frontend.convert(frontend.load(decoder))
    converted.reshape([-1, 1, -1, -1, -1])
    return converted


@cache
def _core() -> openvino.Core:
    """One for the process, and to its end.

    Its CPU plugin gives signals a stack of its own and puts back the one of before when it goes. Of several
    that go in another order than they came one puts back what another has freed: the next signal, be it
    Ctrl-C, then ends the process with a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _compiled(model: openvino.Model, *, is_exact: bool) -> openvino.CompiledModel:
    core = _core()
    is_fast_in_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if is_fast_in_bf16 and not is_exact else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    return core.compile_model(model, "CPU", settings)
