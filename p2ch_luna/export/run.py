"""Export one network: write it, load what was written, compare, and say what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import nn

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.export.formats import FORMATS
from p2ch_luna.export.parity import LIMITS, inputs, largest_difference
from p2ch_luna.export.schema import Export, ExportedFile, FormatName, Tensor
from p2ch_luna.files import publishing
from p2ch_luna.inference.conversion import AXES, INPUT, MASK, OUTLINE, Answers, side_multiple
from p2ch_luna.inference.runtime import check_packages
from p2ch_luna.models.checkpoint import ModelCard, load_model

VOXELS: tuple[int | str, ...] = (AXES[0], 1, AXES[2], AXES[3], AXES[4])
MEANINGS = {
    INPUT: "CT in HU, sampled at 1 mm; axes are voxel index, row, col",
    MASK: "logit: the voxel belongs to a nodule",
    "nodule_logit": "logit: a nodule is in the middle of the crop",
    "malignancy_logit": "logit: it looks malignant to radiologists; said only by networks that learnt it",
    "log_diameter": "natural logarithm of its diameter in mm; said only by networks that learnt it",
    OUTLINE: "logit: the voxel belongs to the nodule in the middle of the crop",
}


def sidecar(name: str) -> str:
    """The file that says what was exported."""
    return f"{name}.export.json"


def export_model(
    weights: Path,
    name: str,
    formats: Sequence[FormatName],
    folder: Path,
    stage: Callable[[str], None] = lambda _text: None,
) -> Export:
    """Write the network of these weights into `folder` in each format, its card and `sidecar(name)`.

    All of it or nothing: what an earlier export has left under this name is replaced then, also in formats
    that are not wanted now. stage: hears what is being done. Raises LunaError where a package is missing,
    where `folder` has a card of this name of another model, or where a file answers other than the network,
    by more than `LIMITS`.
    """
    for wanted in formats:
        check_packages(f"format {wanted!r}", FORMATS[wanted].packages, extra="export")
    model, card = load_model(weights)
    network = Answers(model)
    earlier = _earlier(folder, name)
    _check_card(folder / f"{name}.json", card, earlier)
    stale = [file for one in earlier.files for file in one.files] if earlier else []
    with publishing(folder, sidecar(name), stale) as temporary:
        files = []
        for wanted in dict.fromkeys(formats):
            stage(f"{name} as {wanted}")
            files.append(_export(model, network, wanted, temporary, name))
        export = Export(
            name=name,
            card=f"{name}.json",
            weights_sha256=card.weights_sha256,
            input=_tensor(INPUT),
            outputs=tuple(map(_tensor, network.names)),
            side_multiple=side_multiple(model),
            window_hu=_window(model),
            files=tuple(files),
            software=f"p2ch-luna {__version__}, torch {torch.__version__}",
        )
        (temporary / export.card).write_text(card.to_json(), encoding="utf-8")
        (temporary / sidecar(name)).write_text(export.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return export


def _export(model: nn.Module, network: Answers, wanted: FormatName, folder: Path, name: str) -> ExportedFile:
    """Write one format into `folder` and compare it."""
    form = FORMATS[wanted]
    names = [f"{name}{suffix}" for suffix in form.suffixes]
    form.write(network, folder / names[0])
    smallest = form.smallest_sides * side_multiple(model)
    batches = inputs(side_multiple(model), smallest)
    gap = largest_difference(model, form.load(folder / names[0], network.is_single), batches)
    if not gap.is_within(LIMITS):
        raise LunaError(
            f"{folder / names[0]}: probabilities differ from torch's by {gap.probability:.2g}, logits by "
            f"{gap.logit:.2g}; wanted at most {LIMITS.probability:g} and {LIMITS.logit:g}"
        )
    runtime = (*form.packages, "torch")[0]
    return ExportedFile(
        format=wanted,
        files=tuple(names),
        sha256=tuple(hashlib.sha256((folder / one).read_bytes()).hexdigest() for one in names),
        smallest_side=smallest,
        largest_difference=gap.probability,
        largest_logit_difference=gap.logit,
        compared_on=tuple(tuple(hu.shape) for hu in batches),
        runtime=f"{runtime} {version(runtime)}",
    )


def _tensor(name: str) -> Tensor:
    shape = VOXELS if name in (INPUT, MASK, OUTLINE) else VOXELS[:1]
    return Tensor(name=name, shape=shape, meaning=MEANINGS[name])


def _window(model: nn.Module) -> tuple[float, float]:
    """HU, as saved with the weights."""
    low, high = model.state_dict()["window.low_high"].tolist()
    return low, high


def _earlier(folder: Path, name: str) -> Export | None:
    """The export of this name that is there."""
    with suppress(OSError, ValidationError):
        return Export.model_validate_json((folder / sidecar(name)).read_bytes())
    return None


def _check_card(path: Path, card: ModelCard, earlier: Export | None) -> None:
    """Raise LunaError for a card that would be lost: not of the earlier export, and not the one to write."""
    if not path.exists():
        return
    with suppress(OSError, ValidationError):
        found = ModelCard.model_validate_json(path.read_bytes())
        if found == card or (earlier is not None and found.weights_sha256 == earlier.weights_sha256):
            return
    raise LunaError(f"{path}: is no card of this model or of an earlier export; wanted another folder")
