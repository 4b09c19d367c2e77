"""Which epoch is the best, when it is enough, and that all processes agree on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from p2ch_luna.config import as_toml
from p2ch_luna.errors import LunaError
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.models.checkpoint import load_card
from p2ch_luna.training import fit as fit_module
from p2ch_luna.training import run_dir
from p2ch_luna.training.epochs import run_epochs
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.fit import fit
from p2ch_luna.training.state import State, load_checkpoint
from p2ch_luna.training.tasks import TASKS
from p2ch_luna.training.world import World

CPU = torch.device("cpu")
Config, Train = Callable[..., Any], Callable[..., Path]


def last(run: Path) -> dict[str, Any]:
    return load_checkpoint(run / run_dir.LAST, CPU)


class Silent:
    def loaded(self, item: str) -> None:
        pass

    def step(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        pass

    def validating(self, done: int, total: int) -> None:
        pass

    def epoch(self, epoch: int, total: int, metrics: Mapping[str, float]) -> None:
        pass


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the epochs of a segmentation have these scores for dice, whatever is trained."""

    def score(*dice: float) -> None:
        given = iter(dice)
        task = replace(TASKS["segmentation"], summarise=lambda *_: Evaluation({"dice": next(given)}))
        monkeypatch.setattr(fit_module, "TASKS", {"segmentation": task})

    return score


def epochs(n: int, **loop: int) -> dict[str, Any]:
    return {
        "loop": {"epochs": n, "steps_per_epoch": 1, **loop},
        "optim": {"warmup_steps": 0},
        "validation": {"scans": 0},
    }


def test_the_best_epoch_is_kept(
    scored: Callable[..., None], make_config: Config, train: Train, tmp_path: Path
) -> None:
    scored(0.3, 0.5, 0.5, 0.4)
    run = train(make_config(**epochs(4)), tmp_path)
    card = load_card(run / run_dir.MODEL)
    assert (card.metrics["epoch"], card.metrics["dice"]) == (2, 0.5)  # the first of two that are as good
    assert last(run)["best"] == 0.5


def test_patience_ends_a_run(
    scored: Callable[..., None], make_config: Config, train: Train, tmp_path: Path
) -> None:
    scored(0.3, 0.5, 0.4, 0.2)
    run = train(make_config(**epochs(9, patience=2)), tmp_path)
    assert [entry["epoch"] for entry in run_dir.load_history(run)] == [1, 2, 3, 4]
    assert run_dir.load_about(run)["status"] == "stopped early"


def test_a_better_epoch_renews_the_patience(
    scored: Callable[..., None], make_config: Config, train: Train, tmp_path: Path
) -> None:
    scored(0.3, 0.2, 0.4, 0.3)
    run = train(make_config(**epochs(4, patience=2)), tmp_path)
    assert run_dir.load_about(run)["status"] == "finished"


def test_without_patience_all_epochs_are_trained(
    scored: Callable[..., None], make_config: Config, train: Train, tmp_path: Path
) -> None:
    scored(0.3, 0.2, 0.1, 0.1)
    assert len(run_dir.load_history(train(make_config(**epochs(4)), tmp_path))) == 4


def test_a_score_that_is_no_number_is_an_error(
    scored: Callable[..., None], make_config: Config, train: Train, tmp_path: Path
) -> None:
    scored(0.3, float("nan"))
    with pytest.raises(LunaError, match=r"validation: dice is nan after epoch 2; wanted a number"):
        train(make_config(**epochs(2)), tmp_path)
    assert last(tmp_path)["epoch"] == 1


# several processes


class Second(World):
    """The second of two processes, which do the same; it is told these metrics, epoch by epoch."""

    def __init__(self, metrics: list[dict[str, float]]) -> None:
        super().__init__(CPU, 1, 2)
        object.__setattr__(self, "metrics", iter(metrics))

    def sum(self, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: 2 * value for name, value in values.items()}

    def gather(self, value: Any) -> list[Any]:
        return [value, value]

    def deal(self, values: list[Any], total: int) -> list[Any]:
        return values * 2

    def from_main(self, value: Any) -> Any:
        return next(self.metrics)

    def share_buffers(self, model: torch.nn.Module) -> None:
        pass

    def wait(self) -> None:
        pass

    def network(self, model: torch.nn.Module) -> torch.nn.Module:
        return model


class Alone(World):
    """Remembers of how many batches, or scans, the processes tell each other."""

    def __init__(self) -> None:
        super().__init__(CPU)
        object.__setattr__(self, "totals", [])

    def deal(self, values: list[Any], total: int) -> list[Any]:
        self.totals.append(total)
        return super().deal(values, total)


def test_another_process_draws_nothing_and_takes_the_main_ones_word(
    make_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def summarise(*_: object) -> Evaluation:
        pytest.fail("pictures are drawn twice")

    kept: list[State] = []
    monkeypatch.setattr(
        fit_module, "TASKS", {"segmentation": replace(TASKS["segmentation"], summarise=summarise)}
    )
    monkeypatch.setattr(fit_module, "run_epochs", lambda *given: (kept.append(given[2]), run_epochs(*given)))
    config, told = make_config(**epochs(4, patience=2)), [{"dice": dice} for dice in (0.5, 0.4, 0.3)]
    fit(config, tmp_path, Second(told), Silent(), ScanCache(tmp_path), find=lambda *_: [])
    assert (kept[0].best, kept[0].best_epoch, kept[0].epoch) == (0.5, 1, 3)
    assert not any(path.name.startswith("events") for path in tmp_path.iterdir())


def test_the_batches_of_a_validation_are_counted_by_their_own_size(
    scored: Callable[..., None], make_config: Config, tmp_path: Path
) -> None:
    scored(0.3)
    world = Alone()
    config = make_config(**epochs(1, batch_size=8, accumulate=4))
    run_dir.begin(tmp_path, as_toml(config), "cpu", 1)
    fit(config, tmp_path, world, Silent(), ScanCache(tmp_path), find=lambda *_: [])
    assert world.totals == [8, 0]  # 16 samples, by 2; no scans
