"""Groups and figures of hand-made parts; what is found at a rate is worked out beside each case."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.datasets.benchmark import Implanted
from p2ch_luna.findings import Detection, Nodule
from p2ch_luna.report.benchmark.figures import sensitivity_figure, write_plots
from p2ch_luna.report.benchmark.parts import Part
from p2ch_luna.report.benchmark.schema import (
    BenchmarkReport,
    Figures,
    HostInput,
    Inputs,
    Settings,
    figures_of,
    score_parts,
    write_tables,
)


def nodule(
    uid: str,
    x: float,
    diameter: float = 8.0,
    texture: float | None = 5.0,
    contrast: float | None = 500.0,
    pleura: float | None = 15.0,
) -> Implanted:
    return Implanted(f"L{x:g}", Nodule(uid, (x, 0.0, 0.0), diameter, 3.0, texture), contrast, pleura)


def mark(uid: str, x: float, probability: float) -> Detection:
    return Detection(uid, (x, 0.0, 0.0), probability, 5.0, 65.0, 0.9, 0.9, 0.1)


def part(host: str, copy: int, implanted: list[Implanted], marks: list[Detection]) -> Part:
    return Part(
        key="k",
        host=host,
        series_uid=f"{host}-{copy}",
        is_kept=False,
        implanted=tuple(implanted),
        excluded=(),
        detections=tuple(marks),
        warnings=(),
        seconds=1.0,
    )


@pytest.fixture
def parts() -> list[Part]:
    """Two scans. False marks at 0.9 and 0.6 on A, 0.57 on B: at 1 FP per scan, so 2, all above 0.57 counts.

    A: one nodule at 0.8, one at 0.55, one missed. B: one at 0.95.
    """
    on_a = [
        nodule("A-1", 0, 4.0, 5.0, 150.0, 5.0),
        nodule("A-1", 100, 6.0, 1.5, 300.0, None),
        nodule("A-1", 200, 25.0, None, None, 40.0),
    ]
    marks_a = [mark("A-1", 500, 0.9), mark("A-1", 0, 0.8), mark("A-1", 600, 0.6), mark("A-1", 100, 0.55)]
    on_b = [nodule("B-1", 0, 12.0, 3.0, 500.0, 12.0)]
    return [
        part("A", 1, on_a, marks_a),
        part("B", 1, on_b, [mark("B-1", 0, 0.95), mark("B-1", 500, 0.57)]),
    ]


@pytest.fixture
def figures(parts: list[Part]) -> Figures:
    return figures_of(score_parts(parts), np.random.default_rng(0))


def counts(figures: Figures, scale: str) -> dict[str, tuple[int, int, int]]:
    """By group: nodules, found at 1, found at 4 FP per scan."""
    return {
        group.name: (group.nodules, group.at[0].found, group.at[1].found) for group in figures.groups[scale]
    }


def test_the_totals_are_those_of_all_scans(figures: Figures) -> None:
    assert (figures.scans, figures.nodules, figures.found, figures.false_positives) == (2, 4, 3, 3)


def test_at_1_fp_per_scan_the_nodules_down_to_the_second_false_mark_are_found(figures: Figures) -> None:
    """0.95 and 0.8 lie above the third, 0.57; at 4 all 3 are allowed, so the nodule at 0.55 is found too."""
    assert counts(figures, "host") == {"A": (3, 1, 2), "B": (1, 1, 1)}


def test_a_nodule_of_6_mm_is_in_6_to_10_mm(figures: Figures) -> None:
    assert counts(figures, "diameter") == {
        "3-6 mm": (1, 1, 1), "6-10 mm": (1, 0, 1), "10-20 mm": (1, 1, 1), "from 20 mm": (1, 0, 0)
    }  # fmt: skip


def test_textures_are_ground_glass_part_solid_and_solid(figures: Figures) -> None:
    assert counts(figures, "texture") == {
        "ground glass": (1, 0, 1), "part-solid": (1, 1, 1), "solid": (1, 1, 1), "not known": (1, 0, 0)
    }  # fmt: skip


def test_contrast_is_cut_every_200_hu(figures: Figures) -> None:
    assert counts(figures, "contrast") == {
        "below 200 HU": (1, 1, 1), "200-400 HU": (1, 0, 1), "400-600 HU": (1, 1, 1), "not known": (1, 0, 0)
    }  # fmt: skip


def test_distance_is_cut_every_10_mm(figures: Figures) -> None:
    assert counts(figures, "pleura") == {
        "below 10 mm": (1, 1, 1), "10-20 mm": (1, 1, 1), "from 30 mm": (1, 0, 0), "not known": (1, 0, 1)
    }  # fmt: skip


def test_the_interval_of_1_in_3_is_wilsons(figures: Figures) -> None:
    """z = 1.96: (1/3 + z²/6 ± z √(2/27 + z²/36)) / (1 + z²/3) = (0.974 ± 0.834) / 2.281."""
    share = figures.groups["host"][0].at[0]
    assert share.sensitivity == pytest.approx(1 / 3)
    assert share.sensitivity_95 == pytest.approx((0.0615, 0.7923), abs=1e-4)


def test_one_scan_has_no_interval_of_scans(parts: list[Part]) -> None:
    figures = figures_of(score_parts(parts[:1]), np.random.default_rng(0))
    assert figures.cpm_95 is None
    assert all(point.sensitivity_95 is None for point in figures.froc)


def test_copies_of_one_host_have_no_interval(parts: list[Part]) -> None:
    same = [one.model_copy(update={"host": "A"}) for one in parts]
    assert figures_of(score_parts(same), np.random.default_rng(0)).cpm_95 is None


def test_a_nodule_in_two_scans_is_one_distinct_nodule(figures: Figures) -> None:
    """L0 is in both."""
    assert (figures.nodules, figures.distinct_nodules) == (4, 3)


def test_without_a_mark_nothing_is_found(parts: list[Part]) -> None:
    silent = [one.model_copy(update={"detections": ()}) for one in parts]
    figures = figures_of(score_parts(silent), np.random.default_rng(0))
    assert (figures.cpm, figures.found) == (0, 0)
    assert counts(figures, "host") == {"A": (3, 0, 0), "B": (1, 0, 0)}


def test_nodules_csv_has_a_row_a_nodule_with_the_score_of_its_best_mark(
    parts: list[Part], tmp_path: Path
) -> None:
    write_tables(tmp_path, parts, score_parts(parts))
    with (tmp_path / "nodules.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["probability"] for row in rows] == ["0.8", "0.55", "", "0.95"]
    assert [row["contrast_hu"] for row in rows] == ["150.0", "300.0", "", "500.0"]
    assert [row["pleura_mm"] for row in rows] == ["5.0", "", "40.0", "12.0"]
    assert rows[0]["origin"] == "L0"


@pytest.fixture
def report(figures: Figures) -> BenchmarkReport:
    host = HostInput(name="a.mha", series_uid="A", sha256="0", known=0)
    return BenchmarkReport(
        inputs=Inputs(hosts=(host,), pool=9, pool_sha256="0", models={}),
        settings=Settings(
            copies=1, count=3, folds=(7,), min_diameter_mm=3, max_diameter_mm=30, seed=0, device="cpu"
        ),
        figures=figures,
        warnings=(),
    )


def test_the_report_comes_back_from_its_json(report: BenchmarkReport) -> None:
    assert BenchmarkReport.model_validate_json(report.to_json()) == report


def test_the_counts_are_written_into_the_plot(report: BenchmarkReport) -> None:
    (ax,) = sensitivity_figure(report, "diameter").axes
    assert [text.get_text() for text in ax.texts] == ["1/1", "0/1", "1/1", "0/1", "1/1", "1/1", "1/1", "0/1"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        "3-6 mm",
        "6-10 mm",
        "10-20 mm",
        "from 20 mm",
    ]


def test_a_plot_of_each_property_is_written(report: BenchmarkReport, tmp_path: Path) -> None:
    write_plots(tmp_path, report)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"sensitivity_by_{scale}.png" for scale in ("contrast", "diameter", "pleura", "texture")
    ]
