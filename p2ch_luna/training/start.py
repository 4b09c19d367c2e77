"""The network that a training begins with: fresh or taken over, some of it frozen."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from p2ch_luna.errors import LunaError
from p2ch_luna.models.build import build_model
from p2ch_luna.models.checkpoint import load_model, weights_at
from p2ch_luna.training.lineage import Split

HEADS = "heads."  # what a network is asked for; the same trunk may have more or fewer

log = logging.getLogger(__name__)


def start_model(
    name: str,
    arguments: Mapping[str, Any],
    *,
    init_from: Path | None = None,
    new: Sequence[str] = (),
    frozen: Sequence[str] = (),
) -> tuple[nn.Module, Split | None]:
    """A network, its weights from a model file or a run's folder, but for the `new` parts; on the CPU.

    Beside it, who those weights were trained on, as their card says; None for fresh ones.
    new, frozen: names of modules, as "stem" or "heads.malignancy". What is frozen has no gradient. Raises
    LunaError for a part that the network has not, or weights of another network.
    """
    model = build_model(name, arguments)
    for key, parts in (("start.new", new), ("start.frozen", frozen)):
        _check_parts(model, key, parts)
    split = None if init_from is None else _take_over(model, name, weights_at(init_from), new)
    for part in frozen:
        model.get_submodule(part).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise LunaError(f"start.frozen = {list(frozen)}: nothing is left to train")
    return model, split


def _check_parts(model: nn.Module, key: str, parts: Sequence[str]) -> None:
    there = [name for name, _ in model.named_modules() if name]
    for part in parts:
        if part not in there:
            near = difflib.get_close_matches(part, there, n=3) or [name for name in there if "." not in name]
            raise LunaError(f"{key}: the network has no part {part!r}; there are {', '.join(near)}")


def _take_over(model: nn.Module, name: str, weights: Path, new: Sequence[str]) -> Split:
    """Fill the model but for `new`; a head that it has not is left behind. Returns the source's split."""
    source, card = load_model(weights, builder=name)
    surplus = [part for part, _ in source.named_modules() if part.startswith(HEADS)]
    surplus = sorted(set(surplus) - {part for part, _ in model.named_modules()})
    if surplus:
        log.warning("start.init_from = %s: %s left behind, as [model] says", weights, ", ".join(surplus))
    left_out = [*new, *surplus]
    state = {key: value for key, value in source.state_dict().items() if not _is_in(key, left_out)}
    own = model.state_dict()
    for key in sorted(own.keys() | state.keys()):
        if _is_in(key, new):
            continue
        found, wanted = (_shape(state.get(key)), _shape(own.get(key)))
        if found != wanted:
            raise LunaError(
                f"start.init_from = {weights}: its {key} is {found}; wanted {wanted}, as [model] says "
                "(start.new names parts that begin anew)"
            )
    model.load_state_dict(state, strict=False)
    return card.split


def _is_in(key: str, parts: Sequence[str]) -> bool:
    return any(key.startswith(f"{part}.") for part in parts)


def _shape(tensor: Tensor | None) -> str:
    return "not there" if tensor is None else "×".join(map(str, tensor.shape)) or "a number"
