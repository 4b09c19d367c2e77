"""What a training is made of at any moment, and its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from p2ch_luna.training.run_dir import load_checkpoint, save_checkpoint


@dataclass(eq=False)
class State:
    """All that a checkpoint holds."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    generator: torch.Generator  # of the augmentation
    epoch: int = 0  # done
    best: float = float("-inf")

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        save_checkpoint(
            path,
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "generator": self.generator.get_state(),
                "torch_rng": torch.get_rng_state(),
                "epoch": self.epoch,
                "best": self.best,
            },
        )

    def load(self, path: Path, device: torch.device) -> None:
        """Go on from a checkpoint."""
        saved = load_checkpoint(path, device)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scheduler.load_state_dict(saved["scheduler"])
        self.generator.set_state(saved["generator"].cpu())
        torch.set_rng_state(saved["torch_rng"].cpu())
        self.epoch, self.best = saved["epoch"], saved["best"]
