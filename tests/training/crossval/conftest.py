"""`luna crossval` on two chests, each held out in its turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from p2ch_luna.cli import main
from p2ch_luna.config import as_toml
from p2ch_luna.training import run_dir

from ..conftest import FOLDS, MakeConfig

CHEST = {fold: uid for uid, fold in FOLDS.items()}  # the one that is held out in a fold's turn
FEW = ("loop.epochs=1", "loop.steps_per_epoch=4", "optim.warmup_steps=1", "validation.scans=0")
BOTH = ("--folds", "2,7")

Crossval = Callable[..., int]


class Done(NamedTuple):
    """What a cross-validation left."""

    out: Path
    result: dict[str, Any]


def result_in(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "crossval.json").read_text(encoding="utf-8"))
    return found


def weights_in(run: Path) -> bytes:
    return (run / run_dir.MODEL).read_bytes()


@pytest.fixture(scope="session")
def configs(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """segmentation and nodule, their folds such as no cross-validation has them."""
    folder = tmp_path_factory.mktemp("configs")
    for task in ("segmentation", "nodule"):
        (folder / f"{task}.toml").write_text(as_toml(make_config(task)), encoding="utf-8")
    return {task: folder / f"{task}.toml" for task in ("segmentation", "nodule")}


@pytest.fixture(scope="session")
def crossval(tmp_path_factory: pytest.TempPathFactory) -> Crossval:
    """Runs the command on the CPU with one store of prepared scans; its exit code."""
    cache = tmp_path_factory.mktemp("cache")

    def call(*arguments: str | Path, out: Path, sets: tuple[str, ...] = FEW) -> int:
        changes = [word for change in sets for word in ("--set", change)]
        fixed = ["-o", out, "--cache", cache, "--device", "cpu"]
        with pytest.raises(SystemExit) as done:
            main(["crossval", *map(str, [*arguments, *changes, *fixed])])
        return int(done.value.code or 0)

    return call


@pytest.fixture(scope="session")
def both_stages(
    configs: dict[str, Path], crossval: Crossval, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """Segmentation and nodule, in both folds; not to be written to."""
    out = tmp_path_factory.mktemp("both-stages")
    assert crossval(configs["segmentation"], configs["nodule"], *BOTH, out=out) == 0
    return Done(out, result_in(out))


@pytest.fixture(scope="session")
def segmentations(
    configs: dict[str, Path], crossval: Crossval, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """The segmentation alone, in both folds; not to be written to."""
    out = tmp_path_factory.mktemp("segmentations")
    assert crossval(configs["segmentation"], *BOTH, out=out) == 0
    return Done(out, result_in(out))
