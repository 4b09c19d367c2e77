"""Networks through OpenVINO, on a CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from p2ch_luna.inference.conversion import INPUT, Answers, traced
from p2ch_luna.inference.unreported import import_unreported
from p2ch_luna.models.outline import Outliner

if TYPE_CHECKING:
    import openvino


def through_openvino(model: nn.Module, answers: int | None = None) -> OpenVinoNetwork:
    """The network with its own weights; of what it answers the first so many, None: all.

    It computes in bfloat16 where the CPU can, but for a network that measures an outline: rounded, the
    measures would say something else.
    """
    network = Answers(model, answers)
    measures = any(isinstance(part, Outliner) for part in model.modules())
    return OpenVinoNetwork(as_openvino(network), is_exact=measures, is_single=network.is_single)


class OpenVinoNetwork(nn.Module):
    """A network compiled by OpenVINO: (B, 1, D, H, W) float32 HU -> a tuple of float32 answers, or one.

    source: it in OpenVINO's own form, or the .xml file of that.    is_exact: in float32; else in bfloat16
    where the CPU can. It uses as many threads as torch, and a copy of the weights.
    """

    def __init__(self, source: openvino.Model | Path, *, is_exact: bool, is_single: bool) -> None:
        super().__init__()
        self._is_single = is_single
        self._compiled = _compiled(source, is_exact=is_exact)

    def forward(self, hu: Tensor) -> Tensor | tuple[Tensor, ...]:
        """One pass."""
        found = self._compiled(hu.numpy())
        tensors = tuple(torch.from_numpy(found[output]) for output in self._compiled.outputs)
        return tensors[0] if self._is_single else tensors


def as_openvino(network: Answers) -> openvino.Model:
    """The network in OpenVINO's own form, for inputs of any size.

    `openvino.convert_model` does the same, but traces twice.
    """
    frontends = import_unreported("openvino.frontend")
    decoders = import_unreported("openvino.frontend.pytorch.ts_decoder")
    decoder = decoders.TorchScriptPythonDecoder(
        traced(network), shared_memory=False
    )  # a name: the conversion needs it
    frontend = frontends.FrontEndManager().load_by_framework("pytorch")
    converted = frontend.convert(frontend.load(decoder))
    converted.reshape([-1, 1, -1, -1, -1])
    named = zip((INPUT, *network.names), (*converted.inputs, *converted.outputs), strict=True)
    for name, port in named:
        port.get_tensor().set_names({name})
    return converted


@cache
def _core() -> openvino.Core:
    """One for the process, and to its end.

    Its CPU plugin gives signals a stack of its own and puts back the one of before when it goes. Of several
    that go in another order than they came one puts back what another has freed: the next signal, be it
    Ctrl-C, then ends the process with a segmentation fault.
    """
    return import_unreported("openvino").Core()


def _compiled(source: openvino.Model | Path, *, is_exact: bool) -> openvino.CompiledModel:
    core = _core()
    is_fast_in_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if is_fast_in_bf16 and not is_exact else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    return core.compile_model(source, "CPU", settings)
