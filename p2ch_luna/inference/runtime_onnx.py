"""Networks through ONNX Runtime, on a CPU."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from p2ch_luna.inference.conversion import INPUT, Answers, as_onnx
from p2ch_luna.inference.unreported import import_unreported


def through_onnxruntime(model: nn.Module, answers: int | None = None) -> OnnxNetwork:
    """The network with its own weights; of what it answers the first so many, None: all."""
    network = Answers(model, answers)
    return OnnxNetwork(as_onnx(network), is_single=network.is_single)


class OnnxNetwork(nn.Module):
    """A network in ONNX Runtime: (B, 1, D, H, W) float32 HU -> a tuple of float32 answers, or one.

    source: the content of an ONNX file, or where it lies. It computes in float32, with as many threads as
    torch and a copy of the weights.
    """

    def __init__(self, source: bytes | Path, *, is_single: bool) -> None:
        super().__init__()
        onnxruntime = import_unreported("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        self._is_single = is_single
        content = source if isinstance(source, bytes) else str(source)
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def forward(self, hu: Tensor) -> Tensor | tuple[Tensor, ...]:
        """One pass."""
        tensors = tuple(map(torch.from_numpy, self._session.run(None, {INPUT: hu.numpy()})))
        return tensors[0] if self._is_single else tensors
