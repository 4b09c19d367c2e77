"""What a benchmark puts into a card."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from p2ch_luna.models.checkpoint import Figure
from p2ch_luna.report.benchmark.schema import BenchmarkReport, Group
from p2ch_luna.report.card.benchmark import conditions, failures_of, figures_of
from p2ch_luna.report.card.conditions import TOO_NARROW


@pytest.fixture
def figures(benchmark: BenchmarkReport) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures_of(benchmark)}


def test_the_score_comes_with_its_interval(figures: dict[str, Figure]) -> None:
    assert (figures["CPM"].value, figures["CPM"].interval_95) == (0.7, (0.6, 0.8))
    assert figures["sensitivity at 1 FP/scan"].value == 0.625
    assert figures["sensitivity at 4 FP/scan"].interval_95 == (0.5, 0.9)


def test_nodules_from_6_mm_are_counted_together(figures: dict[str, Figure]) -> None:
    """13 + 4 and 14 + 5 of 20."""
    assert figures["sensitivity at 1 FP/scan, from 6 mm"].value == 0.85
    assert figures["sensitivity at 4 FP/scan, from 6 mm"].value == 0.95
    assert figures["sensitivity at 4 FP/scan, 3-6 mm"].value == 0.55


def test_groups_are_named_as_a_person_would(figures: dict[str, Figure]) -> None:
    assert figures["sensitivity at 4 FP/scan, below 10 mm to the lung's edge (40)"].value == 0.75
    assert figures["sensitivity at 4 FP/scan, contrast below 200 HU (10)"].value == 0.7
    assert figures["sensitivity at 4 FP/scan, in LIDC-IDRI-0001 (20)"].value == 0.6


def test_the_stages_are_told_where_they_are_known(figures: dict[str, Figure]) -> None:
    assert figures["candidates a scan"].value == 23.5
    assert figures["nodules that a candidate hits, all (40)"].interval_95 == (0.7, 0.95)
    assert [name for name in figures if name.startswith("AUC")] == [
        "AUC of the probability, joint (36 candidates on nodules, 58 others)"
    ]


def test_conditions_name_nodules_scans_and_networks(benchmark: BenchmarkReport) -> None:
    sha256, joined = benchmark.inputs.models["classifier"], benchmark.inputs.calibration
    assert conditions(benchmark) == (
        "40 LIDC nodules (35 distinct ones) of 3 to 30 mm, of patients of folds 7, 8, set into 2 CT(s) "
        "(a.mha, LIDC-IDRI-0001), 2 set(s) each, seed 5, by luna benchmark; 95% intervals of groups, "
        "variants and AUCs take nodules and candidates as independent, those of further sets in the same CT "
        "too: they are too narrow; searched by "
        f"segmentation ffffffff, classifier {sha256[:8]}, calibration {joined[:8]}"
    )


def test_conditions_tell_of_what_was_trained_on(benchmark: BenchmarkReport) -> None:
    leak = "the classifier network has learnt from 1 of the hosts: 1.2.3"
    leaking = benchmark.model_copy(update={"warnings": (leak,)})
    assert f"by luna benchmark; {leak}; {TOO_NARROW}; searched by" in conditions(leaking)


def test_failures_are_groups_below_seven_in_ten(benchmark: BenchmarkReport) -> None:
    """Of ground glass one in four is found, but four say nothing."""
    on = conditions(benchmark)
    assert failures_of(benchmark) == [
        "diameter 3-6 mm: 11 of 20 nodules found at 4 FP/scan, 0.55 [0.34, 0.74]; of all 0.75; " + on,
        "in LIDC-IDRI-0001: 12 of 20 nodules found at 4 FP/scan, 0.60 [0.39, 0.78]; of all 0.75; " + on,
    ]


def test_a_group_surely_below_all_is_a_failure(
    benchmark: BenchmarkReport, make_group: Callable[..., Group]
) -> None:
    """750 of 1000 have an interval that ends at 0.776, all together are at 0.95."""
    groups = {"diameter": (make_group("3-6 mm", 1000, 0, 750), make_group("6-10 mm", 4000, 0, 4000))}
    figures = benchmark.figures.model_copy(update={"groups": groups})
    found = failures_of(benchmark.model_copy(update={"figures": figures}))
    assert [text[:15] for text in found] == ["diameter 3-6 mm"]
