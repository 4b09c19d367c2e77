"""Calibrations of hand-made scans; what the fit must be is worked out beside each case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import expit

from p2ch_luna.datasets.benchmark import Implanted
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Detection, Nodule
from p2ch_luna.inference.joint import LOGIT_LIMIT, joint_probability
from p2ch_luna.models.checkpoint import NONE_COUNTS, Calibration, Figure, ModelCard
from p2ch_luna.report.benchmark.parts import Part
from p2ch_luna.report.calibration.fit import (
    CalibrationReport,
    Candidates,
    _curve,
    calibrate,
    operating_points,
    recalibrated,
)

Logits = tuple[float, float]  # of the segmentation and the classifier


def scan(
    uid: str,
    found: Sequence[Logits] = (),
    false: Sequence[Logits] = (),
    *,
    host: str = "host",
    missed: int = 0,
    excluded: Sequence[Logits] = (),
) -> Part:
    """Nodules of 8 mm in a row along x, false positives along y, findings of the host's own along z."""

    def marks(places: Sequence[tuple[float, float, float]], logits: Sequence[Logits]) -> list[Detection]:
        pairs = zip(places, logits, strict=False)
        return [
            Detection(uid, place, 0.5, 8.0, 268.0, float(expit(a)), float(expit(b)), 0.1)
            for place, (a, b) in pairs
        ]

    along_x = [(50.0 * k, 0.0, 0.0) for k in range(len(found) + missed)]
    along_y = [(0.0, 50.0 * (k + 1), 0.0) for k in range(len(false))]
    along_z = [(0.0, 0.0, 50.0 * (k + 1)) for k in range(len(excluded))]
    return Part(
        key="k",
        host=host,
        series_uid=uid,
        is_kept=False,
        implanted=tuple(Implanted("n", Nodule(uid, xyz, 8.0), 500.0, 15.0) for xyz in along_x),
        excluded=tuple(Nodule(uid, xyz, 8.0) for xyz in along_z),
        detections=(*marks(along_x, found), *marks(along_y, false), *marks(along_z, excluded)),
        warnings=(),
        seconds=1.0,
    )


SURE, UNSURE = (4.0, 2.0), (-2.0, -3.0)


def fitted(*parts: Part, nodules_per_scan: float = 1.0) -> CalibrationReport:
    return calibrate(parts, nodules_per_scan, on="hand-made scans")


def test_nodules_count_as_often_as_ordinary_scans_have_them() -> None:
    # two scans with six nodules, of which one was not proposed; 1.5 each are wanted: 3 / 6 = 0.5
    parts = [scan("a", [SURE] * 3, [UNSURE], missed=1), scan("b", [SURE] * 2, [UNSURE] * 2)]
    found = Candidates.of(parts, 1.5)
    assert found.weight[found.is_nodule].tolist() == [0.5] * 5
    assert found.weight[~found.is_nodule].tolist() == [1.0] * 3


def test_two_candidates_on_one_nodule_are_both_nodules() -> None:
    part = scan("a", [SURE], [UNSURE])
    twice = part.model_copy(update={"detections": (part.detections[0], *part.detections)})
    assert Candidates.of([twice], 1.0).is_nodule.tolist() == [True, True, False]


def test_candidates_on_findings_of_the_hosts_own_are_left_out() -> None:
    found = Candidates.of([scan("a", [SURE], [UNSURE], excluded=[SURE, SURE])], 1.0)
    assert found.is_nodule.tolist() == [True, False]


def test_logits_are_those_of_both_stages_within_the_limit() -> None:
    found = Candidates.of([scan("a", [(4.0, -2.0)], [(30.0, -30.0)])], 1.0)
    np.testing.assert_allclose(found.logits, [[4.0, -2.0], [LOGIT_LIMIT, -LOGIT_LIMIT]], atol=1e-6)


