"""Networks by name: the one table from a name in a config or a card to a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from p2ch_luna.errors import LunaError
from p2ch_luna.models.classifier import NoduleClassifier
from p2ch_luna.models.unet import SegmentationUNet

BUILDERS: Mapping[str, Callable[..., nn.Module]] = {
    "segmentation_unet": SegmentationUNet,
    "nodule_classifier": NoduleClassifier,
}


def build_model(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network with fresh weights."""
    if name not in BUILDERS:
        raise LunaError(f"model {name!r} is not known; there are {', '.join(sorted(BUILDERS))}")
    try:
        return BUILDERS[name](**arguments)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:  # all that torch may say of a number
        raise LunaError(f"model {name!r} cannot be built with {dict(arguments)}: {error}") from error
