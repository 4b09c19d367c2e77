"""What `luna bench diagnose` makes of whole runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.cli import main
from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.io.dicom import write_series
from p2ch_luna.report.bench.diagnosis import (
    SMALL,
    SMALL_SPACING,
    openvino_figures,
    page_figures,
    plain_figures,
)
from p2ch_luna.report.bench.processes import Outcome
from p2ch_luna.training.bench_data import Figure


def outcome(seconds: float, stages: dict[str, float], *, folder: Path = Path("out")) -> Outcome:
    report = {"timings_s": stages, "findings": [], "rejected": []}
    return Outcome(seconds, 100 * seconds, folder, report)


def values(figures: list[Figure]) -> dict[str, float]:
    return {figure.what: figure.value for figure in figures}


def test_stages_have_their_median_and_their_share() -> None:
    runs = [outcome(10.0, {"reading": r, "lungs": 3.0}) for r in (1.0, 2.0, 9.0)]
    found = values(list(plain_figures(runs)))
    assert found["a diagnosis, without page and pictures"] == 10.0
    assert found["… reading, 20 %"] == 2.0
    assert found["… lungs, 30 %"] == 3.0
    assert found["… start and end of the process, 50 %: no reason is known"] == 5.0
    assert found["… its highest memory"] == 1000.0


def test_a_stage_with_a_large_share_says_why() -> None:
    (line,) = (f.what for f in plain_figures([outcome(10.0, {"segmentation": 5.0})]) if "segm" in f.what)
    assert line.startswith("… segmentation, 50 %: it alone looks at every voxel")


def test_too_slow_a_diagnosis_misses_its_bound() -> None:
    whole, *_ = plain_figures([outcome(15.5, {})])
    assert whole.holds is False


def test_page_and_pictures_are_measured_run_by_run(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_bytes(bytes(2_000_000))
    plain = [outcome(seconds, {}) for seconds in (5.0, 9.0, 5.0)]
    full = [outcome(seconds, {}, folder=tmp_path) for seconds in (7.0, 10.0, 8.0)]
    found = values(list(page_figures(full, plain)))
    assert found["… page and pictures take, more"] == 2.0  # of 2, 1 and 3
    assert found["… report.html"] == 2.0


def test_openvino_is_compared_run_by_run() -> None:
    stages = {"segmentation": 3.0, "classification": 1.0, "networks": 0.1}
    plain = [outcome(seconds, stages) for seconds in (10.0, 20.0, 10.0)]
    other = [outcome(8.0, {**stages, "segmentation": 2.0, "networks": 1.5}) for _ in plain]
    found = values(list(openvino_figures(other, plain)))
    assert found["… torch on the CPU against it, the whole"] == 1.25
    assert found["… torch on the CPU against it, segmentation"] == 1.5
    assert found["… reading and converting its networks"] == 1.5
    assert found["… largest difference in probability"] == 0.0


@pytest.mark.slow
def test_every_figure_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    made = make_phantom(rng, shape_irc=SMALL, spacing_xyz=SMALL_SPACING, n_nodules=2, series_uid="2.25.7")
    write_series(tmp_path / "dicom", made.ct)
    with pytest.raises(SystemExit) as done:
        main(["bench", "diagnose", "--scan", str(tmp_path / "dicom"), "--runs", "1", "--json"])
    assert not done.value.code
    figures = json.loads(capsys.readouterr().out)
    found = {figure["what"]: figure["value"] for figure in figures}
    assert 0.5 < found["a diagnosis, without page and pictures"] < 120
    assert 200 < found["… its highest memory"] < 4000
    assert 0 <= found["… largest difference in probability"] < 0.05
    assert 0 < found["… report.html"] < 25
    assert abs(found["growth of its own memory over 10 scans"]) < 200
