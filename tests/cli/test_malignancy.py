"""`luna malignancy` on a chest of even lungs and LIDC nodules that are balls: who may judge whom."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from p2ch_luna.cli import cli
from p2ch_luna.datasets.splits import fold_of
from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import AIR_HU, CtVolume, ImageGeometry
from p2ch_luna.io import write_ct, write_mask
from p2ch_luna.io.lidc import COLUMNS
from p2ch_luna.models.build import build_model
from p2ch_luna.models.checkpoint import ModelCard, save_model

BALLS = {"P1": (1.0, 5.0), "P2": (2.0, 4.0), "P3": (5.0, 1.5)}  # ratings of a ball of 6 and of 12 mm
SMALL = {"widths": [4, 8], "diameter_head": True, "outline": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """host.mha and the folder lidc."""
    folder = tmp_path_factory.mktemp("data")
    hu = np.full((70, 90, 120), AIR_HU, np.int16)
    hu[:, 4:86, 4:116] = 40
    for cols in (slice(12, 54), slice(66, 108)):
        hu[6:64, 14:76, cols] = -850
    write_ct(folder / "host.mha", CtVolume("host", hu, ImageGeometry.axial()))
    geometry = ImageGeometry.axial((1.0, 1.0, 1.0), (-8.0, -8.0, -8.0))
    away = np.sqrt(sum((axis - 8.0) ** 2 for axis in np.ogrid[:17, :17, :17]))
    rows = [",".join(COLUMNS)]
    for patient, ratings in BALLS.items():
        for mm, rating in zip((6.0, 12.0), ratings, strict=True):
            name, mask = f"{patient}_{mm:g}", away <= mm / 2
            crop = np.where(mask, 60, -850).astype(np.int16)
            write_ct(folder / "lidc" / "voi" / f"{name}.nii.gz", CtVolume(name, crop, geometry))
            write_mask(folder / "lidc" / "voi" / f"{name}_mask.nii.gz", mask, geometry)
            rows.append(f"{name},{patient},1.2.{len(rows)},0,0,0,{mm},{rating}")
    (folder / "lidc" / "nodules.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def run_of(data: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a model that validates on these patients' folds and, as its card says, trained on the others."""

    def write(
        name: str,
        *validates: str,
        taught_by: tuple[str, ...] = (),
        backgrounds: tuple[str, ...] = (),
        weight: float = 1.0,
        epochs: int = 1,
    ) -> Path:
        torch.manual_seed(0)
        table = {
            "luna16": "", "scans": [], "annotations": "", "excluded": "", "candidates": [],
            "lidc": str(data / "lidc"), "cubes": "", "cube_patients": "", "hosts": [],
            "validation_hosts": [str(data / "host.mha")], "credits": ["balls"],
            "train_folds": [(fold_of(validates[0]) + 1) % 10],
            "validation_folds": sorted({fold_of(patient) for patient in validates}),
            "shape_irc": [32, 32, 32],
        }  # fmt: skip
        card = ModelCard(
            builder="nodule_classifier", arguments=SMALL, config={
                "task": "malignancy", "data": table, "loss": {"malignancy": weight},
                "loop": {"epochs": epochs},
            },
            data=["balls"], metrics={}, software="test",
            split={
                "train": list(taught_by), "train hosts": list(backgrounds), "validation": list(validates),
            },
        )  # fmt: skip
        path = tmp_path / f"{name}.safetensors"
        model = build_model("nodule_classifier", SMALL)
        torch.nn.init.normal_(model.get_submodule("heads.malignancy").weight, std=0.05)  # type: ignore[arg-type]
        save_model(path, model, card)
        return path

    return write


def call(*arguments: object) -> str:
    """Stdout. A LunaError is raised here as the command raises it."""
    words = [*map(str, arguments), "--device", "cpu"]
    return (
        CliRunner().invoke(cli, ["malignancy", *words], catch_exceptions=False, standalone_mode=False).stdout
    )


def outcome(*arguments: object) -> BaseException | None:
    words = [*map(str, arguments), "--device", "cpu"]
    return CliRunner().invoke(cli, ["malignancy", *words], standalone_mode=False).exception


def test_patients_of_the_test_are_in_folds_of_their_own() -> None:
    assert len({fold_of(patient) for patient in BALLS}) == len(BALLS)


