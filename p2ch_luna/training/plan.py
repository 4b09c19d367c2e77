"""What stays the same all through a run, and who hears of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from p2ch_luna.datasets.augment import Augmentation
from p2ch_luna.models.checkpoint import ModelCard
from p2ch_luna.training.loop import Objective, Rules
from p2ch_luna.training.sides import Samples
from p2ch_luna.training.tasks import Task
from p2ch_luna.training.whole_scans import Find, WholeScan
from p2ch_luna.training.world import World


class Listener(Protocol):
    """Who wants to know how a run goes: the command line's progress bar, or nobody."""

    def loaded(self, item: str) -> None:
        """A scan or a nodule was loaded."""

    def step(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        """A training step was done; the parts of its loss and the gradient's norm."""

    def validating(self, done: int, total: int) -> None:
        """So many of the validation's batches and whole scans are done."""

    def epoch(self, epoch: int, total: int, metrics: Mapping[str, float]) -> None:
        """An epoch was done and validated."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What stays the same all through a run."""

    run: Path
    world: World
    listener: Listener
    task: Task
    how: Any  # the task's losses
    baseline: Any  # what the network is compared with
    train: Samples
    validation: Samples
    scans: list[WholeScan]
    find: Find
    augmentation: Augmentation
    rules: Rules
    seed: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    best_by: str
    patience: int
    frozen: tuple[str, ...]
    profile_steps: int
    settings: Mapping[str, Any]  # the whole config
    config_toml: str  # the same as text
    card: Callable[[Mapping[str, float]], ModelCard]  # of the model with these metrics

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        task, how = self.task, self.how
        return Objective(
            lambda batch: task.counts(batch, how), lambda output, batch: task.totals(output, batch, how)
        )

    @property
    def total_steps(self) -> int:
        """Of the run."""
        return self.epochs * self.steps_per_epoch
