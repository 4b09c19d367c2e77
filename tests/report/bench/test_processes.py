"""What is read off whole runs of the command."""

from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.report.bench.processes import Outcome, run_diagnosis


def outcome(*places: tuple[float, float | None]) -> Outcome:
    """Of places at x mm with a probability, the first of them a finding."""
    listed = [{"center_lps_mm": [x, 0.0, 0.0], "nodule_probability": p} for x, p in places]
    return Outcome(9.0, 1000.0, Path("out"), {"findings": listed[:1], "rejected": listed[1:]})


def test_runs_are_apart_by_the_largest_difference_at_one_place() -> None:
    one, other = outcome((0.0, 0.9), (50.0, 0.2)), outcome((50.3, 0.25), (0.2, 0.88))
    assert one.apart_from(other) == pytest.approx(0.05)


def test_a_place_of_one_run_alone_counts_in_full() -> None:
    assert outcome((0.0, 0.9)).apart_from(outcome((0.0, 0.9), (50.0, 0.2))) == pytest.approx(0.2)
    assert outcome((0.0, 0.9), (50.0, 0.2)).apart_from(outcome((0.0, 0.9))) == pytest.approx(0.2)


def test_a_place_that_was_not_judged_does_not_count() -> None:
    assert outcome((0.0, 0.9), (50.0, None)).apart_from(outcome((0.0, 0.9))) == 0.0


def test_runs_without_places_are_the_same() -> None:
    assert outcome().apart_from(outcome()) == 0.0


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"exit code 1; wanted 0: .*absent\.mha"):
        run_diagnosis(tmp_path / "absent.mha", tmp_path / "out", ["--no-html"])
