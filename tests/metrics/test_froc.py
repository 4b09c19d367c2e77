"""The curve, the CPM and the intervals on cases worked by hand."""

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.metrics.froc import (
    BOOTSTRAP_GRID,
    CPM_FP_PER_SCAN,
    bootstrap,
    draw_scans,
    froc,
    middle,
    resample,
)
from p2ch_luna.metrics.matching import Outcome

MISSED = -np.inf


def outcome(
    nodule_score: ArrayLike,
    false_score: ArrayLike,
    n_scans: int = 1,
    nodule_scan: ArrayLike | None = None,
    false_scan: ArrayLike | None = None,
) -> Outcome:
    nodules, false = np.asarray(nodule_score, float), np.asarray(false_score, float)
    return Outcome(
        n_scans=n_scans,
        nodule_score=nodules,
        nodule_scan=np.zeros(len(nodules), int) if nodule_scan is None else np.asarray(nodule_scan),
        nodule_diameter_mm=np.full(len(nodules), 8.0),
        false_score=false,
        false_scan=np.zeros(len(false), int) if false_scan is None else np.asarray(false_scan),
        nodule_index=np.arange(len(nodules)),
        nodule_mark=np.where(nodules > MISSED, np.arange(len(nodules)), -1),
        false_mark=len(nodules) + np.arange(len(false)),
    )


def test_the_curve_climbs_with_hits_and_runs_with_false_positives() -> None:
    curve = froc(outcome([0.9, 0.5, MISSED, 0.3], [0.7, 0.4], n_scans=2))
    points = list(zip(curve.fp_per_scan, curve.sensitivity, strict=True))
    assert points == [(0, 0), (0, 0.25), (0.5, 0.25), (0.5, 0.5), (1, 0.5), (1, 0.75)]


def test_the_threshold_is_the_lowest_score_counted() -> None:
    assert froc(outcome([0.9, 0.5], [0.7])).threshold.tolist() == [np.inf, 0.9, 0.7, 0.5]


def test_sensitivity_is_linear_between_points() -> None:
    curve = froc(outcome([0.5, 0.5], [0.5]))  # from (0, 0) to (1, 1) at one threshold
    assert curve.at(0.25) == pytest.approx(0.25)


def test_tied_scores_are_one_point() -> None:
    assert froc(outcome([0.5, 0.5], [0.5, 0.5])).fp_per_scan.tolist() == [0, 2]


def test_a_jump_counts_at_its_own_false_positives() -> None:
    curve = froc(outcome([0.9, 0.3], [0.7]))  # half at 0 FP, all at 1 FP
    assert curve.at([0.0, 0.999, 1.0]).tolist() == [0.5, 0.5, 1.0]


def test_after_its_end_the_curve_is_level() -> None:
    assert froc(outcome([0.9, MISSED], [0.7])).at(100) == 0.5


def test_cpm_is_the_mean_of_seven_sensitivities() -> None:
    # 10 nodules in 8 scans: one is found at once, one more after each of 1, 2, 4, 8, 16, 32 false positives
    false = np.concatenate([np.full(n, -float(i)) for i, n in enumerate([1, 1, 2, 4, 8, 16, 32])])
    found = 0.5 - np.arange(7)
    curve = froc(outcome([*found, MISSED, MISSED, MISSED], false, n_scans=8))
    assert curve.cpm == pytest.approx(np.mean([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.7]))


def test_all_scans_divide_the_false_positives() -> None:
    assert froc(outcome([0.9], [0.7], n_scans=8)).fp_per_scan[-1] == 0.125


def test_without_false_positives_cpm_is_the_share_found() -> None:
    assert froc(outcome([0.9, 0.2, MISSED, 0.4], [])).cpm == 0.75


def test_without_marks_cpm_is_0() -> None:
    assert froc(outcome([MISSED, MISSED], [])).cpm == 0.0


def test_without_hits_cpm_is_0() -> None:
    assert froc(outcome([MISSED], [0.3, 0.2])).cpm == 0.0


def test_without_nodules_there_is_no_score() -> None:
    with pytest.raises(LunaError, match="no nodule in 3 scan"):
        froc(outcome([], [0.5], n_scans=3))


