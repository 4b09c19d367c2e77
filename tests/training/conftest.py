"""Tiny whole runs: two chests of even air with balls in them, one trains, the other validates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from torch import nn

from p2ch_luna.config import RunConfig, as_toml, check_config
from p2ch_luna.findings import Candidate, Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import write_candidates, write_ct, write_nodules
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.lungs import PreparedCt
from p2ch_luna.training import run_dir
from p2ch_luna.training.fit import fit
from p2ch_luna.training.plan import Listener
from p2ch_luna.training.whole_scans import Find
from p2ch_luna.training.world import World

SHAPE = (72, 96, 128)  # voxels of 1 mm
FOLDS = {"chest-0": 2, "chest-1": 7}  # as the names decide
# Voxel, diameter in mm and HU of balls: two nodules that can be seen, one that cannot, and two others.
NODULES = [((26, 30, 32), 12.0, 60), ((36, 60, 92), 7.0, 60), ((50, 40, 92), 5.0, -850)]
RATINGS = (5.0, 1.0, 4.0)  # of the nodules' malignancy
OTHERS = [((48, 64, 34), 6.0, 0), ((22, 38, 100), 5.0, 0)]
SAMPLING = {
    "segmentation": {"nodules": 0.5, "candidates": 0.25, "lung": 0.25, "implants": 0.0, "cubes": 0.0},
    "nodule": {
        "nodules": 0.25, "found_nodules": 0.25, "implants": 0.0, "cubes": 0.0, "candidates": 0.25,
        "vessels": 0.0, "lung": 0.25,
    },
}  # fmt: skip
SAMPLING["malignancy"] = {**SAMPLING["nodule"], "nodules": 0.5, "candidates": 0.0}
LOSS: dict[str, dict[str, Any]] = {
    "segmentation": {"focal": 20.0, "bce": 1.0, "dice": 1.0, "hard_share": 0.01, "false_negatives": 2.0},
    "nodule": {
        "nodule": 1.0, "malignancy": 0.3, "diameter": 0.1, "false_negatives": 1.0,
        "malignancy_labels": "binary",
    },
}  # fmt: skip
LOSS["malignancy"] = {**LOSS["nodule"], "nodule": 0.0, "malignancy": 1.0, "diameter": 0.0, "outline": 1.0}
BEST_BY = {"segmentation": "dice", "nodule": "nodule_auc", "malignancy": "malignancy_auc"}


class Silent:
    """A listener that hears nothing."""

    def loaded(self, item: str) -> None:
        pass

    def step(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        pass

    def validating(self, done: int, total: int) -> None:
        pass

    def epoch(self, epoch: int, total: int, metrics: Mapping[str, float]) -> None:
        pass


class MakeConfig(Protocol):
    """`make("nodule", loop={"epochs": 1})`: a config with some values of its tables changed."""

    def __call__(self, task: str = "segmentation", **tables: Mapping[str, Any] | int) -> RunConfig: ...


class Train(Protocol):
    """Trains in a folder, as `luna train` does; returns the folder."""

    def __call__(
        self,
        config: RunConfig,
        run: Path,
        listener: Listener | None = None,
        *,
        resume: bool = False,
        find: Find | None = None,
    ) -> Path: ...


def chest(uid: str, mirrored: bool) -> CtVolume:
    """A body of 40 HU, two lungs of -850 HU with a little noise; `mirrored`: all is upside down."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[:, 4:92, 4:124] = 40
    noise = np.random.default_rng(0).normal(-850, 15, SHAPE)
    for cols in (slice(12, 56), slice(72, 116)):
        hu[6:66, 14:82, cols] = noise[6:66, 14:82, cols]
    axes = np.ogrid[tuple(map(slice, SHAPE))]
    for center, diameter, value in [*NODULES, *OTHERS]:
        inside = sum((axis - c) ** 2 for axis, c in zip(axes, center, strict=True)) <= (diameter / 2) ** 2
        hu[inside] = value
    return CtVolume(uid, hu[::-1].copy() if mirrored else hu, ImageGeometry.axial())


def place(irc: Sequence[int], mirrored: bool) -> tuple[float, float, float]:
    i, r, c = irc
    return float(c), float(r), float(SHAPE[0] - 1 - i if mirrored else i)


