"""How far an exported network is from the one that it was made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from p2ch_luna.export.formats import Loaded

LIMIT = 1e-3  # of probabilities, in float32
LUNG_HU, NODULE_HU, STEP_HU, NOISE_HU = -850.0, 30.0, 150.0, 40.0
NODULE_VOXELS = 4.0  # its radius


def inputs(multiple: int, smallest: int) -> tuple[Tensor, ...]:
    """Two batches of nodules in noise, of different numbers and sides, in HU."""
    rng = torch.Generator().manual_seed(0)
    least = -(-max(smallest, 32) // multiple)  # in multiples
    sides = [multiple * (least + more) for more in (0, 1, 2)]
    shapes = [(1, 1, *sides), (3, 1, sides[1], sides[0], sides[0])]
    return tuple(_nodules(shape, rng) for shape in shapes)


def largest_difference(model: nn.Module, loaded: Loaded, batches: Sequence[Tensor]) -> float:
    """Of all answers to all batches; NaN where one answers that."""
    with torch.inference_mode():
        gaps = [
            (one - other).abs().max()
            for hu in batches
            for one, other in zip(comparable(model(hu)), comparable(loaded(hu)), strict=True)
        ]
    return float(torch.stack(gaps).max())


def comparable(answers: Tensor | Sequence[Tensor | None]) -> list[Tensor]:
    """Probabilities in place of logits, in float32; the logarithm of a diameter, the third, stays."""
    tensors = [answers] if isinstance(answers, Tensor) else [x for x in answers if x is not None]
    return [x.float() if number == 2 else x.float().sigmoid() for number, x in enumerate(tensors)]


def _nodules(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """HU (B, 1, D, H, W) with a ball in the middle of each volume, of another density in each."""
    offsets = torch.meshgrid(*(torch.arange(n) - n / 2 for n in shape[2:]), indexing="ij")
    is_inside = sum(offset**2 for offset in offsets) <= NODULE_VOXELS**2
    hu = LUNG_HU + NOISE_HU * torch.randn(shape, generator=rng)
    density = NODULE_HU - STEP_HU * (torch.arange(shape[0]) % 4).reshape(-1, 1, 1, 1, 1)
    return torch.where(torch.as_tensor(is_inside), hu - LUNG_HU + density, hu)