def test_only_the_order_of_scores_counts() -> None:
    rng = np.random.default_rng(0)
    found, false = rng.random(20), rng.random(50)
    shifted = froc(outcome(100 * found - 50, 100 * false - 50))
    np.testing.assert_array_equal(shifted.sensitivity, froc(outcome(found, false)).sensitivity)


@pytest.fixture
def varied() -> Outcome:
    """12 scans with 0 to 3 nodules each, half of them found, and 60 false positives."""
    rng = np.random.default_rng(2)
    nodule_scan = np.repeat(np.arange(12), rng.integers(0, 4, 12))
    found = rng.random(len(nodule_scan))
    nodule_score = np.where(found < 0.5, MISSED, found)
    return outcome(nodule_score, rng.random(60), 12, nodule_scan, rng.integers(0, 12, 60))


def test_one_scan_says_nothing_of_others() -> None:
    interval = bootstrap(outcome([0.9, MISSED], [0.7]), np.random.default_rng(0), n_resamples=50)
    bounds = interval.at(CPM_FP_PER_SCAN)
    assert np.isnan([interval.cpm.low, interval.cpm.high, *bounds.low, *bounds.high]).all()


@pytest.fixture
def step() -> Outcome:
    """3 scans that are all the same: 2 false positives above the nodule, and another nodule that is missed.

    So each resample has the curve (0, 0), (2, 0), (2, 1/2): it jumps at 2, between points of the grid.
    """
    scans = np.arange(3)
    false_scan = np.repeat(scans, 2)
    return outcome([0.5] * 3 + [MISSED] * 3, [0.9] * 6, 3, np.tile(scans, 2), false_scan)


def test_bounds_at_a_step_between_the_grid_are_those_at_the_step(step: Outcome) -> None:
    bounds = bootstrap(step, np.random.default_rng(0), n_resamples=50).at(2.0)
    assert [float(bounds.low), float(bounds.high)] == [0.5, 0.5]


def test_the_grid_alone_misses_the_step(step: Outcome) -> None:
    grid = bootstrap(step, np.random.default_rng(0), n_resamples=50).at(BOOTSTRAP_GRID)
    assert np.interp(2.0, BOOTSTRAP_GRID, grid.high) < 0.5


def test_bounds_are_not_rounded_away_from_the_estimate() -> None:
    thirds = outcome([0.9, MISSED, MISSED] * 2, [], 2, [0, 0, 0, 1, 1, 1])  # 1/3 in every resample
    interval = bootstrap(thirds, np.random.default_rng(0), n_resamples=50)
    assert [float(interval.cpm.low), float(interval.cpm.high)] == [froc(thirds).cpm] * 2


def test_bootstrap_is_that_of_scans_drawn_one_by_one(varied: Outcome) -> None:
    """The same draws, made by copying scans instead of weighing them."""
    n_resamples = 40
    times = np.random.default_rng(3).multinomial(12, np.full(12, 1 / 12), size=n_resamples)
    curves = np.array([froc(_copied(varied, row)).at(BOOTSTRAP_GRID) for row in times], np.float32)
    interval = bootstrap(varied, np.random.default_rng(3), n_resamples)
    np.testing.assert_allclose(interval.at(BOOTSTRAP_GRID).low, np.sort(curves, axis=0)[1], atol=1e-6)


def _copied(whole: Outcome, times: NDArray[np.int64]) -> Outcome:
    drawn = np.repeat(np.arange(whole.n_scans), times)
    nodules = np.concatenate([np.flatnonzero(whole.nodule_scan == scan) for scan in drawn])
    false = np.concatenate([np.flatnonzero(whole.false_scan == scan) for scan in drawn])
    return outcome(whole.nodule_score[nodules], whole.false_score[false], whole.n_scans)


def test_bounds_are_the_25th_and_975th_of_1000(varied: Outcome) -> None:
    wide = bootstrap(varied, np.random.default_rng(4), 1000)
    cpms = [
        froc(_copied(varied, row)).cpm
        for row in np.random.default_rng(4).multinomial(12, np.full(12, 1 / 12), size=1000)
    ]
    expected = np.sort(cpms)[[25, 975]]
    np.testing.assert_allclose([wide.cpm.low, wide.cpm.high], expected, atol=1e-6)


