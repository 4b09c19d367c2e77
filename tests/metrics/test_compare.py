"""Paired differences on cases worked by hand."""

import numpy as np
import pytest
from numpy.typing import ArrayLike

from p2ch_luna.errors import LunaError
from p2ch_luna.metrics.compare import compare, two_sided_p
from p2ch_luna.metrics.froc import CPM_FP_PER_SCAN, bootstrap, froc
from p2ch_luna.metrics.matching import Outcome

MISSED = -np.inf


def outcome(found: ArrayLike, false: ArrayLike = (), n_scans: int | None = None) -> Outcome:
    """A nodule in each scan, found with this score or missed; false positives in the first scan."""
    nodules, false = np.asarray(found, float), np.asarray(false, float)
    return Outcome(
        n_scans=len(nodules) if n_scans is None else n_scans,
        nodule_score=nodules,
        nodule_scan=np.arange(len(nodules)),
        nodule_diameter_mm=np.full(len(nodules), 8.0),
        false_score=false,
        false_scan=np.zeros(len(false), int),
        nodule_index=np.arange(len(nodules)),
        nodule_mark=np.where(nodules > MISSED, np.arange(len(nodules)), -1),
        false_mark=len(nodules) + np.arange(len(false)),
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def random_outcome(seed: int, share: float) -> Outcome:
    """40 scans, each with a nodule found with the probability `share`, and 100 false positives."""
    rng = np.random.default_rng(seed)
    return outcome(np.where(rng.random(40) < share, rng.random(40), MISSED), rng.random(100))


def test_the_difference_is_that_of_the_scores(rng: np.random.Generator) -> None:
    """3 of 4 less 1 of 4 are found, without false positives: 1/2."""
    worse, better = outcome([0.9, MISSED, MISSED, MISSED]), outcome([0.9, 0.8, 0.7, MISSED])
    assert compare([worse, better], rng, 10)[0].cpm.value == 0.5


def test_differences_at_the_seven_rates(rng: np.random.Generator) -> None:
    """4 nodules in 4 scans: a false positive before them costs all below 1/4 a scan, nothing from there."""
    late, early = outcome([0.5] * 4, [0.9]), outcome([0.5] * 4)
    assert compare([late, early], rng, 10)[0].sensitivity.value.tolist() == [1, 0, 0, 0, 0, 0, 0]


def test_each_further_submission_is_compared_with_the_first(rng: np.random.Generator) -> None:
    first, second, third = outcome([0.9, MISSED]), outcome([0.9, 0.9]), outcome([MISSED, MISSED])
    assert [d.cpm.value for d in compare([first, second, third], rng, 10)] == [0.5, -0.5]


def test_a_submission_does_not_differ_from_itself(rng: np.random.Generator) -> None:
    same = compare([random_outcome(1, 0.6)] * 2, rng, 100)[0].cpm
    assert [float(same.bounds.low), float(same.bounds.high), float(same.p)] == [0.0, 0.0, 1.0]


def test_pairs_share_their_resamples(rng: np.random.Generator) -> None:
    """In each of 40 scans half of the nodules are found, and by the other all: 1/2 apart in any resample."""
    twice = np.tile(np.arange(40), 2)
    half, every = (
        Outcome(
            40,
            np.repeat([0.9, score], 40),
            twice,
            np.full(80, 8.0),
            np.empty(0),
            np.empty(0, int),
            np.arange(80),
            np.where(np.repeat([0.9, score], 40) > MISSED, np.arange(80), -1),
            np.empty(0, int),
        )
        for score in (MISSED, 0.9)
    )
    bounds = compare([half, every], rng, 100)[0].cpm.bounds
    np.testing.assert_allclose([bounds.low, bounds.high], 0.5)


def test_bounds_are_those_of_the_differences_resample_by_resample(rng: np.random.Generator) -> None:
    """1 of 3 against none: a resample with the scan k of 3 times differs by k / 3; both drawn by one seed."""
    none, one = outcome([MISSED] * 3), outcome([0.9, MISSED, MISSED])
    bounds = compare([none, one], rng, 200)[0].cpm.bounds
    times = np.sort(np.random.default_rng(0).multinomial(3, [1 / 3] * 3, size=200)[:, 0])
    np.testing.assert_allclose([bounds.low, bounds.high], times[[5, 195]] / 3)


def test_resamples_are_those_of_bootstrap(rng: np.random.Generator) -> None:
    """Against a submission that finds nothing the difference is the score itself, and so are its bounds."""
    nothing, some = outcome([MISSED] * 40), random_outcome(2, 0.5)
    alone = bootstrap(some, np.random.default_rng(0), 100).at(CPM_FP_PER_SCAN)
    bounds = compare([nothing, some], rng, 100)[0].sensitivity.bounds
    np.testing.assert_array_equal([bounds.low, bounds.high], [alone.low, alone.high])


def test_a_pair_is_narrower_than_two_intervals(rng: np.random.Generator) -> None:
    """B finds the same as A and one nodule more: the difference varies less than either score."""
    a = random_outcome(3, 0.5)
    score = a.nodule_score.copy()
    score[np.flatnonzero(score == MISSED)[0]] = 0.99
    paired = compare([a, outcome(score, a.false_score)], rng, 500)[0].cpm.bounds
    alone = bootstrap(a, np.random.default_rng(0), 500).cpm
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_a_clear_difference_has_a_small_p(rng: np.random.Generator) -> None:
    poor, good = random_outcome(4, 0.2), random_outcome(5, 0.9)
    assert compare([poor, good], rng, 999)[0].cpm.p == pytest.approx(0.002)  # 2 (0 + 1) / 1000


def test_turning_the_pair_round_turns_the_sign(rng: np.random.Generator) -> None:
    a, b = random_outcome(6, 0.4), random_outcome(7, 0.6)
    there, back = compare([a, b], rng, 100)[0].cpm, compare([b, a], np.random.default_rng(0), 100)[0].cpm
    assert (float(there.value), float(there.p)) == (-float(back.value), float(back.p))


@pytest.mark.parametrize(
    ("resampled", "p"),
    [
        ([1.0] * 19, 0.1),  # none below: 2 (0 + 1) / 20
        ([1.0] * 18 + [-1.0], 0.2),  # 2 (1 + 1) / 20
        ([1.0] * 18 + [0.0], 0.2),  # 0 is on both sides
        ([0.0] * 19, 1.0),
        ([1.0] * 18 + [1e-17], 0.2),  # 0 but for rounding
        ([-1.0] * 19, 0.1),
    ],
)
def test_p_is_twice_the_share_beyond_0(resampled: list[float], p: float) -> None:
    assert two_sided_p(np.array(resampled)) == pytest.approx(p)


def test_without_a_difference_p_is_seldom_small() -> None:
    """Of 200 pairs of one quality about 5 % have p < 0.05; more than 12 % would be 4.5 deviations."""
    pairs = ([random_outcome(i, 0.5), random_outcome(i + 1, 0.5)] for i in range(1000, 1400, 2))
    ps = [compare(pair, np.random.default_rng(i), 200)[0].cpm.p for i, pair in enumerate(pairs)]
    assert np.mean(np.array(ps) < 0.05) < 0.12


def test_one_scan_says_nothing_of_others(rng: np.random.Generator) -> None:
    cpm = compare([outcome([0.9]), outcome([MISSED])], rng, 10)[0].cpm
    assert cpm.value == -1
    assert np.isnan([cpm.bounds.low, cpm.bounds.high, cpm.p]).all()


def test_other_scans_are_no_pair(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"submission 2: 2 nodule\(s\) in 3 scan\(s\).*2 in 2"):
        compare([outcome([0.9, 0.5]), outcome([0.9, 0.5], n_scans=3)], rng)


def test_other_nodules_are_no_pair(rng: np.random.Generator) -> None:
    some = outcome([0.9, 0.5])
    with pytest.raises(ValueError, match=r"submission 3: 1 nodule\(s\)"):
        compare([some, some, outcome([0.9], n_scans=some.n_scans)], rng)


def test_one_submission_is_no_pair(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"1 submission\(s\)"):
        compare([outcome([0.9])], rng)


def test_without_nodules_there_is_no_difference(rng: np.random.Generator) -> None:
    with pytest.raises(LunaError, match="no nodule in 2 scan"):
        compare([outcome([], [0.5], n_scans=2)] * 2, rng)


def test_froc_and_compare_agree(rng: np.random.Generator) -> None:
    a, b = random_outcome(8, 0.4), random_outcome(9, 0.6)
    assert compare([a, b], rng, 10)[0].cpm.value == pytest.approx(froc(b).cpm - froc(a).cpm)
