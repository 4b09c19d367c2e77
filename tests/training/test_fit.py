"""A whole run on a small scan, then what it left on disk."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from p2ch_luna.config import RunConfig, check_config
from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.datasets.splits import fold_of
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Candidate
from p2ch_luna.io import write_candidates, write_ct, write_nodules
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.models.checkpoint import load_model
from p2ch_luna.training.fit import fit
from p2ch_luna.training.run_dir import load_checkpoint

CPU = torch.device("cpu")
SAMPLING = {
    "segmentation": {"nodules": 0.5, "candidates": 0.2, "lung": 0.3, "implants": 0.0, "cubes": 0.0},
    "nodule": {
        "nodules": 0.2, "found_nodules": 0.2, "implants": 0.2, "cubes": 0.0, "candidates": 0.2,
        "vessels": 0.0, "lung": 0.2,
    },
}  # fmt: skip


class Silent:
    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def loaded(self, item: str) -> None:
        pass

    def step(self, step: int, total: int, losses: dict[str, float]) -> None:
        pass

    def epoch(self, epoch: int, total: int, metrics: dict[str, float]) -> None:
        self.epochs.append(metrics)


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small phantoms, annotated, and candidates in them."""
    folder = tmp_path_factory.mktemp("scans")
    truth, candidates = [], []
    for seed in (0, 1):
        phantom = make_phantom(
            np.random.default_rng(seed), shape_irc=(60, 96, 96), spacing_xyz=(4.0, 4.0, 5.0), n_nodules=4,
            diameters_mm=[14.0, 16.0, 18.0, 20.0], series_uid=f"phantom-{seed}",
        )  # fmt: skip
        uid = phantom.ct.series_uid
        write_ct(folder / f"{uid}.mhd", phantom.ct)
        truth += phantom.truth
        candidates += [Candidate(uid, n.center_xyz, 0.9, 500.0, 10.0, True) for n in phantom.truth]
        x, y, z = phantom.truth[0].center_xyz
        candidates += [Candidate(uid, (x + 30.0 * k, y, z), 0.5, 100.0, 6.0, False) for k in (-1, 1)]
    write_nodules(folder / "annotations.csv", truth)
    write_candidates(folder / "candidates.csv", candidates)
    return folder


@pytest.fixture
def config(scans: Path, shared_data: Path) -> Callable[..., RunConfig]:
    def make(task: str, **loop: int) -> RunConfig:
        segmentation = task == "segmentation"
        name = "segmentation_unet" if segmentation else "nodule_classifier"
        return check_config(
            {
                "task": task,
                "seed": 0,
                "data": {
                    "luna16": "", "lidc": "" if segmentation else str(shared_data / "lidc"),
                    "cubes": "", "cube_patients": "", "hosts": [str(scans / "phantom-0.mhd")],
                    "validation_hosts": [str(scans / "phantom-1.mhd")], "scans": [],
                    "annotations": str(scans / "annotations.csv"), "excluded": "",
                    "candidates": [str(scans / "candidates.csv")], "credits": ["a phantom"],
                    "train_folds": [] if segmentation else [5], "validation_folds": [6],
                    "shape_irc": [32, 32, 32],
                },
                "model": {"name": name, "widths": [4, 8], "window_hu": [-1000, 400]},
                "augmentation": {
                    "thick_slices": 0.3, "blur": 0.3, "noise_hu": 20, "noise_grain_mm": 1, "gain": 0.05,
                    "shift_hu": 20, "gamma": 0.2, "resample": 0.5, "rotation_degrees": 15, "scale": 0.1,
                    "shift_mm": 0.5, "elastic_mm": 0,
                },
                "optim": {"lr": 3e-3, "weight_decay": 0.01, "warmup_steps": 2, "clip_norm": 1.0},
                "loop": {
                    "epochs": 2, "steps_per_epoch": 3, "batch_size": 4, "validation_samples": 16,
                    "workers": 0,
                    **loop,
                },
                "sampling": SAMPLING[task],
                "loss": {"focal": 20.0, "dice": 1.0} if segmentation else {"nodule": 1.0, "malignancy": 0.3},
            },
            "test",
        )  # fmt: skip

    return make