def test_the_interval_holds_the_curve(varied: Outcome) -> None:
    bounds = bootstrap(varied, np.random.default_rng(5)).at(CPM_FP_PER_SCAN)
    sensitivity = froc(varied).at(CPM_FP_PER_SCAN)
    assert ((bounds.low <= sensitivity) & (sensitivity <= bounds.high)).all()


def test_resamples_without_a_nodule_are_left_out() -> None:
    lonely = outcome([0.9], [0.1], n_scans=3, nodule_scan=[0])
    assert bootstrap(lonely, np.random.default_rng(6), 200).cpm.low == 1.0


def test_resamples_short_of_false_positives_are_counted_to_the_end() -> None:
    """All but 2 of 2,000 false positives are on one of 20 scans: a third of the resamples are without it."""
    rng = np.random.default_rng(9)
    crowded = outcome(rng.random(40), rng.random(2000), 20, np.arange(40) % 20, [0, 1] + [2] * 1998)
    times = np.random.default_rng(10).multinomial(20, np.full(20, 1 / 20), size=30)
    expected = [froc(_copied(crowded, row)).at(CPM_FP_PER_SCAN) for row in times]
    np.testing.assert_allclose(resample(crowded, times, CPM_FP_PER_SCAN), expected, atol=1e-12)


def test_one_seed_gives_one_interval(varied: Outcome) -> None:
    first, again = (bootstrap(varied, np.random.default_rng(7), 50).cpm.low for _ in range(2))
    assert first == again


@pytest.mark.parametrize("copies", [1, 50])
def test_copies_of_a_scan_do_not_narrow_the_interval(copies: int) -> None:
    """Of two patients one finds 4 in 5, the other 1 in 5: both, or twice the same one, are drawn."""
    scores = np.tile([[1.0] * 4 + [MISSED], [1.0] + [MISSED] * 4], (copies, 1))
    patients = outcome(scores.ravel(), [], 2 * copies, np.repeat(np.arange(2 * copies), 5))
    interval = bootstrap(patients, np.random.default_rng(0), groups=["one", "other"] * copies).cpm
    assert (float(interval.low), float(interval.high)) == pytest.approx((0.2, 0.8))


def test_groups_are_drawn_whole(varied: Outcome) -> None:
    times = draw_scans(varied, np.random.default_rng(0), 50, np.repeat([7, 3, 5], [2, 4, 6]))
    assert (times == np.repeat(times[:, [0, 2, 6]], [2, 4, 6], axis=1)).all()
    assert set(times[:, [0, 2, 6]].sum(axis=1).tolist()) == {3}


def test_groups_of_one_scan_are_the_scans(varied: Outcome) -> None:
    alone, grouped = (
        draw_scans(varied, np.random.default_rng(1), 20, groups) for groups in (None, np.arange(12))
    )
    np.testing.assert_array_equal(alone, grouped)


def test_one_group_says_nothing_of_others(varied: Outcome) -> None:
    assert np.isnan(bootstrap(varied, np.random.default_rng(0), groups=[0] * 12).cpm.low)


def test_a_resample_is_divided_by_the_scans_in_it() -> None:
    """Scan 0 alone, drawn three times where two scans are: one false positive a scan."""
    two = outcome([0.5, 0.5], [0.9], 2, [0, 1], [0])
    assert resample(two, np.array([[3, 0]]), [0.5, 1.0]).tolist() == [[0.0, 1.0]]


def test_groups_that_are_not_of_all_scans_are_refused(varied: Outcome) -> None:
    with pytest.raises(ValueError, match="one for each of 12"):
        draw_scans(varied, np.random.default_rng(0), 5, [1, 2])


def test_the_90_percent_bounds_of_1000_are_the_50th_and_950th() -> None:
    bounds = middle(np.arange(1000.0), confidence=0.9)
    assert (float(bounds.low), float(bounds.high)) == (50, 950)
