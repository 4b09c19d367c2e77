"""The formats by name: how a network is written in each, and loaded again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as symbolic

from p2ch_luna.errors import LunaError
from p2ch_luna.export.schema import FormatName
from p2ch_luna.inference.conversion import AXES, INPUT, Answers, as_onnx, example, side_multiple, traced
from p2ch_luna.inference.runtime_onnx import OnnxNetwork
from p2ch_luna.inference.runtime_openvino import OpenVinoNetwork, as_openvino
from p2ch_luna.inference.unreported import import_unreported

Loaded = Callable[[Tensor], Tensor | tuple[Tensor, ...]]

SETTING = "backed_size_oblivious"  # of torch.export


class Format(NamedTuple):
    """One format. The first suffix is of the file to open."""

    suffixes: tuple[str, ...]
    packages: tuple[str, ...]  # beside torch; the first is the runtime
    write: Callable[[Answers, Path], None]
    load: Callable[[Path, bool], Loaded]  # the file, and whether it gives a single tensor; in float32
    smallest_sides: int = 1  # multiples of the network's `side_multiple`


def has_torch_export() -> bool:
    """Whether this torch has the setting that `torch_export` needs; it is a private one."""
    return hasattr(symbolic, SETTING)


def torch_export(network: Answers) -> torch.export.ExportedProgram:
    """The network as `torch.export` sees it, for any batch and sides from two multiples on.

    With one multiple the coarsest grid is a single place, which torch.export takes for another program.
    Raises LunaError where torch is too old, or too new.
    """
    if not has_torch_export():
        raise LunaError(
            f"torch-export: torch {torch.__version__} has no setting {SETTING}; wanted one that has it"
        )
    multiple = side_multiple(network.model)
    sides = {axis: multiple * torch.export.Dim(name, min=2) for axis, name in AXES.items() if axis}
    shapes = {INPUT: {0: torch.export.Dim(AXES[0]), **sides}}
    # else the one or two places in the middle of an axis, which the classifier looks at, fix the parity of it
    oblivious = symbolic.patch({SETTING: True})  # type: ignore[attr-defined]
    with oblivious, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own code
        return torch.export.export(network, (example(network, 2),), dynamic_shapes=shapes)


def _write_onnx(network: Answers, path: Path) -> None:
    path.write_bytes(as_onnx(network))


def _load_onnx(path: Path, is_single: bool) -> Loaded:
    return OnnxNetwork(path, is_single=is_single)


def _write_openvino(network: Answers, path: Path) -> None:
    import_unreported("openvino").save_model(as_openvino(network), path, compress_to_fp16=False)


def _load_openvino(path: Path, is_single: bool) -> Loaded:
    return OpenVinoNetwork(path, is_exact=True, is_single=is_single)


def _write_torch_export(network: Answers, path: Path) -> None:
    torch.export.save(torch_export(network), path)


def _load_torch_export(path: Path, is_single: bool) -> Loaded:  # noqa: ARG001
    program: nn.Module = torch.export.load(path).module()
    return program


def _write_torchscript(network: Answers, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is old
        torch.jit.save(traced(network), path)


def _load_torchscript(path: Path, is_single: bool) -> Loaded:  # noqa: ARG001
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        loaded: nn.Module = torch.jit.load(path)  # type: ignore[no-untyped-call]
        return loaded


FORMATS: Mapping[FormatName, Format] = {
    "onnx": Format((".onnx",), ("onnxruntime", "onnx"), _write_onnx, _load_onnx),
    "openvino": Format((".xml", ".bin"), ("openvino",), _write_openvino, _load_openvino),
    "torch-export": Format((".pt2",), (), _write_torch_export, _load_torch_export, smallest_sides=2),
    "torchscript": Format((".ts.pt",), (), _write_torchscript, _load_torchscript),
}
