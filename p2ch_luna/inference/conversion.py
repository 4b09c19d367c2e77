"""Networks in the form that other libraries take: named answers, one trace, inputs of any size."""

from __future__ import annotations

import copy
import io
import warnings

import torch
from torch import Tensor, nn

from p2ch_luna.errors import LunaError
from p2ch_luna.models.blocks import Conv3x3x3
from p2ch_luna.models.classifier import NoduleClassifier

INPUT = "hu"
MASK, OUTLINE = "mask_logit", "outline_logit"  # answers of each voxel; all others are one number a crop
AXES = {0: "batch", 2: "depth", 3: "height", 4: "width"}  # that may be of any size; the second is always 1
OPSET = 17  # of ONNX; what onnxruntime has known since 1.12, in a browser too


class Answers(nn.Module):
    """A network that gives only tensors, of which each has a name: (B, 1, D, H, W) HU -> a tuple, or one.

    count: how many of them are wanted; None: all.
    """

    def __init__(self, model: nn.Module, count: int | None = None) -> None:
        super().__init__()
        self.model = _without_detours(model)
        names = _heads(model) if isinstance(model, NoduleClassifier) else (MASK,)
        self.is_single = names == (MASK,)
        self.names = names[:count]
        self.eval().requires_grad_(False)

    def forward(self, hu: Tensor) -> Tensor | tuple[Tensor, ...]:
        """One pass."""
        found = self.model(hu)
        if self.is_single:
            return found  # type: ignore[no-any-return]
        return tuple(answer for answer in found if answer is not None)[: len(self.names)]


def side_multiple(model: nn.Module) -> int:
    """What the sides of an input are multiples of. Raises LunaError for a network that does not tell."""
    if isinstance(model, NoduleClassifier):
        near = len(model.near) if isinstance(model.near, nn.Sequential) else 0  # it sees half of each side
        return int(2 ** max(len(model.down) + 1, near))
    multiple = getattr(model, "multiple", None)
    if not isinstance(multiple, int):
        raise LunaError(f"a {type(model).__name__} has no `multiple`; wanted what its sides are multiples of")
    return multiple


def example(network: Answers, batch: int = 1) -> Tensor:
    """A small input that a network can be followed on; what comes of that takes any other."""
    return torch.zeros(batch, 1, *[2 * side_multiple(network.model)] * 3)


def traced(network: Answers) -> torch.jit.ScriptModule:
    """What the network does, as TorchScript, for inputs of any size."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that this is old, and that the checks of shapes stay behind
        return torch.jit.trace(network, example(network), check_trace=False)  # type: ignore[no-untyped-call, no-any-return]


def as_onnx(network: Answers) -> bytes:
    """The network as ONNX, for inputs of any size.

    By the exporter that follows TorchScript. The newer one (`dynamo=True`) converts these networks too, with
    the same answers, but takes 8 s for each where this one takes 0.3 s, and a diagnosis converts three; what
    it makes is no faster, and it needs onnxscript.
    """
    content = io.BytesIO()
    named = (INPUT, *network.names)
    axes = {name: AXES if name in (INPUT, MASK, OUTLINE) else {0: AXES[0]} for name in named}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # as above
        torch.onnx.export(
            network,
            (example(network),),
            content,  # type: ignore[arg-type]  # a file that is open is taken too
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(network.names),
            dynamic_axes=axes,
        )
    return content.getvalue()


def _heads(model: NoduleClassifier) -> tuple[str, ...]:
    """Fields of its `Verdict` that are there, in their order."""
    diameter = ("log_diameter",) if "diameter" in model.heads else ()
    outline = (OUTLINE,) if model.outline is not None else ()
    return ("nodule_logit", "malignancy_logit", *diameter, *outline)


def _without_detours(model: nn.Module) -> nn.Module:
    """A copy without `Conv3x3x3`: it goes round a fault of training alone, by the size that it is given."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Conv3x3x3):
                plain = nn.Conv3d(child.in_channels, child.out_channels, 3, padding=1, bias=False)
                plain.weight = child.weight
                setattr(parent, name, plain)
    return model
