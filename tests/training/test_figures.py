import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from p2ch_luna.metrics.froc import CPM_FP_PER_SCAN, Froc
from p2ch_luna.training.evaluation import Curve
from p2ch_luna.training.figures import calibration_figure, drawn, froc_figure, roc_figure


def curve(truth: ArrayLike, probability: ArrayLike) -> Curve:
    return np.asarray(truth, bool), np.asarray(probability, np.float32)


@pytest.fixture
def curves() -> dict[str, Curve]:
    """One good curve, each class alone, and nothing."""
    return {
        "nodule": curve([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4]),
        "benign": curve([0, 0], [0.1, 0.2]),
        "malignant": curve([1, 1, 1], [0.1, 0.2, 0.9]),
        "empty": curve([], []),
    }


@pytest.fixture
def froc() -> Froc:
    """Half is found at once, all from 2 false positives per scan on: a CPM of (4 x 0.5 + 3 x 1) / 7."""
    return Froc(np.array([0, 0, 2, 2.0]), np.array([0, 0.5, 0.5, 1]), np.array([np.inf, 0.9, 0.5, 0.4]))


def legend(figure: Figure) -> list[str]:
    found = figure.axes[0].get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def line(figure: Figure, number: int) -> NDArray[np.float64]:
    """(K, 2) points of a line in the upper axes."""
    return np.asarray(figure.axes[0].get_lines()[number].get_xydata())


def test_roc_names_the_auc_of_a_curve(curves: dict[str, Curve]) -> None:
    assert "nodule: AUC 0.750" in legend(roc_figure(curves))


def test_roc_says_which_class_a_curve_lacks(curves: dict[str, Curve]) -> None:
    assert legend(roc_figure(curves))[1:4] == [
        "benign: no positives among 2",
        "malignant: no negatives among 3",
        "empty: no samples",
    ]


def test_roc_leaves_out_a_curve_without_both_classes(curves: dict[str, Curve]) -> None:
    figure = roc_figure(curves)
    assert [len(line(figure, number)) for number in range(5)] == [5, 0, 0, 0, 2]  # the last is chance


def test_roc_has_false_positives_along_and_sensitivity_up() -> None:
    figure = roc_figure({"": curve([1, 0], [0.9, 0.1])})
    assert line(figure, 0).tolist() == [[0, 0], [0, 1], [1, 1]]


def test_calibration_names_the_expected_error() -> None:
    # said 0.25 and seen 0.5, for all
    assert "a: ECE 0.250" in legend(calibration_figure({"a": curve([0, 1], [0.25, 0.25])}))


def test_calibration_shows_a_curve_with_one_class_and_names_one_without_samples(
    curves: dict[str, Curve],
) -> None:
    assert legend(calibration_figure(curves))[1:4] == [
        "benign: ECE 0.150",
        "malignant: ECE 0.600",
        "empty: no samples",
    ]


def test_calibration_has_probability_along_and_frequency_up() -> None:
    figure = calibration_figure({"a": curve([0, 1, 1, 1], [0.25, 0.25, 0.75, 0.75])})
    np.testing.assert_allclose(line(figure, 0), [[0.25, 0.5], [0.75, 1]])


def test_the_histogram_counts_samples_on_a_log_axis() -> None:
    histogram = calibration_figure({"a": curve([0] * 1000 + [1], [0.05] * 1000 + [0.95])}).axes[1]
    assert histogram.get_yscale() == "log"
    low, high = histogram.get_ylim()
    assert low < 1 < 1000 < high


def test_the_histogram_stands_under_the_diagram_with_the_same_probabilities() -> None:
    diagram, histogram = calibration_figure({"a": curve([0, 1], [0.4, 0.6])}).axes
    assert diagram.get_xlim() == histogram.get_xlim() == (-0.01, 1.01)


def test_the_froc_title_has_cpm_nodules_and_scans(froc: Froc) -> None:
    title = froc_figure(froc, n_scans=2, n_nodules=4, title="epoch 3").axes[0].get_title()
    assert title == "epoch 3\nCPM 0.714; nodules: 4, scans: 2"


def test_the_froc_axis_has_the_ticks_of_luna16(froc: Froc) -> None:
    ax = froc_figure(froc, n_scans=2, n_nodules=4, title="").axes[0]
    ticks = dict(zip(ax.get_xticks(), (text.get_text() for text in ax.get_xticklabels()), strict=True))
    assert ticks == {0.125: "1/8", 0.25: "1/4", 0.5: "1/2", 1: "1", 2: "2", 4: "4", 8: "8"}


def test_the_seven_points_of_the_cpm_are_marked(froc: Froc) -> None:
    figure = froc_figure(froc, n_scans=2, n_nodules=4, title="")
    marked = np.stack([CPM_FP_PER_SCAN, [0.5] * 4 + [1.0] * 3], axis=1)
    np.testing.assert_array_equal(line(figure, 1), marked)


def test_the_froc_curve_runs_from_an_eighth_to_8_false_positives(froc: Froc) -> None:
    points = line(froc_figure(froc, n_scans=2, n_nodules=4, title=""), 0)
    np.testing.assert_allclose(points[[0, -1]], np.array([[0.125, 0.5], [8.0, 1.0]]))


def test_figures_are_drawn_as_pixels(curves: dict[str, Curve], froc: Froc) -> None:
    figures = [
        roc_figure(curves),
        calibration_figure(curves),
        froc_figure(froc, n_scans=2, n_nodules=4, title=""),
    ]
    sizes = [drawn(figure).shape for figure in figures]
    assert sizes == [(500, 550, 3), (650, 550, 3), (450, 550, 3)]


def test_figures_without_any_curve_are_drawn() -> None:
    for figure in (roc_figure({}), calibration_figure({})):
        assert drawn(figure).std() > 0


def test_the_picture_of_a_figure_is_dark_on_white(curves: dict[str, Curve]) -> None:
    image = drawn(roc_figure(curves))
    assert (image[0] == 255).all()
    assert image.dtype == np.uint8
    assert image.min() == 0


def test_figures_do_not_import_pyplot() -> None:
    code = "import sys, p2ch_luna.training.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