def run(config: RunConfig, folder: Path, resume: bool = False, listener: Silent | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    cache = ScanCache(folder.parent / "cache")
    return fit(config, folder, CPU, listener or Silent(), cache, resume=resume)


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def test_a_segmentation_run_leaves_a_model_that_loads(
    config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    weights = run(config("segmentation"), tmp_path / "run")
    model, card = load_model(weights, builder="segmentation_unet")
    assert model(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 1, 16, 16, 16)
    assert card.data == ["a phantom"]
    assert card.metrics["epoch"] in (1, 2)
    assert card.split["untouched folds"] == [str(k) for k in (0, 1, 2, 3, 4, 5, 7, 8, 9)]


def test_the_events_of_a_segmentation_run_read_back(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    run(config("segmentation"), tmp_path / "run")
    found = events(tmp_path / "run")
    scalars = found.Tags()["scalars"]
    assert {"train/loss_focal", "train/loss_dice", "train/lr", "train/gradient_norm"} <= set(scalars)
    assert {"validation/sensitivity", "validation/dice", "validation/loss"} <= set(scalars)
    assert [event.step for event in found.Scalars("validation/dice")] == [3, 6]
    assert "validation/patches (true green, said red)" in found.Tags()["images"]
    assert "augmentation/before above, after below" in found.Tags()["images"]
    assert {"validation/voxels", "config/text_summary"} <= set(found.Tags()["tensors"])


def test_the_events_of_a_nodule_run_read_back(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    run(config("nodule"), tmp_path / "run")
    found = events(tmp_path / "run")
    scalars = found.Tags()["scalars"]
    assert {"train/loss_nodule", "train/loss_malignancy", "train/samples_per_second"} <= set(scalars)
    assert {"validation/nodule_auc", "validation/malignancy_auc_of_diameter"} <= set(scalars)
    assert "validation/highest non-nodules" in found.Tags()["images"]
    assert {"validation/nodule", "validation/malignancy"} <= set(found.Tags()["tensors"])


def test_the_same_seed_trains_the_same_weights(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    first, second = (run(config("segmentation"), tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_a_resumed_run_ends_where_an_unbroken_one_does(
    config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    class Interrupt(Silent):
        def epoch(self, epoch: int, total: int, metrics: dict[str, float]) -> None:
            raise KeyboardInterrupt

    whole = run(config("segmentation"), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config("segmentation"), tmp_path / "broken", listener=Interrupt())
    resumed = run(config("segmentation"), tmp_path / "broken", resume=True)
    last = [load_checkpoint(p.parent / "last.pt", CPU)["model"] for p in (whole, resumed)]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_a_checkpoint_cut_short_is_named(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    run(config("segmentation", epochs=1), tmp_path / "run")
    last = tmp_path / "run" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(LunaError, match=r"last.pt: cut short or not a checkpoint"):
        run(config("segmentation"), tmp_path / "run", resume=True)


def test_the_card_reads_as_json(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    weights = run(config("segmentation", epochs=1), tmp_path / "run")
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["intended_use"] == "Research only, not a medical device."
    assert card["config"]["optim"]["lr"] == 3e-3


def test_the_card_names_who_trained(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    weights = run(config("nodule", epochs=1), tmp_path / "run")
    split = json.loads(weights.with_suffix(".json").read_text())["split"]
    assert (split["train hosts"], split["validation hosts"]) == (["phantom-0"], ["phantom-1"])
    assert split["train scans"] == split["validation scans"] == []
    assert {fold_of(p) for p in split["train"] if p != "phantom-0"} == {5}
    assert {fold_of(p) for p in split["validation"] if p != "phantom-1"} == {6}


def test_a_share_of_what_there_is_none_of_is_refused(
    config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    wanted = config("segmentation")
    wanted = wanted.model_copy(update={"sampling": {**wanted.sampling, "cubes": 0.3}})
    with pytest.raises(LunaError, match=r"sampling.cubes = 0.3, but the data have no such sample"):
        run(wanted, tmp_path / "run")


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4")  # more than there may be cores
@pytest.mark.parametrize("workers", [1, 4])
def test_the_number_of_workers_changes_no_weight(
    config: Callable[..., RunConfig], tmp_path: Path, workers: int
) -> None:
    alone, helped = (
        run(config("segmentation", epochs=1, workers=n), tmp_path / f"{n}") for n in (0, workers)
    )
    assert alone.read_bytes() == helped.read_bytes()
