"""What `luna bench diagnose` makes of whole runs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.cli import main
from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.io.dicom import write_series
from p2ch_luna.report.bench import diagnosis
from p2ch_luna.report.bench.diagnosis import (
    OTHER_WAYS,
    SMALL,
    SMALL_SPACING,
    Way,
    compared_figures,
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


@pytest.mark.parametrize("way", OTHER_WAYS, ids=lambda way: way.name)
def test_another_way_is_compared_run_by_run(way: Way) -> None:
    stages = {"segmentation": 3.0, "classification": 1.0, "networks": 0.1}
    plain = [outcome(seconds, stages) for seconds in (10.0, 20.0, 10.0)]
    other = [outcome(8.0, {**stages, "segmentation": 2.0, "networks": 1.5}) for _ in plain]
    found = values(list(compared_figures(way, other, plain)))
    assert found[way.name] == 8.0
    assert found["… torch on the CPU against it, the whole"] == 1.25
    assert found["… torch on the CPU against it, segmentation"] == 1.5
    assert found[f"… {way.starting}"] == 1.5
    assert found["… largest difference in probability"] == 0.0


@pytest.mark.parametrize("has_gpu", [False, True])
def test_a_gpu_is_measured_where_there_is_one(
    has_gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def run(_scan: Path, folder: Path, options: Sequence[str]) -> Outcome:
        asked.append(" ".join(options))
        folder.mkdir(exist_ok=True)
        (folder / "report.html").touch()
        return outcome(1.0, {"segmentation": 0.5, "classification": 0.1, "networks": 0.1}, folder=folder)

    monkeypatch.setattr(diagnosis, "run_diagnosis", run)
    monkeypatch.setattr(diagnosis, "seconds_to_start", lambda _runs: [1.0])
    monkeypatch.setattr(diagnosis, "apart", lambda *_: 0.0)
    ways = [replace(way, is_there=lambda: has_gpu) for way in OTHER_WAYS if "cuda" in way.options]
    monkeypatch.setattr(diagnosis, "OTHER_WAYS", ways)
    found = values(list(diagnosis.measure(tmp_path, tmp_path, lambda _: None, runs=1)))
    assert ("on the GPU" in found) is has_gpu
    assert ("--no-html --device cuda" in asked) is has_gpu
    assert "--no-html --device cpu" in asked


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