@pytest.mark.parametrize(("hosts", "groups"), [("ab", {"a", "b"}), ("aa", {"1", "2"})])
def test_hosts_are_apart_or_else_the_scans_of_the_one(hosts: str, groups: set[str]) -> None:
    parts = [scan(str(k + 1), [SURE], [UNSURE], host=host) for k, host in enumerate(hosts)]
    assert set(Candidates.of(parts, 1.0).group.tolist()) == groups


@pytest.mark.parametrize(
    ("part", "counts"),
    [
        (scan("a", [SURE], missed=1), "1 candidates, 1"),
        (scan("a", [], [UNSURE], missed=1), "1 candidates, 0"),
    ],
)
def test_one_kind_of_candidates_alone_is_told(part: Part, counts: str) -> None:
    with pytest.raises(LunaError, match=rf"1 scan\(s\) have {counts} of them on nodules; wanted .* --copies"):
        fitted(part)


def test_no_candidate_at_all_is_told() -> None:
    with pytest.raises(LunaError, match=r"0 candidates, 0 of them on nodules"):
        fitted(scan("a", missed=2))


def spread(n: int, seed: int) -> list[Logits]:
    rng = np.random.default_rng(seed)
    return [(float(a), float(b)) for a, b in rng.normal(size=(n, 2))]


def test_the_fit_says_what_comes_true() -> None:
    """On average over all candidates a fit with an intercept says the share of nodules, as these count."""
    # 20 nodules in 2 scans count 1.3 / 10 each: 2.6 beside 60 others
    parts = [
        scan(uid, [(a + 2, b + 1) for a, b in spread(10, k)], spread(30, k + 9)) for k, uid in enumerate("ab")
    ]
    report = fitted(*parts, nodules_per_scan=1.3)
    candidates = Candidates.of(parts, 1.3)
    said = expit(candidates.logits @ [report.calibration.segmentation, report.calibration.classifier]
                 + report.calibration.intercept)  # fmt: skip
    assert np.average(said, weights=candidates.weight) == pytest.approx(2.6 / 62.6)


def test_the_error_falls_and_is_told_for_those_left_out() -> None:
    parts = [
        scan(str(k), [(a + 2, b + 1) for a, b in spread(10, k)], spread(30, k + 9), host=str(k))
        for k in range(4)
    ]
    report = fitted(*parts, nodules_per_scan=1.3)
    assert report.error_left_out is not None
    assert report.error_after < report.error_left_out < report.error_before


def test_a_single_scan_has_nobody_to_leave_out() -> None:
    assert fitted(scan("a", [SURE], [UNSURE])).error_left_out is None


def test_counts_are_told() -> None:
    report = fitted(scan("a", [SURE] * 2, [UNSURE] * 3, missed=1, excluded=[SURE]))
    assert (report.scans, report.nodules, report.on_nodules, report.on_nothing) == (1, 3, 2, 3)
    assert report.calibration.on == "hand-made scans"


