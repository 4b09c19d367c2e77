"""The loop: one step, one epoch. What it touches is in its signatures; tasks bring their own loss."""

from __future__ import annotations

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
    on_step: Callable[[dict[str, float]], None],
) -> EpochResult:
    """Train on the batches; `on_step` hears the losses of every step, `CHECK_EVERY` steps late at most.

    Stops with a LunaError at a loss that is not finite; nothing has been saved since it was.
    """
    model.train()
    pending: list[dict[str, Tensor]] = []
    history: list[dict[str, float]] = []
    norms: list[Tensor] = []
    waiting, n_samples, start = 0.0, 0, time.perf_counter()
    asked = start
    for batch in batches:
        waiting += time.perf_counter() - asked
        losses, norm = train_step(
            model, batch_loss, to_device(batch, device), optimizer, scheduler, clip_norm
        )
        pending.append(losses)
        norms.append(norm)
        n_samples += len(batch[0])
        if len(pending) == CHECK_EVERY:
            history += _checked(pending, on_step)
        asked = time.perf_counter()
    history += _checked(pending, on_step)
    seconds = time.perf_counter() - start
    names = history[0] if history else {}
    return EpochResult(
        losses={name: sum(h[name] for h in history) / len(history) for name in names},
        gradient_norm=float(torch.stack(norms).mean()),
        samples_per_second=n_samples / seconds,
        waiting_share=waiting / seconds,
    )


def _checked(
    pending: list[dict[str, Tensor]], on_step: Callable[[dict[str, float]], None]
) -> list[dict[str, float]]:
    """Bring losses to the host, refuse what is not finite, pass them on; empties `pending`."""
    done = []
    for losses in pending:
        values = {name: float(loss) for name, loss in losses.items()}
        if not all(abs(v) < float("inf") for v in values.values()):  # NaN compares false
            raise LunaError(
                f"the loss became {values}; wanted finite numbers. The checkpoints are from before; "
                "try a lower optim.lr or a lower optim.clip_norm"
            )
        on_step(values)
        done.append(values)
    pending.clear()
    return done


def to_device(batch: Any, device: torch.device) -> Any:
    """A NamedTuple of tensors, moved."""
    return type(batch)(*(tensor.to(device, non_blocking=True) for tensor in batch))
