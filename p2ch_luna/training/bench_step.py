"""What `luna bench train` measures with: networks as they are trained, on patches made for it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from p2ch_luna.datasets.augment import Augmentation, draw
from p2ch_luna.datasets.candidates import CropSample
from p2ch_luna.datasets.patches import PatchSample
from p2ch_luna.models.classifier import NoduleClassifier
from p2ch_luna.models.precision import Precision, autocast, on_device
from p2ch_luna.models.unet import SegmentationUNet
from p2ch_luna.training.loop import (
    EpochResult,
    Objective,
    Rules,
    parts_of,
    seed_step,
    to_device,
    train_epoch,
    train_step,
)
from p2ch_luna.training.optim import make_optimizer, update_average, warmup_cosine
from p2ch_luna.training.state import State
from p2ch_luna.training.stop import Stop
from p2ch_luna.training.tasks import TASKS, Task
from p2ch_luna.training.world import World

SMALL_PATCHES, SMALL_WIDTHS = (4, 32), (16, 32, 48)
LUNG_HU, NODULE_HU, NOISE_HU = -850.0, 40.0, 60.0
RULES = Rules(clip_norm=1.0, ema=0.999)  # of the default configs, in the device's own precision


@dataclass(frozen=True)
class Sizes:
    """Of the configs: samples of a batch and voxels along an axis of each task, and the networks."""

    patches: tuple[int, int]
    crops: tuple[int, int]
    unet_widths: tuple[int, ...]
    classifier_widths: tuple[int, ...]
    validation_samples: int  # patches

    @classmethod
    def on(cls, device: torch.device) -> Sizes:
        """The configs for a GPU, or the default ones."""
        if device.type == "cuda":
            return cls((16, 96), (64, 48), (32, 64, 128, 256), (32, 64, 128, 256), 640)
        return cls((4, 64), (16, 48), (32, 64, 96, 128), (24, 48, 96, 128), 160)


@dataclass(frozen=True, eq=False)
class Training:
    """A network in training on one raw batch, which a loader has put into the host's memory."""

    task: Task
    how: Any  # its losses
    state: State
    rules: Rules
    world: World
    batch: Any

    @property
    def size(self) -> str:
        """Of a batch, as "4×64³"."""
        return f"{len(self.batch.hu)}×{self.batch.hu.shape[-1]}³"

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return Objective(
            lambda batch: self.task.counts(batch, self.how),
            lambda output, batch: self.task.totals(output, batch, self.how),
        )

    def augmented(self, batch: Any, step: int) -> Any:
        """The batch, on its device, as it is trained on in this step."""
        return self.task.augment(batch, draw(len(batch.hu), Augmentation(), seed_step(0, step, 0)))

    def ready(self) -> Any:
        """The batch on the device, not augmented."""
        return self.task.plain(to_device(self.batch, self.world.device))

    def epoch(
        self, steps: int, on_step: Callable[[Mapping[str, float]], None] = lambda _: None, first: int = 0
    ) -> EpochResult:
        """So many steps as a run does them, with the draws of the steps from `first` on."""
        self.state.step, self.state.step_in_epoch, self.state.sums = first, 0, {}
        result = train_epoch(
            self.state.model,
            [self.batch] * steps,
            self.objective,
            self.state,
            self.rules,
            self.world,
            prepare=self.augmented,
            on_step=on_step,
            stop=Stop(),
        )
        if result is None:
            raise RuntimeError("nobody has asked to stop")
        return result

    def step(self, ready: Any) -> None:
        """One step of the loop, its batch given."""
        train_step(self.state.model, ready, self.objective, self.state, self.rules, self.world)

    def bare(self, ready: Any, steps: int) -> None:
        """Forward, loss, backward and optimiser alone, so many times."""
        for _ in range(steps):
            with autocast(self.world.device, self.rules.precision):
                output = self.state.model(ready.hu)
            counts = self.objective.counts(ready)
            parts = parts_of(self.objective.totals(output, ready), counts)
            loss = torch.stack(list(parts.values())).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            self.state.optimizer.step()
            self.state.optimizer.zero_grad(set_to_none=True)

    def augment(self, steps: int, first: int = 0) -> None:
        """Augmentation alone, as `epoch` does it."""
        batch = to_device(self.batch, self.world.device)
        for step in range(first, first + steps):
            self.augmented(batch, step)

    def average(self, steps: int) -> None:
        """The average of the weights alone."""
        if self.state.average is None:
            raise ValueError("this training keeps no average")
        for step in range(steps):
            update_average(self.state.average, self.state.model, self.rules.ema, step)