def test_operating_points_are_of_the_calibrated_probability() -> None:
    # in one scan: found, false, found, false, …; at 1 FP per scan three of four nodules count
    found = [(6.0, 6.0), (4.0, 4.0), (2.0, 2.0)]
    false = [(5.0, 5.0), (1.0, 1.0), (0.0, 0.0)]
    report = fitted(scan("a", found, false, missed=1))
    points = {point.fp_per_scan: point for point in report.calibration.operating_points}
    assert list(points) == [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    assert [points[rate].sensitivity for rate in (0.125, 1.0, 2.0, 8.0)] == [0.25, 0.75, 0.75, 0.75]
    low, high = (joint_probability(expit(x), expit(x), report.calibration) for x in (1.0, 2.0))
    assert points[1.0].probability == pytest.approx((low + high) / 2)


def test_probabilities_of_operating_points_fall_and_sensitivities_rise() -> None:
    parts = [scan(uid, spread(10, k), spread(30, k + 9)) for k, uid in enumerate("ab")]
    points = fitted(*parts).calibration.operating_points
    assert (np.diff([point.probability for point in points]) <= 0).all()
    assert (np.diff([point.sensitivity for point in points]) >= 0).all()


def test_a_stage_that_is_the_wrong_way_round_is_told() -> None:
    report = fitted(scan("a", [(3.0, -2.0), (2.0, -1.0)], [(-2.0, 2.0), (2.5, 1.0), (-3.0, -1.5)]))
    assert report.calibration.classifier == 0
    assert (
        "the classifier's logit would count against nodules here: its weight is set to 0" in report.warnings
    )


def test_two_stages_that_are_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(LunaError, match="both stages find nodules less probable"):
        fitted(
            scan("a", [(-3.0, -3.0), (-2.0, -3.0)] * 5, [(3.0, 3.0), (2.0, 3.0)] * 20), nodules_per_scan=9.0
        )


def test_too_few_hosts_for_the_lowest_rates_are_told_whatever_their_copies_are() -> None:
    eight = [scan(str(k), [SURE], [UNSURE] * 9, host=str(k % 2)) for k in range(8)]
    assert fitted(*eight).warnings == (
        "2 host(s): operating points below 1/2 false positives a scan hang on the first of one host; wanted "
        "8 or more, and further copies are no further hosts",
    )
    apart = [scan(str(k), [SURE], [UNSURE] * 9, host=str(k)) for k in range(8)]
    assert fitted(*apart).warnings == ()


def test_the_calibration_says_how_many_hosts_it_has_seen() -> None:
    parts = [scan(str(k), [SURE], [UNSURE], host=str(k % 2)) for k in range(4)]
    assert fitted(*parts).calibration.hosts == 2


def test_a_point_above_marks_of_probability_one_lets_none_count() -> None:
    """Far enough apart even false positives have it: at a lower rate than theirs there is no finding."""
    steep = Calibration(segmentation=4, classifier=4, intercept=0, operating_points=(), on="")
    curve = _curve([scan("a", [(9.0, 9.0)], [(9.5, 9.5)] * 2)], steep)
    point = operating_points(curve)[0]
    assert (point.probability, point.sensitivity) == (NONE_COUNTS, 0)


def test_too_few_candidates_for_the_highest_rates_are_told() -> None:
    eight = [scan(str(k), [SURE], [UNSURE] * 3, host=str(k)) for k in range(8)]
    (told,) = fitted(*eight).warnings
    assert told.startswith("all candidates together bring 3.00 false positives a scan")


def test_it_comes_back_from_its_json() -> None:
    report = fitted(scan("a", [SURE], [UNSURE]))
    assert CalibrationReport.model_validate_json(report.to_json()) == report


SEARCHED = "9 nodules, by luna benchmark; searched by classifier 01234567"
ELSEWHERE = "9 nodules, by luna malignancy"


@pytest.fixture
def card() -> ModelCard:
    """With a figure and a failure of the joint score, and others."""
    return ModelCard(
        builder="b", arguments={}, config={}, data=[], split={}, metrics={}, software="",
        calibration=Calibration(segmentation=1, classifier=1, intercept=0, operating_points=(), on="a"),
        figures=tuple(Figure(name="CPM", value=0.5, on=on) for on in (SEARCHED, ELSEWHERE)),
        known_failures=("masses at the hilum", f"solid: 1 of 9; {SEARCHED}"),
    )  # fmt: skip


def test_figures_of_another_calibration_are_dropped_from_the_card(card: ModelCard) -> None:
    new = Calibration(segmentation=1, classifier=1, intercept=-1, operating_points=(), on="a")
    found, told = recalibrated(card, new)
    assert found.calibration == new
    assert [figure.on for figure in found.figures] == [ELSEWHERE]
    assert found.known_failures == ("masses at the hilum",)
    assert told[0].startswith("the card's 1 figures and 1 known failures of another calibration are dropped;")


def test_figures_of_the_same_calibration_stay(card: ModelCard) -> None:
    new = Calibration(segmentation=1, classifier=1, intercept=0, operating_points=(), on="b")
    assert recalibrated(card, new) == (card.model_copy(update={"calibration": new}), [])
