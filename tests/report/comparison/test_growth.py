import pytest

from p2ch_luna.report.comparison.growth import doubling_days, growth_of
from p2ch_luna.report.comparison.schema import Verdict
from p2ch_luna.report.schema import Finding
from support.findings import chest, finding

CT = chest()


def sized(mean_diameter_mm: float, volume_mm3: float = 500.0) -> Finding:
    return finding(CT, (0, 50, 0), mean_diameter_mm=mean_diameter_mm, volume_mm3=volume_mm3)


@pytest.mark.parametrize(
    ("ratio", "days", "expected"),
    [(2.0, 100, 100.0), (8.0, 90, 30.0), (2**0.5, 50, 100.0)],
    ids=["doubled", "three times doubled", "half way"],
)
def test_doubling_times_worked_by_hand(ratio: float, days: int, expected: float) -> None:
    assert doubling_days(ratio, days) == pytest.approx(expected)


@pytest.mark.parametrize(("ratio", "days"), [(1.0001, 365), (1.24, 365), (1.0, 100), (0.5, 100), (2.0, None)])
def test_what_has_not_grown_in_a_known_time_has_no_doubling_time(ratio: float, days: int | None) -> None:
    assert doubling_days(ratio, days) is None


def test_from_a_quarter_more_on_there_is_a_doubling_time() -> None:
    """365 days * 0.6931 / 0.2231 are 1134."""
    assert doubling_days(1.25, 365) == pytest.approx(1133.8, abs=0.1)


def test_where_both_contradict_each_other_there_is_no_doubling_time() -> None:
    """A third more volume in 200 days would double in 482."""
    growth = growth_of(sized(8.0, 300.0), sized(6.4, 400.0), 200)
    assert (growth.verdict, growth.doubling_days) == ("unclear", None)


def test_a_diameter_of_a_quarter_more_is_nearly_twice_the_volume() -> None:
    """1.25 to the power of three is 1.953; 200 days * ln 2 / ln 1.953 are 207."""
    growth = growth_of(sized(8.0, 268.08), sized(10.0, 523.6), 200)
    assert (growth.diameter_mm, growth.diameter_percent) == pytest.approx((2.0, 25.0))
    assert (growth.volume_mm3, growth.volume_percent) == pytest.approx((255.52, 95.31), abs=0.01)
    assert growth.doubling_days == pytest.approx(207.1, abs=0.1)


VERDICTS: dict[str, tuple[float, float, int | None, Verdict]] = {
    "1.5 mm and a quarter": (9.51, 625.0, 365, "growing"),
    "over a year": (9.51, 625.0, 400, "larger"),
    "unknown time": (9.51, 625.0, None, "larger"),
    "1.5 mm, less than a quarter": (9.51, 624.0, 365, "unclear"),
    "1.5 mm, less volume": (9.6, 467.0, 365, "unclear"),
    "not quite 1.5 mm": (9.5, 625.0, 365, "larger"),
    "neither": (9.5, 624.0, 365, "stable"),
    "a quarter, hardly less wide": (7.51, 625.0, 365, "larger"),
    "a quarter, less wide": (7.5, 625.0, 365, "unclear"),
    "a third, 1.6 mm less": (6.4, 667.0, 365, "unclear"),
    "less, but neither": (6.5, 401.0, 365, "stable"),
    "a fifth less": (8.0, 400.0, 365, "smaller"),
    "a fifth less, hardly wider": (8.49, 400.0, 365, "smaller"),
    "a fifth less, wider": (8.5, 400.0, 365, "unclear"),
    "1.5 mm and a fifth less": (6.49, 400.0, 365, "smaller"),
    "1.5 mm less, not a fifth": (6.49, 401.0, 365, "unclear"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_diameter_and_volume_bring_one_verdict(case: str) -> None:
    """Of a nodule of 8 mm and 500 mm3."""
    mm, mm3, days, verdict = VERDICTS[case]
    assert growth_of(sized(8.0), sized(mm, mm3), days).verdict == verdict


SMALL_VERDICTS: dict[str, tuple[float, float, Verdict]] = {
    "three quarters more": (5.9, 875.0, "stable"),
    "twice": (5.9, 1000.0, "larger"),
    "twice, 1.6 mm more": (6.6, 1000.0, "growing"),
    "three quarters more, 1.6 mm more": (6.6, 875.0, "unclear"),
    "half": (4.0, 250.0, "smaller"),
    "not quite half": (4.0, 251.0, "stable"),
}


@pytest.mark.parametrize("case", SMALL_VERDICTS)
def test_a_small_nodule_changes_by_twice_its_volume(case: str) -> None:
    """Of a nodule of 5 mm and 500 mm3."""
    mm, mm3, verdict = SMALL_VERDICTS[case]
    assert growth_of(sized(5.0), sized(mm, mm3), 365).verdict == verdict


def test_a_nodule_that_shrinks_below_6_mm_is_small() -> None:
    assert growth_of(sized(6.5), sized(5.9, 350.0), 365).verdict == "stable"
