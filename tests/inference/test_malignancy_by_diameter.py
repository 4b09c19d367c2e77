"""The logistic curve of the diameter: where its numbers come from, and how it holds on other patients."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from p2ch_luna.datasets.lidc_labels import BENIGN, MALIGNANT
from p2ch_luna.datasets.splits import in_folds
from p2ch_luna.inference.malignancy_by_diameter import EVEN_MM, SLOPE, malignancy_by_diameter
from p2ch_luna.io.lidc import read_lidc_nodules
from p2ch_luna.metrics.binary import roc_auc
from p2ch_luna.metrics.calibration import brier
from p2ch_luna.metrics.fusion import fit_fusion


def rated(shared_data: Path, folds: range) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Of nodules that readers called benign or malignant: whether malignant, and diameters in mm."""
    known = [
        (nodule.malignancy >= MALIGNANT, nodule.diameter_mm)
        for nodule in in_folds(read_lidc_nodules(shared_data / "lidc"), folds)
        if nodule.malignancy is not None and not BENIGN < nodule.malignancy < MALIGNANT
    ]
    is_malignant, diameter_mm = zip(*known, strict=True)
    return np.array(is_malignant), np.array(diameter_mm)


def test_both_are_as_likely_at_one_diameter() -> None:
    assert malignancy_by_diameter(EVEN_MM) == pytest.approx(0.5)


def test_twice_the_diameter_multiplies_the_odds() -> None:
    said = malignancy_by_diameter(2 * EVEN_MM)
    assert said / (1 - said) == pytest.approx(2**SLOPE)


@pytest.mark.parametrize("diameter_mm", [0.5, 3.0, 30.0, 300.0])
def test_it_is_a_probability(diameter_mm: float) -> None:
    assert 0 <= malignancy_by_diameter(diameter_mm) <= 1


def test_a_fit_to_the_rated_nodules_gives_its_numbers(shared_data: Path) -> None:
    is_malignant, diameter_mm = rated(shared_data, range(7))
    assert (len(is_malignant), is_malignant.sum()) == (351, 185)
    found = fit_fusion(is_malignant, np.log(diameter_mm)[:, None], l2=0.0)
    assert found.weights[0] == pytest.approx(SLOPE, abs=1e-3)
    assert math.exp(-found.intercept / found.weights[0]) == pytest.approx(EVEN_MM, abs=1e-3)


def test_it_holds_on_patients_that_it_was_not_fitted_to(shared_data: Path) -> None:
    is_malignant, diameter_mm = rated(shared_data, range(7, 10))
    said = np.array([malignancy_by_diameter(mm) for mm in diameter_mm])
    assert roc_auc(is_malignant, said) == pytest.approx(0.942, abs=5e-4)
    assert brier(is_malignant, said) == pytest.approx(0.094, abs=5e-4)
    assert said.mean() == pytest.approx(is_malignant.mean(), abs=0.03)
