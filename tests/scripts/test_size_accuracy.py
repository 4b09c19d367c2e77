"""What the script compares: a finding's mask with the true one, by the same ruler."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import AIR_HU, CtVolume, ImageGeometry
from support.diagnosed import detection, diagnosis_of

SCRIPT = Path(__file__).parents[2] / "scripts" / "size_accuracy.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("size_accuracy", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ct() -> CtVolume:
    return CtVolume("1.2.3", np.full((30, 30, 30), AIR_HU, np.float32), ImageGeometry.axial())


def ball(radius: float) -> np.ndarray:
    return ((np.indices((30, 30, 30)) - 15) ** 2).sum(0) <= radius**2


def test_the_true_mask_has_no_error(script: ModuleType, ct: CtVolume) -> None:
    pair = script.compared(ct, ball(4), ball(4), 8.0)
    assert (pair.dice, pair.volume_mm3) == (1.0, pair.true_volume_mm3)


def test_a_smaller_mask_has_its_volume_and_dice(script: ModuleType, ct: CtVolume) -> None:
    """A ball of radius 1 has 7 voxels, one of radius 2 has 33, and 7 are in both."""
    pair = script.compared(ct, ball(1), ball(2), 3.0)
    assert (pair.volume_mm3, pair.true_volume_mm3) == (7, 33)
    assert pair.dice == pytest.approx(14 / 40)


def test_only_nodules_that_a_candidate_hits_are_measured(script: ModuleType, ct: CtVolume) -> None:
    labels = np.where(ball(2), 1, 0).astype(np.uint8)
    labels[3:6, 3:6, 3:6] = 2
    truth = [Nodule("1.2.3", (15.0, 15.0, 15.0), 5.0), Nodule("1.2.3", (4.0, 4.0, 4.0), 3.0)]
    (pair,) = script.pairs_of(ct, labels, diagnosis_of(ct, detection(ct, 0.9, (15, 15, 15))), truth)
    assert pair.dice == 1.0