@pytest.fixture(scope="session")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """chest-0.mhd of fold 2, chest-1.mhd of fold 7, annotations.csv and candidates.csv of both."""
    folder = tmp_path_factory.mktemp("chests")
    truth, candidates = [], []
    for uid, mirrored in (("chest-0", False), ("chest-1", True)):
        write_ct(folder / f"{uid}.mhd", chest(uid, mirrored))
        for (irc, mm, _), rating in zip(NODULES, RATINGS, strict=True):
            truth.append(Nodule(uid, place(irc, mirrored), mm, rating))
            candidates.append(Candidate(uid, place(irc, mirrored), 0.9, 100.0, mm, True))
        candidates += [Candidate(uid, place(irc, mirrored), 0.5, 100.0, mm, False) for irc, mm, _ in OTHERS]
    write_nodules(folder / "annotations.csv", truth)
    write_candidates(folder / "candidates.csv", candidates)
    return folder


@pytest.fixture(scope="session")
def make_config(chests: Path) -> MakeConfig:
    def make(task: str = "segmentation", **tables: Mapping[str, Any] | int) -> RunConfig:
        plain = _plain(task, chests)
        for name, changed in tables.items():
            plain[name] = {**plain[name], **changed} if isinstance(changed, Mapping) else changed
        return check_config(plain, "test")

    return make


def _plain(task: str, chests: Path) -> dict[str, Any]:
    """2 epochs of 3 steps; every part of the loss has a weight."""
    is_segmentation = task == "segmentation"
    own = {} if is_segmentation else {"dropout": 0.2, "diameter_head": True, "near_widths": []}
    if task == "malignancy":
        own["outline"] = True
    name = "segmentation_unet" if is_segmentation else "nodule_classifier"
    return {
        "task": task,
        "seed": 0,
        "data": {
            "luna16": "", "scans": [str(chests)], "annotations": str(chests / "annotations.csv"),
            "excluded": "", "candidates": [str(chests / "candidates.csv")], "lidc": "", "cubes": "",
            "cube_patients": "", "hosts": [], "validation_hosts": [], "credits": ["two chests"],
            "train_folds": [FOLDS["chest-0"]], "validation_folds": [FOLDS["chest-1"]],
            "shape_irc": [32, 32, 32],
        },
        "sampling": SAMPLING[task],
        "model": {"name": name, "widths": [4, 8], "window_hu": [-1000, 400], **own},
        "start": {"init_from": "", "new": [], "frozen": []},
        "implants": {"zoom": 1.25, "faint": 0.25},
        "augmentation": {
            "thick_slices": 0.3, "blur": 0.3, "noise_hu": 20, "noise_grain_mm": 1, "gain": 0.05,
            "shift_hu": 20, "gamma": 0.2, "resample": 0.5, "rotation_degrees": 15, "scale": 0.1,
            "shift_mm": 0.5, "elastic_mm": 0,
        },
        "optim": {"lr": 3e-2, "weight_decay": 0.01, "warmup_steps": 2, "clip_norm": 1.0, "ema": 0.9},
        "loop": {
            "epochs": 2, "steps_per_epoch": 3, "batch_size": 4, "accumulate": 1, "workers": 0,
            "best_by": BEST_BY[task], "patience": 0,
        },
        "compute": {
            "precision": "fp32", "channels_last": True, "compile": False, "sync_batch_norm": False,
            "profile_steps": 0,
        },
        "validation": {
            "samples": 16, "scans": int(task != "malignancy"),
            **({"segmentation": ""} if task == "nodule" else {}),
        },
        "loss": LOSS[task],
    }  # fmt: skip


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Whole scans are said to have one finding, where the first nodule is."""
    cache = ScanCache(tmp_path_factory.mktemp("cache"))

    def one(_: nn.Module, prepared: PreparedCt) -> Sequence[Candidate]:
        uid = prepared.ct.series_uid
        return [Candidate(uid, place(NODULES[0][0], uid == "chest-1"), 0.5, 100.0, 6.0)]

    def go(
        config: RunConfig,
        run: Path,
        listener: Listener | None = None,
        *,
        resume: bool = False,
        find: Find | None = None,
    ) -> Path:
        if not resume:
            run.mkdir(parents=True, exist_ok=True)
            run_dir.begin(run, as_toml(config), "cpu", 1)
        world = World(torch.device("cpu"))
        fit(config, run, world, listener or Silent(), cache, find=find or one, resume=resume)
        return run

    return go


@pytest.fixture(scope="session", autouse=True)
def _short_farewell() -> Iterator[None]:
    """Loaders that a cycle of drawing frames has kept alive wait 5 s each for their processes to end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
        yield


@pytest.fixture(scope="session")
def segmentation_run(make_config: MakeConfig, train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be written to."""
    return train(make_config(), tmp_path_factory.mktemp("runs") / "segmentation")
