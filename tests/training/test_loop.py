from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from p2ch_luna.errors import LunaError
from p2ch_luna.training.loop import train_one_epoch, train_step
from p2ch_luna.training.optim import make_optimizer, warmup_cosine


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


def squared(model: nn.Module, batch: Pair) -> dict[str, Tensor]:
    return {"squared": ((model(batch.x) - batch.y) ** 2).mean()}


def line() -> list[Pair]:
    x = torch.linspace(-1, 1, 16).reshape(-1, 1)
    return [Pair(x, 3 * x + 1)] * 200


def epoch(model: nn.Module, batches: list[Pair], lr: float = 0.05) -> tuple[list[float], float]:
    optimizer = make_optimizer(model, lr, 0.0)
    scheduler = warmup_cosine(optimizer, 10, len(batches))
    losses: list[float] = []
    result = train_one_epoch(
        model,
        squared,
        batches,
        optimizer,
        scheduler,
        clip_norm=10.0,
        device=torch.device("cpu"),
        augment=lambda batch: batch,
        on_step=lambda values: losses.append(values["squared"]),
    )
    return losses, result.losses["squared"]


def test_an_epoch_learns_a_line() -> None:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    losses, _ = epoch(model, line())
    assert losses[-1] < 1e-2 < losses[0]
    assert model.weight.item() == pytest.approx(3, abs=0.2)


def test_every_step_is_heard_and_the_mean_is_theirs() -> None:
    losses, mean = epoch(nn.Linear(1, 1), line()[:45])
    assert len(losses) == 45
    assert mean == pytest.approx(sum(losses) / 45)


def test_a_loss_that_is_not_a_number_stops_the_training() -> None:
    bad = [*line()[:3], Pair(torch.full((16, 1), float("nan")), torch.zeros(16, 1))]
    with pytest.raises(LunaError, match=r"training diverged: \{'squared': nan.*wanted finite numbers"):
        epoch(nn.Linear(1, 1), bad)


def test_an_infinite_loss_stops_the_training() -> None:
    with pytest.raises(LunaError, match="inf"):
        epoch(nn.Linear(1, 1), [Pair(torch.full((16, 1), 1e30), torch.zeros(16, 1))])


def test_a_gradient_that_is_not_finite_stops_the_training() -> None:
    def root(model: nn.Module, batch: Pair) -> dict[str, Tensor]:  # finite at 0, its slope is not
        return {"squared": (0 * model(batch.x)).abs().sqrt().mean()}

    model = nn.Linear(1, 1)
    optimizer = make_optimizer(model, 0.1, 0.0)
    with pytest.raises(LunaError, match=r"'squared': 0.0, 'gradient_norm': nan"):
        train_one_epoch(
            model, root, line()[:2], optimizer, warmup_cosine(optimizer, 1, 2), clip_norm=1.0,
            device=torch.device("cpu"), augment=lambda batch: batch, on_step=lambda _: None,
        )  # fmt: skip


def test_the_gradient_is_clipped() -> None:
    model = nn.Linear(1, 1)
    batch = Pair(torch.full((16, 1), 1e4), torch.zeros(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = [p.detach().clone() for p in model.parameters()]
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    _, norm = train_step(model, squared, batch, optimizer, scheduler, clip_norm=0.5)
    moved = torch.cat([(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)]).norm()
    assert norm > 100
    assert moved.item() == pytest.approx(0.5, rel=1e-3)


def test_the_rate_rises_falls_and_ends_at_zero() -> None:
    optimizer = make_optimizer(nn.Linear(1, 1), 1.0, 0.0)
    scheduler = warmup_cosine(optimizer, 4, 24)
    rates = []
    for _ in range(25):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[14] == pytest.approx(0.5)
    assert rates[24] == pytest.approx(0.0)


def test_biases_and_norms_do_not_decay() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))
    decayed, plain = make_optimizer(model, 1e-3, 0.1).param_groups
    assert [p.ndim for p in decayed["params"]] == [5]
    assert [p.ndim for p in plain["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
