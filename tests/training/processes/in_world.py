"""What `test_world` runs in each of several processes: `python in_world.py FOLDER` leaves FOLDER/RANK.pt."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD

from p2ch_luna.datasets.candidates import CropSample
from p2ch_luna.datasets.patches import PatchSample
from p2ch_luna.models.classifier import NoduleClassifier
from p2ch_luna.models.unet import SegmentationUNet
from p2ch_luna.training import nodule, segmentation
from p2ch_luna.training.loop import Objective, Rules, train_step
from p2ch_luna.training.optim import make_optimizer, warmup_cosine
from p2ch_luna.training.state import State
from p2ch_luna.training.world import World, join_world

SAMPLES, SIDE = 8, 16
WITH_NODULE = (0, 4)  # dealt to rank 0, whether there are two or four processes
STEPS = 3


class Kept(SGD):
    """Changes nothing and keeps the gradient, as it was not clipped."""

    def step(self, closure: Any = None) -> None:
        self.gradient = [p.grad.clone() for group in self.param_groups for p in group["params"]]


def patches(seed: int) -> Any:
    """A batch of which only the samples `WITH_NODULE` have one."""
    generator = torch.Generator().manual_seed(seed)
    hu = torch.randint(-1000, 200, (SAMPLES, 1, SIDE, SIDE, SIDE), generator=generator)
    labels = torch.zeros(hu.shape, dtype=torch.uint8)
    for i in WITH_NODULE:
        labels[i, :, 4:9, 5:10, 6:11] = 1
    return segmentation.plain_patches(PatchSample(hu.to(torch.int16), labels))


def crops(seed: int) -> Any:
    """A batch of which only the samples `WITH_NODULE` are nodules, one malignant, one of unknown diameter."""
    patch = patches(seed)
    is_nodule, rating, diameter_mm = torch.zeros(SAMPLES), *torch.full((2, SAMPLES), torch.nan)
    for i in WITH_NODULE:
        is_nodule[i] = 1.0
    rating[0], rating[4], diameter_mm[0] = 5.0, 1.0, 9.0
    return CropSample(patch.hu, is_nodule, rating, diameter_mm)


def unet() -> nn.Module:
    torch.manual_seed(0)
    return SegmentationUNet((4, 8))


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return NoduleClassifier((4, 8), dropout=0.0, diameter_head=True)


def objective_of(task: Any, how: Any) -> Objective:
    return Objective(lambda batch: task.counts(batch, how), lambda out, batch: task.totals(out, batch, how))


PATCH_LOSSES = segmentation.SegmentationLosses(focal=20.0, bce=1.0, dice=1.0, false_negatives=2.0)
CROP_LOSSES = nodule.CropLosses(nodule=1.0, malignancy=0.3, diameter=0.1, false_negatives=3.0)
KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any], Objective]] = {
    "segmentation": (unet, patches, objective_of(segmentation, PATCH_LOSSES)),
    "classifier": (classifier, crops, objective_of(nodule, CROP_LOSSES)),
}


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    return State(model, None, optimizer, warmup_cosine(optimizer, 0, 100), GradScaler("cpu", enabled=False))


def part(batch: Any, world: World) -> Any:
    return type(batch)(*(tensor[world.rank :: world.size] for tensor in batch))


def gradient(world: World, kind: str, pieces: int) -> dict[str, Any]:
    """The gradient and the loss of one batch of all processes; batch norm as in evaluation."""
    make, batch, objective = KINDS[kind]
    model = make().eval()
    state = state_of(model, Kept(model.parameters(), lr=0.0))
    rules = Rules(clip_norm=float("inf"), pieces=pieces, precision="fp32")
    figures = train_step(world.network(model), part(batch(1), world), objective, state, rules, world)
    loss = world.sum({name: figures[name] for name in objective.counts(batch(1))})
    return {"gradient": state.optimizer.gradient, "loss": loss}


def weights_after_steps(world: World, kind: str) -> dict[str, Tensor]:
    """All that a model holds after real steps, then with the first process's batch norm statistics."""
    make, batch, objective = KINDS[kind]
    model = make().train()
    state = state_of(model, make_optimizer(model, 1e-2, 1e-2))
    network, rules = world.network(model), Rules(clip_norm=1.0, precision="fp32")
    for step in range(STEPS):
        train_step(network, part(batch(step), world), objective, state, rules, world)
    world.share_buffers(model)
    return dict(model.state_dict())


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with join_world(torch.device("cpu")) as world:
        rank = world.rank
        found = {
            "sum": world.sum({"a": torch.tensor(rank + 1.0), "b": torch.tensor([[rank, 10**9 + rank]])}),
            "gather": world.gather({"rank": rank}),
            "deal": world.deal(list(range(7))[rank :: world.size], 7),
            "from_main": world.from_main(f"of {rank}"),
        }
        for kind in KINDS:
            for pieces in (1, 2):
                found[f"{kind} {pieces}"] = gradient(world, kind, pieces)
            found[f"{kind} weights"] = weights_after_steps(world, kind)
        torch.save(found, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
