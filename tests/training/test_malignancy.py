"""The task of malignancy and what it is compared with: probabilities worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from p2ch_luna.datasets.candidates import OutlinedSample
from p2ch_luna.datasets.collection import Share
from p2ch_luna.errors import LunaError
from p2ch_luna.io.candidate_table import join_tables
from p2ch_luna.models.classifier import Verdict
from p2ch_luna.training.malignancy import (
    HIGHEST_BENIGN,
    LOWEST_MALIGNANT,
    DiameterBaseline,
    baseline,
    fit_baseline,
    observe,
    summarise,
)
from p2ch_luna.training.outlines import MalignancyLosses, counts, totals

NAN = math.nan
HOW = MalignancyLosses(nodule=0.0, malignancy=1.0)
GROWS = DiameterBaseline(0.0, 1.0)  # the larger, the likelier


def crops(rating: list[float], diameter_mm: list[float]) -> OutlinedSample:
    """Nodules; crop k is of k HU."""
    n = len(rating)
    hu = torch.arange(float(n))[:, None, None, None, None].expand(n, 1, 4, 8, 8)
    labels = torch.zeros(hu.shape, dtype=torch.uint8)
    return OutlinedSample(hu, torch.ones(n), torch.tensor(rating), torch.tensor(diameter_mm), labels)


def verdict(malignancy: list[float]) -> Verdict:
    return Verdict(torch.zeros(len(malignancy)), torch.logit(torch.tensor(malignancy)))


def share(own: list[tuple[float, float | None]], others: list[tuple[str, float, float | None]]) -> Share:
    """One scan, 1.2.3, with (diameter, rating) of its own nodules, and (name, ...) of those to set in."""
    scan = SimpleNamespace(
        series_uid="1.2.3", nodules=[SimpleNamespace(diameter_mm=d, malignancy=r) for d, r in own]
    )
    nodules = [SimpleNamespace(name=name, diameter_mm=d, malignancy=r) for name, d, r in others]
    return Share([scan], [], nodules, [], join_tables([]), frozenset())  # type: ignore[list-item, arg-type]


def test_two_diameters_have_the_shares_of_malignant_ones_as_probabilities() -> None:
    fitted = fit_baseline([5, 5, 5, 5, 10, 10, 10, 10], [1, 0, 0, 0, 1, 1, 1, 0])
    np.testing.assert_allclose(fitted.probability([5, 10]), [0.25, 0.75], atol=1e-3)


def test_the_probability_follows_the_logarithm_of_the_diameter() -> None:
    odds = DiameterBaseline(intercept=-2 * math.log(10), slope=2.0).probability([10, 30])
    np.testing.assert_allclose(odds, [0.5, 0.9])  # odds of 1, and of 3 squared


def test_a_nodule_without_a_label_is_left_out() -> None:
    fitted = fit_baseline([5, 10, 5, 10], [0, 1, 0, 1])
    assert fit_baseline([5, 10, 50, 5, 10], [0, 1, NAN, 0, 1]) == fitted


def test_diameters_that_part_the_classes_give_finite_numbers() -> None:
    fitted = fit_baseline([3, 4, 5, 20, 25, 30], [0, 0, 0, 1, 1, 1])
    low, high = fitted.probability([5, 20]).tolist()
    assert math.isfinite(fitted.slope)
    assert low < 0.05 < 0.95 < high


def test_one_diameter_for_all_gives_the_share_of_malignant_ones() -> None:
    fitted = fit_baseline([8, 8, 8, 8], [1, 0, 0, 0])
    assert fitted.probability(8) == pytest.approx(0.25, abs=1e-3)


def test_the_fit_is_a_minimum() -> None:
    rng = np.random.default_rng(0)
    log_mm = rng.normal(2, 0.5, 500)
    label = rng.random(500) < 1 / (1 + np.exp(-3 * (log_mm - 2)))
    fitted = fit_baseline(np.exp(log_mm), label)
    residual = label - fitted.probability(np.exp(log_mm))
    assert abs(residual.sum()) < 0.01  # the derivatives of the likelihood, zero but for the ridge
    assert abs((residual * log_mm).sum()) < 0.02


@pytest.mark.parametrize(
    ("malignant", "told"), [([0, 0], "0 malignant and 2 benign"), ([1, NAN], "1 malignant and 0 benign")]
)
def test_a_class_that_is_not_there_is_an_error(malignant: list[float], told: str) -> None:
    with pytest.raises(LunaError, match=f"{told} nodules to train on; wanted some of both"):
        fit_baseline([5, 10], malignant)


def test_no_nodule_at_all_is_the_same_error() -> None:
    with pytest.raises(LunaError, match="0 malignant and 0 benign"):
        baseline(share([], []))


def test_own_and_set_in_nodules_are_fitted_together() -> None:
    own = [(5.0, 1.0), (10.0, 5.0), (7.0, 3.0), (8.0, None)]
    found = baseline(share(own, [("LIDC-IDRI-0001_1", 5.0, 4.0)]))
    assert found == fit_baseline([5.0, 10.0, 5.0], [0, 1, 1])


def test_a_nodule_that_is_cut_out_of_a_scan_counts_once() -> None:
    own = [(5.0, 1.0), (5.0, 4.0), (10.0, 5.0)]
    cut_out = [(f"1.2.3-{k}", *nodule) for k, nodule in enumerate(own, start=1)]
    assert baseline(share(own, cut_out[:1])) == fit_baseline([5.0, 5.0, 10.0], [0, 1, 1])


def test_parts_are_those_of_the_weights() -> None:
    batch = crops([5.0, 3.0], [9.0, 4.0])
    assert set(counts(batch, HOW)) == set(totals(verdict([0.5, 0.5]), batch, HOW)) == {"malignancy"}


def test_network_and_diameter_are_judged_on_the_same_nodules() -> None:
    batch = crops([5.0, 1.0, 4.0, 3.0, 1.0], [20.0, 10.0, 5.0, 9.0, NAN])  # the last two: for neither
    said = verdict([0.9, 0.2, 0.6, 0.1, 0.99])
    alone = DiameterBaseline(-math.log(10), 1.0)  # of odds mm / 10: 2/3, 1/2 and 1/3
    metrics = summarise([observe(said, batch, HOW)], HOW, alone).metrics
    assert metrics["malignancy_auc"] == 1.0
    assert metrics["malignancy_brier"] == pytest.approx((0.1**2 + 0.2**2 + 0.4**2) / 3)
    assert metrics["malignancy_auc_of_diameter"] == 0.5
    assert metrics["malignancy_brier_of_diameter"] == pytest.approx((1 / 9 + 1 / 4 + 4 / 9) / 3)
    assert metrics["calibration_error"] == pytest.approx((0.1 + 0.2 + 0.4) / 3)


def test_a_network_of_the_diameters_auc_gains_nothing() -> None:
    # mm 1, 3, 2, 4 of two benign and two malignant; the network has every order right but 0.6 against 0.5
    batch = crops([1.0, 1.0, 5.0, 5.0], [1.0, 3.0, 2.0, 4.0])
    metrics = summarise([observe(verdict([0.1, 0.6, 0.5, 0.9]), batch, HOW)], HOW, GROWS).metrics
    assert metrics["malignancy_auc_gain"] == 0


def test_a_network_that_tells_more_than_the_diameter_gains_its_pairs() -> None:
    # by diameter 2 mm is below 3 mm: 3 of 4 pairs; the network wins them all
    batch = crops([1.0, 1.0, 5.0, 5.0], [1.0, 3.0, 2.0, 4.0])
    metrics = summarise([observe(verdict([0.1, 0.2, 0.8, 0.9]), batch, HOW)], HOW, GROWS).metrics
    assert metrics["malignancy_auc_gain"] == 0.25


def test_the_loss_is_told_with_its_parts() -> None:
    metrics = summarise(
        [observe(verdict([0.5]), crops([5.0], [9.0]), HOW)], HOW, DiameterBaseline(0, 1)
    ).metrics
    assert metrics["loss"] == metrics["loss_malignancy"] == pytest.approx(math.log(2))


def test_both_have_a_curve() -> None:
    batch = crops([5.0, 1.0], [10.0, 10.0])
    curves = summarise(
        [observe(verdict([0.75, 0.25]), batch, HOW)], HOW, DiameterBaseline(-math.log(10), 1)
    ).curves
    assert list(curves) == ["malignancy", "malignancy of diameter alone"]
    np.testing.assert_allclose([said for _, said in curves.values()], [[0.75, 0.25], [0.5, 0.5]], rtol=1e-6)


def test_without_a_rated_nodule_there_is_no_figure() -> None:
    batch = crops([3.0, NAN], [9.0, 9.0])
    metrics = summarise([observe(verdict([0.5, 0.5]), batch, HOW)], HOW, DiameterBaseline(0, 1)).metrics
    names = (
        "malignancy_auc",
        "malignancy_brier",
        "malignancy_auc_of_diameter",
        "malignancy_auc_gain",
        "calibration_error",
    )
    assert all(math.isnan(metrics[name]) for name in names)


def test_the_nodules_judged_worst_are_shown() -> None:
    batch = crops([5.0, 4.0, 1.0, 2.0, 3.0], [9.0] * 5)
    shown = observe(verdict([0.9, 0.2, 0.3, 0.8, 0.5]), batch, HOW).shown
    assert {kind: [int(crop.hu[0, 0, 0]) for crop in of] for kind, of in shown.items()} == {
        LOWEST_MALIGNANT: [1, 0],
        HIGHEST_BENIGN: [3, 2],
    }
