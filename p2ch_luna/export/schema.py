"""What is said of exported files, in NAME.export.json beside them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from p2ch_luna.frozen import Frozen

FormatName = Literal["onnx", "openvino", "torch-export", "torchscript"]


class Tensor(Frozen):
    """An input or an output, float32."""

    name: str
    shape: tuple[int | str, ...]  # a word: an axis of any size, the same wherever the word is
    meaning: str


class ExportedFile(Frozen):
    """The network in one format."""

    format: FormatName
    files: tuple[str, ...]  # beside this one; the first is the one to open
    sha256: tuple[str, ...]  # of each
    smallest_side: int = Field(gt=0)  # of depth, height and width, in voxels
    largest_difference: float = Field(ge=0)  # from torch in float32; of probabilities, and of log_diameter
    largest_logit_difference: float = Field(ge=0)  # the same of logits within ±16
    compared_on: tuple[tuple[int, ...], ...]  # shapes of the inputs
    runtime: str  # what it was loaded by for that, with its version


class Export(Frozen):
    """A network and the files that were made of it."""

    name: str
    card: str  # the model's card, beside this file
    weights_sha256: str  # of the .safetensors that it was made of
    input: Tensor
    outputs: tuple[Tensor, ...]
    side_multiple: int = Field(gt=0)  # depth, height and width are multiples of it
    voxel_mm: float = 1.0  # what the input is sampled at along each axis
    window_hu: tuple[float, float]  # inside the network: HU go in as they are
    files: tuple[ExportedFile, ...]
    software: str
