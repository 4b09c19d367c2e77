"""`luna benchmark`: its table, its JSON, and what it does with a bad request; once on real chests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.cli import main
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import write_ct
from p2ch_luna.report.benchmark.schema import BenchmarkReport

Luna = Callable[..., tuple[int, str, str]]


@pytest.fixture
def luna(capsys: pytest.CaptureFixture[str]) -> Luna:
    """Runs `luna benchmark` with arguments: exit code, stdout, stderr."""

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["benchmark", *map(str, args)])
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err  # type: ignore[return-value]

    return run


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    hu = np.full((8, 8, 8), -900, np.int16)
    hu[:, :4] = 20
    path = tmp_path / "cube.mha"
    write_ct(path, CtVolume("cube", hu, ImageGeometry.axial()))
    return path


def test_a_host_that_is_not_there_stops_it_by_name(luna: Luna, cube: Path, tmp_path: Path) -> None:
    code, _, err = luna(cube, tmp_path / "none.mha", "--nodules", tmp_path, "-o", tmp_path / "out")
    assert code == 1
    assert "none.mha: not there" in err
    assert not (tmp_path / "out").exists()


def test_without_a_host_it_is_wrong_usage(luna: Luna, tmp_path: Path) -> None:
    assert luna("--nodules", tmp_path, "-o", tmp_path / "out")[0] == 2


def test_no_copies_are_wrong_usage(luna: Luna, cube: Path, tmp_path: Path) -> None:
    assert luna(cube, "--nodules", tmp_path, "--copies", "0", "-o", tmp_path / "out")[0] == 2


def test_folds_that_are_none_are_told(luna: Luna, cube: Path, tmp_path: Path) -> None:
    code, _, err = luna(cube, "--nodules", tmp_path, "--folds", "7-12", "-o", tmp_path / "out")
    assert code == 1
    assert "wanted numbers from 0 to 9" in err


@pytest.mark.slow
def test_real_nodules_in_a_real_chest(
    luna: Luna, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = Path(__file__).parents[2] / "data" / "hosts_excluded.csv"
    command = (
        shared_data / "ct" / "lung1.mha", "--nodules", shared_data / "lidc", "--copies", 2, "--count", 10,
        "--min-diameter", 6, "--known", known, "-o", tmp_path,
    )  # fmt: skip
    code, table, err = luna(*command)
    assert code == 0
    assert "lung1-implanted-2: " in err
    assert table.startswith("CPM 0.")
    assert "20 nodules found" in table
    code, text, err = luna(*command, "--json")
    assert "2 of 2 scans are done" in err
    report = BenchmarkReport.model_validate(json.loads(text))
    assert report.figures.groups["host"][0].at[1].sensitivity >= 0.7
    assert sum(group.nodules for group in report.figures.groups["texture"]) == 20
    assert report.inputs.hosts[0].known == 1
    told = [warning.split(":")[0] for warning in report.warnings]
    assert told == ["1 host(s)", "lung1"]  # whose lungs are cut off at the bottom
    lists = ("--excluded", tmp_path / "annotations_excluded.csv", "--scans", tmp_path / "seriesuids.csv")
    evaluate = ["evaluate", tmp_path / "detections.csv", "--truth", tmp_path / "annotations.csv", *lists]
    with pytest.raises(SystemExit):
        main([*map(str, evaluate), "--json"])
    assert json.loads(capsys.readouterr().out)["cpm"] == report.figures.cpm
