"""The loop: one step, one epoch. What it touches is in its signatures; tasks bring their own loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from p2ch_luna.errors import LunaError

# A batch in, already on the device, to the parts of its loss; their sum is minimised.
BatchLoss = Callable[[nn.Module, Any], Mapping[str, Tensor]]
GRADIENT_NORM = "gradient_norm"
CHECK_EVERY = 20  # steps between looks at the loss: each look makes a GPU wait


@dataclass(frozen=True)
class EpochResult:
    """What one epoch of training was like; losses are means over its steps."""

    losses: dict[str, float]
    gradient_norm: float
    samples_per_second: float
    waiting_share: float  # of the time, for data


def train_step(
    model: nn.Module,
    batch_loss: BatchLoss,
    batch: Any,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    clip_norm: float,
) -> tuple[dict[str, Tensor], Tensor]:
    """Update the model on one batch, augmented and on its device; the loss's parts and gradient norm."""
    losses = batch_loss(model, batch)
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    scheduler.step()
    return {name: loss.detach() for name, loss in losses.items()}, norm.detach()


def train_one_epoch(
    model: nn.Module,
    batch_loss: BatchLoss,
    batches: Iterable[Any],
    optimizer: Optimizer,
    scheduler: LRScheduler,
    *,
    clip_norm: float,
    device: torch.device,
    augment: Callable[[Any], Any],
    on_step: Callable[[dict[str, float]], None],
) -> EpochResult:
    """Train on the batches, augmented on the device; `on_step` hears the losses of every step.

    Stops with a LunaError at a loss or gradient that is not finite, at most `CHECK_EVERY` steps late and
    before the epoch ends, so that no checkpoint is written of it.
    """
    model.train()
    pending: list[dict[str, Tensor]] = []
    history: list[dict[str, float]] = []
    waiting, n_samples = 0.0, 0
    start = asked = time.perf_counter()
    for batch in batches:
        waiting += time.perf_counter() - asked
        batch = augment(to_device(batch, device))
        losses, norm = train_step(model, batch_loss, batch, optimizer, scheduler, clip_norm)
        pending.append({**losses, GRADIENT_NORM: norm})
        n_samples += len(batch[0])
        if len(pending) == CHECK_EVERY:
            history += _checked(pending, on_step)
        asked = time.perf_counter()
    history += _checked(pending, on_step)
    seconds = time.perf_counter() - start
    means = {name: sum(h[name] for h in history) / len(history) for name in history[0]}
    norm_mean = means.pop(GRADIENT_NORM)
    return EpochResult(means, norm_mean, n_samples / seconds, waiting / seconds)


def _checked(
    pending: list[dict[str, Tensor]], on_step: Callable[[dict[str, float]], None]
) -> list[dict[str, float]]:
    """Bring figures to the host, refuse what is not finite, pass on the losses; empties `pending`."""
    done = []
    for figures in pending:
        values = {name: float(figure) for name, figure in figures.items()}
        if not all(math.isfinite(v) for v in values.values()):
            raise LunaError(
                f"training diverged: {values}; wanted finite numbers. The checkpoints are from before; "
                "try a lower optim.lr or a lower optim.clip_norm"
            )
        on_step({name: value for name, value in values.items() if name != GRADIENT_NORM})
        done.append(values)
    pending.clear()
    return done


def to_device(batch: Any, device: torch.device) -> Any:
    """A NamedTuple of tensors, moved."""
    return type(batch)(*(tensor.to(device, non_blocking=True) for tensor in batch))
