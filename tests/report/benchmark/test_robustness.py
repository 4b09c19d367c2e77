"""The figures of variants of hand-made parts, and the parts that are made, kept and used again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.datasets.benchmark import Implanted
from p2ch_luna.datasets.variants import AS_IT_IS
from p2ch_luna.findings import Detection, Nodule
from p2ch_luna.inference.detector import Silent
from p2ch_luna.report.benchmark.parts import Part
from p2ch_luna.report.benchmark.run import Bench, run_benchmark
from p2ch_luna.report.benchmark.schema import Settings
from p2ch_luna.report.robustness.figure import robustness_figure
from p2ch_luna.report.robustness.run import run_robustness
from p2ch_luna.report.robustness.schema import RobustnessReport, VariantFigures, compare_variants

SETTINGS = Settings(
    copies=1, count=3, folds=tuple(range(10)), min_diameter_mm=3, max_diameter_mm=30, seed=0, device="cpu"
)
VIEWS = ["left half in view", "right half in view"]
TURNED = "turned along z"
Run = Callable[..., RobustnessReport]


def part(places: tuple[float, ...], marks: dict[float, float]) -> Part:
    """Nodules of 8 mm at these places along x, and the score of a mark at others."""
    return Part(
        key="k",
        host="A",
        series_uid="A-1",
        is_kept=False,
        implanted=tuple(Implanted("L", Nodule("A-1", (x, 0.0, 0.0), 8.0), None, None) for x in places),
        excluded=(),
        detections=tuple(
            Detection("A-1", (x, 0.0, 0.0), score, 5.0, 65.0, 0.9, 0.9, 0.1) for x, score in marks.items()
        ),
        warnings=(),
        seconds=1.0,
    )


@pytest.fixture
def variants() -> dict[str, VariantFigures]:
    """As it is, at 1 FP/scan all from 0.6 on counts: the first two of three nodules; at 4 all three.

    Blurred, the first nodule and the third are found at 1 FP/scan, which is from 0.5 on. Cropped, the third
    is out of view. Away, all are.
    """
    as_it_is = part((0, 100, 200), {500: 0.9, 0: 0.8, 100: 0.6, 600: 0.55, 200: 0.4})
    blurred = part((0, 100, 200), {0: 0.95, 500: 0.7, 200: 0.5, 600: 0.45, 700: 0.44, 800: 0.43, 900: 0.42})
    cropped = part((0, 100), {500: 0.9, 600: 0.85, 700: 0.6, 0: 0.6})
    away = part((), {500: 0.9})
    parts = {AS_IT_IS: [as_it_is], "blurred": [blurred], "cropped": [cropped], "away": [away]}
    score, figures = compare_variants(parts)
    assert score == 0.6
    return {one.name: one for one in figures}


def test_sensitivity_is_that_of_each_variants_own_curve(variants: dict[str, VariantFigures]) -> None:
    found = {name: [share.found for share in one.at] for name, one in variants.items()}
    assert found == {AS_IT_IS: [2, 3], "blurred": [2, 2], "cropped": [0, 1], "away": []}


def test_changes_are_of_the_same_nodules(variants: dict[str, VariantFigures]) -> None:
    """Blurred gains the third at 1 FP/scan and loses the second; cropped loses both that it still has."""
    changes = {name: [(c.gained, c.lost) for c in one.changes] for name, one in variants.items()}
    assert changes == {AS_IT_IS: [], "blurred": [(1, 1), (0, 1)], "cropped": [(0, 2), (0, 1)], "away": []}
    assert [c.difference for c in variants["cropped"].changes] == [-1.0, -0.5]


def test_the_score_of_the_scans_as_they_are_is_kept(variants: dict[str, VariantFigures]) -> None:
    """From 0.6 on: one false mark as it is and blurred, three cropped, one away."""
    assert {name: one.fp_per_scan for name, one in variants.items()} == {
        AS_IT_IS: 1, "blurred": 1, "cropped": 3, "away": 1
    }  # fmt: skip
    assert [one.sensitivity for one in variants.values()] == pytest.approx([2 / 3, 1 / 3, 1 / 2, None])


def test_without_a_nodule_in_view_there_is_no_cpm(variants: dict[str, VariantFigures]) -> None:
    assert (variants["away"].nodules, variants["away"].cpm) == (0, None)


@pytest.fixture
def hosts(write_host: Callable[..., Path]) -> list[Path]:
    return [write_host("a"), write_host("b", -800)]


@pytest.fixture
def run(lidc: Path, tmp_path: Path, detector: Any, hosts: list[Path]) -> Run:
    def call(*names: str, told: list[str] | None = None, **settings: object) -> RobustnessReport:
        bench = Bench.read(hosts, lidc, None, detector, SETTINGS.model_copy(update=settings))
        tell = [] if told is None else told
        return run_robustness(bench, names, tmp_path / "out", Silent(), tell.append)

    return call


def test_turned_round_everything_is_found_where_it_was(run: Run) -> None:
    as_it_is, turned = run(TURNED).variants
    assert as_it_is.cpm == 1
    assert turned.model_copy(update={"name": AS_IT_IS, "changes": ()}) == as_it_is
    assert [(c.gained, c.lost) for c in turned.changes] == [(0, 0), (0, 0)]


def test_a_nodule_is_in_one_half_or_in_the_other_and_no_false_positive_in_any(run: Run) -> None:
    _, left, right = run(*VIEWS).variants
    assert left.nodules + right.nodules == 6
    assert min(left.nodules, right.nodules) > 0
    assert left.fp_per_scan == right.fp_per_scan == 0
    assert left.cpm == right.cpm == 1


def test_a_nodule_out_of_view_is_excluded(run: Run, tmp_path: Path) -> None:
    run(*VIEWS)
    for view in VIEWS:
        for path in (tmp_path / "out" / "variants" / view.replace(" ", "-")).iterdir():
            made = Part.model_validate_json(path.read_bytes())
            assert len(made.implanted) + len(made.excluded) == 3


def test_thick_slices_reach_the_detector(run: Run, detector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    call = type(detector).__call__

    def looks(self: Any, ct: Any) -> Any:
        seen.append(ct.geometry.spacing_xyz[2])
        return call(self, ct)

    monkeypatch.setattr(type(detector), "__call__", looks)
    run("slices of 5 mm")
    assert seen == [2.0, 5.0] * 2


def test_the_same_again_diagnoses_nothing(run: Run, detector: Any, tmp_path: Path) -> None:
    first = run(TURNED, *VIEWS)
    told: list[str] = []
    assert run(TURNED, *VIEWS, told=told) == first
    assert detector.calls == 2 * 4
    assert told[-1].startswith("8 of 8 variants of scans are done")
    written = (tmp_path / "out" / "robustness.json").read_text(encoding="utf-8")
    assert RobustnessReport.model_validate_json(written) == first


def test_a_further_variant_leaves_the_earlier_ones(run: Run, detector: Any) -> None:
    run(TURNED)
    run(TURNED, VIEWS[0])
    assert detector.calls == 2 * 3


def test_another_seed_makes_all_anew(run: Run, detector: Any) -> None:
    run(TURNED)
    run(TURNED, seed=1)
    assert detector.calls == 2 * 2 * 2


def test_scans_as_they_are_come_from_a_benchmark_in_the_folder(
    run: Run, lidc: Path, tmp_path: Path, detector: Any, hosts: list[Path]
) -> None:
    bench = Bench.read(hosts, lidc, None, detector, SETTINGS)
    run_benchmark(bench, tmp_path / "out", Silent(), [].append)
    run(TURNED)
    assert detector.calls == 2 + 2


def test_slices_thinner_than_the_hosts_own_are_told(run: Run) -> None:
    report = run("slices of 1 mm", "slices of 5 mm")
    assert report.warnings == tuple(
        f"{host}: slices of 2 mm; those of 1 mm are interpolated" for host in ("a", "b")
    )


def test_the_plot_has_a_row_a_variant(run: Run, tmp_path: Path) -> None:
    left, right = robustness_figure(run(TURNED, *VIEWS)).axes
    rows = [label.get_text() for label in left.get_yticklabels()]
    assert rows[:2] == ["as it is  (n = 6)", f"{TURNED}  (n = 6)"]
    assert len(right.patches) == 4
    assert (tmp_path / "out" / "robustness.png").stat().st_size > 5000
