"""Figures of malignancy, of nodules whose AUC can be counted by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy.special import expit

from p2ch_luna.report.malignancy.figures import Judged, Scores, report_of, scores_of
from p2ch_luna.report.malignancy.files import write_files
from p2ch_luna.report.malignancy.schema import MalignancyReport

MM = [4.0, 5.0, 8.0, 9.0, 12.0, 15.0, 4.5, 7.0]
RATING = [1.0, 4.0, 2.0, 5.0, 2.5, 3.5, 3.0, 2.75]  # benign and malignant in turn, then two between
LOGIT = [-2.0, 1.0, -1.0, 3.0, 2.0, 2.5, 0.5, -0.5]  # of 9 pairs the network wins 8: 2.0 is above 1.0


def judged(run: ArrayLike = (0,) * 8, logits: ArrayLike = LOGIT, n: int = 8) -> Judged:
    columns = np.asarray(logits, float).reshape(n, -1)
    names = [f"P{k // 2}_{k}" for k in range(n)]
    return Judged(
        names, [name[:2] for name in names], np.asarray(run), np.array(MM[:n]), np.array(RATING[:n]),
        columns, np.array(MM[:n]) + 1,
    )  # fmt: skip


def about(*runs: str) -> list[dict[str, object]]:
    return [
        {
            "run": run,
            "weights_sha256": "ab",
            "folds": (number,),
            "hosts": ("1.2.3",),
            "seen_hosts": (),
            "epochs": 1,
            "recipe": {},
        }
        for number, run in enumerate(runs)
    ]


def report(of: Judged, *runs: str) -> MalignancyReport:
    return report_of(of, about(*(runs or ("first",))), places=of.logits.shape[1], seed=0)[0]


def two_runs(n: int = 40) -> Judged:
    """Alternately benign and malignant, of two runs; the second is three times too sure."""
    rng = np.random.default_rng(0)
    rating = np.tile([1.0, 5.0], n // 2)
    run = np.repeat([0, 1], n // 2)
    logit = np.tile(rng.normal(np.where(rating > 3, 1.0, -1.0)[: n // 2], 1.5), 2) * np.where(run, 3.0, 1.0)
    mm = np.exp(rng.normal(np.where(rating > 3, 2.5, 1.8), 0.5))
    names = [f"P{k}_1" for k in range(n)]
    return Judged(names, names, run, mm, rating, logit[:, None], np.full(n, np.nan))


def test_network_and_diameter_are_held_against_each_other() -> None:
    found = report(judged()).all
    assert (found.benign, found.malignant) == (3, 3)
    assert found.network.auc == pytest.approx(8 / 9)
    assert found.diameter.auc == pytest.approx(6 / 9)  # 12 mm is above 5 and 9, 8 mm above 5
    assert found.network_gain.difference == pytest.approx(2 / 9)
    assert found.network_gain.difference_95 is not None
    assert found.network_gain.by_patient_95 is not None


def test_bands_hold_the_nodules_of_their_diameters() -> None:
    found = {
        band.name: (band.benign, band.malignant, band.network.auc) for band in report(judged()).by_diameter
    }
    assert found == {
        "3-6 mm": (1, 1, 1.0),
        "6-10 mm": (1, 1, 1.0),
        "10-20 mm": (1, 1, 1.0),
        ">= 20 mm": (0, 0, None),
    }


def test_indeterminate_nodules_are_in_no_auc_but_told() -> None:
    found = report(judged()).indeterminate
    assert found.nodules == 2
    assert found.mean_probability == pytest.approx(expit([0.5, -0.5]).mean())
    assert found.called_malignant == 0.5


def test_places_are_judged_by_their_mean_and_one_alone_by_itself() -> None:
    """The second place turns the order round: alone it wins 1 pair of 9; the mean of both ties them all."""
    opposite = np.column_stack([LOGIT, np.negative(LOGIT)])
    found = report(judged(logits=opposite))
    assert found.all.network.auc == 0.5
    assert found.one_place_auc == pytest.approx((8 / 9 + 1 / 9) / 2)


def test_one_run_alone_has_nothing_fitted() -> None:
    found = report(judged())
    assert found.all.both is found.all.both_gain is found.with_temperature is None
    assert found.judges[0].temperature is None


def test_what_is_fitted_for_a_run_does_not_know_its_nodules() -> None:
    pooled = two_runs()
    other = Judged(
        pooled.name, pooled.patient, pooled.run, pooled.diameter_mm,
        np.where(pooled.run == 1, 6 - pooled.rating, pooled.rating), pooled.logits, pooled.said_mm,
    )  # fmt: skip
    before, after = scores_of(pooled, 2), scores_of(other, 2)
    assert before.both is not None
    assert after.both is not None
    second = pooled.run == 1
    np.testing.assert_array_equal(before.both[second], after.both[second])
    assert (before.both[~second] != after.both[~second]).any()


def test_a_temperature_of_the_others_is_applied() -> None:
    pooled = two_runs()
    scores: Scores = scores_of(pooled, 2)
    first, second = scores.temperatures
    assert first is not None
    assert second is not None
    assert first == pytest.approx(3 * second, rel=1e-3)  # fitted on the second, three times as sure
    assert scores.calibrated is not None
    np.testing.assert_allclose(scores.calibrated[pooled.run == 0] * first, pooled.logit[pooled.run == 0])


def test_the_diameter_that_is_said_is_compared() -> None:
    assert report(judged()).diameter_error_mm == 1.0
    assert report(two_runs(), "first", "second").diameter_error_mm is None


def test_patients_are_counted_once() -> None:
    assert report(judged()).patients == 3


def test_files_hold_a_row_a_nodule_and_the_same_figures(tmp_path: Path) -> None:
    pooled = two_runs()
    found, scores = report_of(pooled, about("first", "second"), places=1, seed=0)
    write_files(tmp_path, found, pooled, scores)
    assert MalignancyReport.model_validate_json((tmp_path / "malignancy.json").read_text()) == found
    with (tmp_path / "malignancy.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert rows[0] == {
        "nodule": "P0_1", "patient_id": "P0_1", "run": "first", "said_mm": "", "rating": "1",
        "readers": "benign", "diameter_mm": rows[0]["diameter_mm"],
        "probability": f"{expit(pooled.logit[0]):.4f}", "calibrated": rows[0]["calibrated"],
        "both": rows[0]["both"],
    }  # fmt: skip
    assert (tmp_path / "malignancy.png").read_bytes().startswith(b"\x89PNG")


def test_it_is_told_as_suspicion() -> None:
    assert "not pathology" in report(judged()).suspicion
