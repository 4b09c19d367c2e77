"""How far an exported network is from the one that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from p2ch_luna.export.formats import Loaded
from p2ch_luna.inference.joint import LOGIT_LIMIT

Output = Tensor | Sequence[Tensor | None]  # of a network: one answer, or several by their places

LUNG_HU, NODULE_HU, NOISE_HU = -850.0, 30.0, 40.0
RADIUS_VOXELS = 3.0  # of a nodule and of a vessel


class Gap(NamedTuple):
    """The largest differences of all answers to all batches, in float32; NaN where one answers that."""

    probability: float  # of probabilities, and of log_diameter
    logit: float  # of logits within `LOGIT_LIMIT`: a sure probability hides what the joint one is made of

    def is_within(self, limits: Gap) -> bool:
        """Whether neither is larger, and both are numbers."""
        return self.probability <= limits.probability and self.logit <= limits.logit


LIMITS = Gap(probability=1e-3, logit=1e-2)


def inputs(multiple: int, smallest: int) -> tuple[Tensor, ...]:
    """Two batches of different numbers and sides, in HU: a nodule; a nodule, a vessel and plain lung."""
    rng = torch.Generator().manual_seed(0)
    least = -(-max(smallest, 32) // multiple)  # in multiples
    sides = [multiple * (least + more) for more in (0, 1, 2)]
    shapes = [(1, 1, *sides), (3, 1, sides[1], sides[0], sides[0])]
    return tuple(_lungs(shape, rng) for shape in shapes)


def largest_difference(model: nn.Module, loaded: Loaded, batches: Sequence[Tensor]) -> Gap:
    """Of the answers of both to these batches in HU."""
    with torch.inference_mode():
        pairs = [(model(hu), loaded(hu)) for hu in batches]
        return Gap(_largest(comparable, pairs), _largest(_logits, pairs))


def comparable(answers: Output) -> list[Tensor]:
    """Probabilities in place of logits, in float32; the logarithm of a diameter, the third, stays."""
    return [x if number == 2 else x.sigmoid() for number, x in enumerate(_tensors(answers))]


def _logits(answers: Output) -> list[Tensor]:
    """As far as a joint probability looks at them; the third is none."""
    within = [x.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) for x in _tensors(answers)]
    return within[:2] + within[3:]


def _tensors(answers: Output) -> list[Tensor]:
    """Those that there are, in float32."""
    tensors = [answers] if isinstance(answers, Tensor) else answers
    return [x.float() for x in tensors if x is not None]


def _largest(seen: Callable[[Output], list[Tensor]], pairs: Sequence[tuple[Output, Output]]) -> float:
    """The largest difference between two outputs, in what is seen of them."""
    gaps = [
        (one - other).abs().max() for outputs in pairs for one, other in zip(*map(seen, outputs), strict=True)
    ]
    return float(torch.stack(gaps).max())


def _lungs(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """HU (B, 1, D, H, W) of noisy lung; in the middle in turn a ball, a rod along the index, nothing."""
    index, row, col = torch.meshgrid(*(torch.arange(n) - n / 2 for n in shape[2:]), indexing="ij")
    rod = row**2 + col**2 <= RADIUS_VOXELS**2
    ball = index**2 + row**2 + col**2 <= RADIUS_VOXELS**2
    kinds = [ball, rod, torch.zeros_like(ball)]
    is_dense = torch.stack([kinds[number % len(kinds)] for number in range(shape[0])])[:, None]
    hu = LUNG_HU + NOISE_HU * torch.randn(shape, generator=rng)
    return torch.where(is_dense, hu - LUNG_HU + NODULE_HU, hu)
