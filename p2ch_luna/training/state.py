"""What a training is made of at any moment, and its checkpoints."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing

_NOT_A_CHECKPOINT = (  # what torch.load may raise for any bytes
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    struct.error,
    pickle.UnpicklingError,
)
_NUMBERS = ("epoch", "step", "step_in_epoch", "best", "best_epoch", "sums", "seconds", "history", "config")


@dataclass(eq=False)
class State:
    """All that a checkpoint holds.

    Random numbers are not held: those of a step, of every process, come from the run's seed and the step.
    """

    model: nn.Module
    average: nn.Module | None  # of its weights over the steps; None: not kept
    optimizer: Optimizer
    scheduler: LambdaLR
    scaler: GradScaler  # of float16's losses; does nothing in other precisions
    epoch: int = 0  # done
    step: int = 0  # done since the run began: TensorBoard's step
    step_in_epoch: int = 0  # done of the epoch that is not; where its sampler goes on
    best: float = float("-inf")
    best_epoch: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # of the figures of this epoch's steps
    seconds: float = 0.0  # of training until now
    history: list[dict[str, Any]] = field(default_factory=list)  # an entry an epoch, see `run_dir`
    config: str = ""  # the run's, as TOML: what is in its folder may have been edited since
    skipped: int = 0  # steps running whose gradients float16 could not hold; not in a checkpoint

    @property
    def judged(self) -> nn.Module:
        """The weights that are validated and kept: the averaged ones, if there are."""
        return self.average if self.average is not None else self.model

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        save_checkpoint(
            path,
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict() if self.average is not None else None,
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "scaler": self.scaler.state_dict(),
                **{name: getattr(self, name) for name in _NUMBERS},
            },
        )

    def load(self, path: Path, device: torch.device) -> None:
        """Go on from a checkpoint. Raises LunaError for one of another network or version."""
        saved = load_checkpoint(path, device)
        try:
            self.model.load_state_dict(saved["model"])
            if self.average is not None:
                self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scheduler.load_state_dict(saved["scheduler"])
            self.scaler.load_state_dict(saved["scaler"])
            for name in _NUMBERS:
                setattr(self, name, saved[name])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            told = (str(error) or type(error).__name__).splitlines()
            reason = " ".join(line.strip() for line in told[:2])  # the second names the first weight
            raise LunaError(f"{path}: not a checkpoint of this network: {reason}") from error


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all. Plain types and tensors only: it is loaded as such."""
    content = io.BytesIO()  # torch's own writer does not say what a disk says when it is full
    torch.save(dict(state), content)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint onto a device."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise LunaError(f"{path}: no such file; wanted a checkpoint of `luna train`") from error
    except _NOT_A_CHECKPOINT as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise LunaError(f"{path}: cut short or not a checkpoint: {reason}") from error
    return state
