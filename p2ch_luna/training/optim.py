"""Optimiser, learning-rate schedule and averaged weights."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

EMA_WARMUP = 10  # the average of few steps forgets faster: the first weights are random


def make_optimizer(model: nn.Module, lr: float, weight_decay: float) -> AdamW:
    """AdamW of what is not frozen; biases and norms are not decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)  # one pass over the weights
    return AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=lr,
        fused=fused,
    )


def warmup_cosine(optimizer: Optimizer, warmup_steps: int, total_steps: int) -> LambdaLR:
    """Rise linearly for `warmup_steps`, then fall along a half cosine to 0 at `total_steps`."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return LambdaLR(optimizer, factor)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights towards the model's after `step` steps, in place.

    Exponential moving average (Polyak and Juditsky 1992; as in Tarvainen and Valpola 2017,
    arXiv:1703.01780), of batch norm's statistics too. Until 10 / (1 - decay) steps it forgets faster.
    """
    weight = 1 - min(decay, (1 + step) / (EMA_WARMUP + step))
    pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
    means = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in means], [b for _, b in means], weight)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)  # batch norm's count of batches
