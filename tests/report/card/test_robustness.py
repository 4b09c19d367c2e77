"""What a study of variants puts into a card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from p2ch_luna.models.checkpoint import load_card
from p2ch_luna.report.benchmark.schema import BenchmarkReport
from p2ch_luna.report.card.figures import add_file
from p2ch_luna.report.card.robustness import conditions, failures_of, figures_of
from p2ch_luna.report.robustness.schema import RobustnessReport, VariantFigures

Make = Callable[..., VariantFigures]


def test_each_variant_has_its_sensitivity_and_its_false_positives(robustness: RobustnessReport) -> None:
    values = {figure.name: figure.value for figure in figures_of(robustness)}
    assert values["sensitivity at 4 FP/scan, as it is (20)"] == 0.8
    assert values["sensitivity at 4 FP/scan, noise (20)"] == 0.7
    assert values["FP/scan from the score of 1 FP/scan as it is, sharp kernel"] == 2.5
    assert [name for name in values if "half in view" in name] == [
        "FP/scan from the score of 1 FP/scan as it is, half in view"
    ]


def test_conditions_tell_what_is_interpolated(robustness: RobustnessReport) -> None:
    told = conditions(robustness)
    assert told.startswith(
        "20 LIDC nodules of 3 to 30 mm, of patients of folds 7, 8, set into 2 CT(s) (a.mha,"
    )
    assert "by luna robustness; a: slices of 5 mm; those of 1 mm are interpolated; 95% intervals" in told
    assert "lungs" not in told


def test_failures_are_sure_losses_falls_below_seven_in_ten_and_many_false_positives(
    robustness: RobustnessReport,
) -> None:
    on = conditions(robustness)
    against = "against the same nodules as they are"
    assert failures_of(robustness) == [
        f"thick slices: sensitivity at 4 FP/scan 0.65 of 20 in view, -0.15 [-0.35, +0.05] {against}; {on}",
        f"noise: sensitivity at 4 FP/scan 0.70 of 20 in view, -0.10 [-0.19, -0.01] {against}; {on}",
        f"sharp kernel: 2.50 false positives a scan from the score that gives 1.00 as it is; {on}",
    ]


def told(report: RobustnessReport, *variants: VariantFigures) -> list[str]:
    """The failures of these variants in brief, the first being as it is."""
    failures = failures_of(report.model_copy(update={"variants": variants}))
    return [text.partition(" in view")[0].partition(" from the score")[0] for text in failures]


def test_a_part_of_the_view_is_judged_by_the_nodules_in_it(
    robustness: RobustnessReport, make_variant: Make
) -> None:
    """Six of ten in the half are found as before; as it is, 16 of 20 are."""
    half = make_variant("a half", 6, 1.0, (0.0, -0.2, 0.2), nodules=10)
    assert told(robustness, make_variant("as it is", 16, 1.0), half) == []


def test_a_loss_among_the_nodules_in_view_counts_whatever_the_others_are(
    robustness: RobustnessReport, make_variant: Make
) -> None:
    """Eight of ten in the half were found before and six are; as it is, 12 of 20 are."""
    half = make_variant("a half", 6, 1.0, (-0.2, -0.5, 0.1), nodules=10)
    assert told(robustness, make_variant("as it is", 12, 1.0), half) == [
        "a half: sensitivity at 4 FP/scan 0.60 of 10"
    ]


def test_false_positives_are_many_by_those_that_there_are_as_it_is(
    robustness: RobustnessReport, make_variant: Make
) -> None:
    """A threshold that gives at most one a scan may give fewer; one a scan is what was asked for."""
    variants = [make_variant("of 1.25", 16, 1.25), make_variant("of 1", 16, 1.0)]
    assert told(robustness, make_variant("as it is", 16, 0.5), *variants) == [
        "of 1.25: 1.25 false positives a scan"
    ]
    assert told(robustness, make_variant("as it is", 16, 0.75), *variants) == []


def test_it_stands_in_the_card_beside_a_benchmark(
    robustness: RobustnessReport, benchmark: BenchmarkReport, weights: Path, tmp_path: Path
) -> None:
    card, both = load_card(weights), [tmp_path / "benchmark.json", tmp_path / "robustness.json"]
    both[0].write_text(benchmark.to_json(), encoding="utf-8")
    both[1].write_text(robustness.to_json(), encoding="utf-8")
    for path in [*both, *both]:
        card = add_file(card, path)
    assert len(card.figures) == len(figures_of(robustness)) + sum(
        "by luna benchmark" in figure.on for figure in card.figures
    )
    assert len(card.known_failures) == 1 + 2 + 3
