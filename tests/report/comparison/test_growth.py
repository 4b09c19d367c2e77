import pytest

from p2ch_luna.report.comparison.growth import doubling_days, growth_of
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


@pytest.mark.parametrize(("ratio", "days"), [(1.0, 100), (0.5, 100), (2.0, None)])
def test_what_has_not_grown_in_a_known_time_has_no_doubling_time(ratio: float, days: int | None) -> None:
    assert doubling_days(ratio, days) is None


def test_a_diameter_of_a_quarter_more_is_nearly_twice_the_volume() -> None:
    """1.25 to the power of three is 1.953; 200 days * ln 2 / ln 1.953 are 207."""
    growth = growth_of(sized(8.0, 268.08), sized(10.0, 523.6), 200)
    assert (growth.diameter_mm, growth.diameter_percent) == pytest.approx((2.0, 25.0))
    assert (growth.volume_mm3, growth.volume_percent) == pytest.approx((255.52, 95.31), abs=0.01)
    assert growth.doubling_days == pytest.approx(207.1, abs=0.1)


@pytest.mark.parametrize(
    ("later", "days", "verdict"),
    [
        (sized(9.51), 365, "growing"),
        (sized(9.5), 365, "stable"),
        (sized(9.51), 400, "larger"),
        (sized(9.51), None, "larger"),
        (sized(9.0, 625.0), 365, "larger"),
        (sized(9.0, 624.0), 365, "stable"),
        (sized(7.0, 401.0), 365, "stable"),
        (sized(7.0, 400.0), 365, "smaller"),
        (sized(6.49), 365, "smaller"),
    ],
    ids=[
        "1.5 mm",
        "not quite",
        "over a year",
        "unknown",
        "volume",
        "not quite",
        "less",
        "volume less",
        "1.5 mm less",
    ],
)
def test_verdicts(later: Finding, days: int | None, verdict: str) -> None:
    """Of a nodule of 8 mm and 500 mm3."""
    assert growth_of(sized(8.0), later, days).verdict == verdict