def test_every_nodule_of_the_validation_folds_is_judged_once(
    run_of: Callable[..., Path], tmp_path: Path
) -> None:
    runs = run_of("a", "P1"), run_of("b", "P2", "P3")
    said = call(*runs, "--places", 2, "-o", tmp_path / "out", "--cache", tmp_path / "cache")
    with (tmp_path / "out" / "malignancy.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["nodule"]: row["run"] for row in csv.DictReader(file)}
    assert rows == {
        "P1_6": "a.safetensors", "P1_12": "a.safetensors", "P2_6": "b.safetensors",
        "P2_12": "b.safetensors", "P3_6": "b.safetensors", "P3_12": "b.safetensors",
    }  # fmt: skip
    found = json.loads((tmp_path / "out" / "malignancy.json").read_text(encoding="utf-8"))
    assert (found["all"]["benign"], found["all"]["malignant"]) == (3, 3)
    assert found["judges"][0]["hosts"] == ["host"]
    assert "not pathology" in said
    assert "diameter alone" in said


def test_the_same_seed_judges_alike_and_another_does_not(run_of: Callable[..., Path], tmp_path: Path) -> None:
    run, cache = run_of("a", "P1"), tmp_path / "cache"
    tables = []
    for seed in (1, 1, 2):
        call(run, "--seed", seed, "--places", 1, "-o", tmp_path / "out", "--cache", cache)
        tables.append((tmp_path / "out" / "malignancy.csv").read_text(encoding="utf-8"))
    assert tables[0] == tables[1] != tables[2]


def test_a_network_that_learnt_from_a_patient_may_not_judge_it(
    run_of: Callable[..., Path], tmp_path: Path
) -> None:
    run = run_of("a", "P1", "P2", taught_by=("P2", "P3"))
    error = outcome(run, "-o", tmp_path / "out", "--cache", tmp_path / "cache")
    assert isinstance(error, LunaError)
    assert "has learnt from 1 patients of its validation folds" in str(error)
    assert "P2" in str(error)
    assert not (tmp_path / "out").exists()


def test_two_networks_may_not_judge_the_same_nodule(run_of: Callable[..., Path], tmp_path: Path) -> None:
    runs = run_of("a", "P1"), run_of("b", "P1", "P2")
    error = outcome(*runs, "-o", tmp_path / "out", "--cache", tmp_path / "cache")
    assert isinstance(error, LunaError)
    assert "P1_6: judged by" in str(error)
    assert "wanted each nodule once" in str(error)


def test_folds_without_a_nodule_are_told(run_of: Callable[..., Path], tmp_path: Path) -> None:
    error = outcome(run_of("a", "P5"), "-o", tmp_path / "out", "--cache", tmp_path / "cache")
    assert isinstance(error, LunaError)
    assert "no rated nodule in its validation folds" in str(error)


def test_a_network_that_did_not_learn_malignancy_may_not_judge(
    run_of: Callable[..., Path], tmp_path: Path
) -> None:
    error = outcome(run_of("a", "P1", weight=0.0), "-o", tmp_path / "out", "--cache", tmp_path / "cache")
    assert isinstance(error, LunaError)
    assert "a.safetensors: trained with loss.malignancy = 0" in str(error)
    assert "wanted a network that was trained with a weight above 0" in str(error)


def test_a_picked_epoch_and_a_host_of_the_training_are_told(
    run_of: Callable[..., Path], tmp_path: Path
) -> None:
    runs = run_of("a", "P1", backgrounds=("host",)), run_of("b", "P2", "P3", epochs=2)
    said = call(*runs, "--places", 1, "-o", tmp_path / "out", "--cache", tmp_path / "cache")
    found = json.loads((tmp_path / "out" / "malignancy.json").read_text(encoding="utf-8"))
    picked, seen, unlike = found["warnings"]
    assert picked.startswith("1 of 2 network(s) kept one of several epochs")
    assert seen.startswith("1 of 2 network(s) trained on scans that the nodules are set into (host)")
    assert unlike.endswith("their configs differ in loop")
    assert all(f"warning: {text}" in said for text in found["warnings"])


def test_the_difference_is_shown_by_patient(run_of: Callable[..., Path], tmp_path: Path) -> None:
    run = run_of("a", "P1", "P2", "P3")
    said = call(run, "--places", 1, "-o", tmp_path / "out", "--cache", tmp_path / "cache")
    gain = json.loads((tmp_path / "out" / "malignancy.json").read_text(encoding="utf-8"))["all"][
        "network_gain"
    ]
    low, high = gain["by_patient_95"]
    (line,) = (line for line in said.splitlines() if line.startswith("network "))
    assert line.endswith(f"{gain['difference']:+.3f} [{low:.3f}, {high:.3f}]")
    assert gain["by_patient_95"] != gain["difference_95"]