def segmentation(device: torch.device, *, is_plain: bool = False) -> Training:
    """That of the device's config; plain: as PyTorch computes unasked, in float32, contiguous tensors."""
    precision: Precision = "fp32" if is_plain else "auto"
    rules = Rules(RULES.clip_norm, ema=RULES.ema, precision=precision)
    sizes = Sizes.on(device)
    model = on_device(
        _seeded(lambda: SegmentationUNet(sizes.unet_widths)), device, channels_last=not is_plain
    )
    return _training("segmentation", model, PatchSample(*random_patches(*sizes.patches)), rules, device)


def plain_step(device: str, threads: int) -> None:
    """A step of the plain segmentation in a process of its own, whose memory nobody has looked after."""
    torch.set_num_threads(threads)
    training, ready = _plain(device)
    training.step(ready)
    if training.world.device.type == "cuda":
        torch.cuda.synchronize(device)


@cache
def _plain(device: str) -> tuple[Training, Any]:
    training = segmentation(torch.device(device), is_plain=True)
    return training, training.ready()


def small_segmentation(device: torch.device) -> Training:
    """One that does many steps in a minute, as in configs/smoke.toml."""
    model = on_device(_seeded(lambda: SegmentationUNet(SMALL_WIDTHS)), device)
    return _training("segmentation", model, PatchSample(*random_patches(*SMALL_PATCHES)), RULES, device)


def classifier(device: torch.device) -> Training:
    """The classifier of the device's config, on crops, every second one of a nodule."""
    sizes = Sizes.on(device)
    n, side = sizes.crops
    hu, _ = random_patches(n, side)
    is_nodule = (torch.arange(n) % 2).float()
    known = torch.where(is_nodule > 0, 1.0, torch.nan)
    batch = CropSample(hu, is_nodule, rating=2 * known, diameter_mm=8 * known)
    return _training(
        "nodule",
        on_device(_seeded(lambda: NoduleClassifier(sizes.classifier_widths)), device),
        batch,
        RULES,
        device,
    )


def random_patches(n: int, side: int) -> tuple[Tensor, Tensor]:
    """Noise at the density of a lung with a ball in it, (n, 1, side, side, side) HU and labels."""
    rng = np.random.default_rng(0)
    hu = rng.normal(LUNG_HU, NOISE_HU, (n, 1, side, side, side))
    along = np.arange(side)
    away = (along[:, None, None] - side / 2) ** 2 + (along[:, None] - side / 2) ** 2 + (along - side / 2) ** 2
    radii = rng.uniform(2, side / 8, n)
    ball = away < (radii**2)[:, None, None, None, None]
    hu[ball] += NODULE_HU - LUNG_HU
    return torch.from_numpy(hu.astype(np.int16)), torch.from_numpy(ball.astype(np.uint8))


def seconds_in_turns(
    works: Mapping[str, Callable[[], Any]], turns: int, device: torch.device
) -> dict[str, NDArray[np.float64]]:
    """(turns,) seconds of each work, after once for warming up: a busy moment hits neighbours alike."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(taken) for name, taken in seconds.items()}


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def _training(task: str, model: nn.Module, batch: Any, rules: Rules, device: torch.device) -> Training:
    if device.type == "cuda":
        batch = type(batch)(*(tensor.pin_memory() for tensor in batch))
    optimizer = make_optimizer(model, 1e-3, 1e-2)
    state = State(
        model.train(),
        copy.deepcopy(model).requires_grad_(False),
        optimizer,
        warmup_cosine(optimizer, 1, 1_000_000),
        GradScaler(device.type, enabled=False),
    )
    return Training(TASKS[task], TASKS[task].losses(), state, rules, World(device), batch)
