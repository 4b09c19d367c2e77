"""`luna diagnose` of a folder of scans: a folder each, a table of all, what failed, what is done already."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p2ch_luna.cli import main
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import write_ct, write_series
from p2ch_luna.models.checkpoint import bundled
from p2ch_luna.report.many import run as many
from p2ch_luna.report.many.job import DetectorJob
from p2ch_luna.report.many.run import ManyDone
from support.diagnosed import names

Luna = Callable[..., tuple[int, str, str]]


@pytest.fixture
def luna(capsys: pytest.CaptureFixture[str]) -> Luna:
    """Runs `luna diagnose` without pages: exit code, stdout, stderr."""

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["diagnose", *map(str, args), "--no-html"])
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err  # type: ignore[return-value]

    return run


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A file, a folder of DICOM and a file that is cut short; no lungs are in them."""
    folder = tmp_path / "scans"
    hu = np.full((20, 30, 32), -1000, np.int16)
    hu[5:15, 8:22, 9:31] = 20
    ct = CtVolume("1.2.3", hu, ImageGeometry.axial((4.0, 4.0, 4.0)))
    write_ct(folder / "a.mha", ct)
    write_series(folder / "b" / "dicom", ct)
    (folder / "c.mha").write_bytes((folder / "a.mha").read_bytes()[:-100])
    return folder


def rows(output: Path) -> dict[str, dict[str, str]]:
    with (output / "summary.csv").open(encoding="utf-8", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_each_scan_has_its_folder_and_a_bad_one_is_told(luna: Luna, scans: Path, tmp_path: Path) -> None:
    code, out, err = luna(scans, "-o", tmp_path / "out", "--workers", 1)
    assert code == 1
    assert "3 scans: 2 diagnosed" in out
    assert "c.mha" in out
    assert {name: bool(row["error"]) for name, row in rows(tmp_path / "out").items()} == {
        "a": False,
        "b": False,
        "c": True,
    }
    assert {"report.json", "detections.csv"} <= set(names(tmp_path / "out" / "a"))
    assert [line.split()[0] for line in err.splitlines()[-3:]] == ["1/3", "2/3", "3/3"]


@pytest.mark.slow
def test_what_is_done_is_not_done_again(luna: Luna, scans: Path, tmp_path: Path) -> None:
    (scans / "c.mha").unlink()
    luna(scans, "-o", tmp_path / "out", "--workers", 1)
    before = (tmp_path / "out" / "a" / "report.json").stat().st_mtime_ns
    code, out, _ = luna(scans, "-o", tmp_path / "out", "--workers", 1)
    assert code == 0
    assert "0 diagnosed" in out
    assert (tmp_path / "out" / "a" / "report.json").stat().st_mtime_ns == before
    _, out, _ = luna(scans, "-o", tmp_path / "out", "--workers", 1, "--again", "--json")
    assert {row["name"]: row["findings"] for row in json.loads(out)} == {"a": None, "b": None}
    assert (tmp_path / "out" / "a" / "report.json").stat().st_mtime_ns > before


def test_a_folder_with_one_scan_is_that_scan(luna: Luna, scans: Path, tmp_path: Path) -> None:
    code, out, _ = luna(scans / "b", "-o", tmp_path / "out")
    assert code == 0
    assert "not searched" in out
    assert "findings: from probability" not in out
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["findings"] == []
    assert "no lungs found" in report["warnings"][-1]


@pytest.mark.parametrize(("folder", "code", "error"), [("b", 0, ""), ("broken", 1, "c.mha")])
def test_with_workers_a_folder_with_one_scan_is_a_job(
    luna: Luna, scans: Path, tmp_path: Path, folder: str, code: int, error: str
) -> None:
    (scans / "broken").mkdir()
    (scans / "c.mha").rename(scans / "broken" / "c.mha")
    found, out, _ = luna(scans / folder, "-o", tmp_path / "out", "--workers", 1)
    assert found == code
    assert out.startswith("1 scan: ")
    (row,) = rows(tmp_path / "out").values()
    assert bool(row["error"]) is bool(error)
    assert error in row["error"]


@pytest.mark.parametrize("options", [(), ("--workers", 1)])
def test_a_folder_with_none_is_told(luna: Luna, tmp_path: Path, options: tuple[object, ...]) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = luna(tmp_path / "empty", "-o", tmp_path / "out", *options)
    assert code == 1
    assert "empty" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_results_do_not_go_among_the_scans(luna: Luna, scans: Path) -> None:
    """Whose own tables, as LUNA16's lists, would be replaced."""
    before = names(scans)
    code, _, err = luna(scans, "-o", scans)
    assert code == 1
    assert "the scans lie in it; expected another folder" in err.splitlines()[-1]
    assert names(scans) == before


def test_results_of_several_do_not_go_among_those_of_one(luna: Luna, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").touch()
    code, _, err = luna(scans, "-o", tmp_path / "out")
    assert code == 1
    assert "holds report.json, the results of one scan" in err.splitlines()[-1]


def test_workers_are_told_their_threads_the_device_and_where_the_weights_are(
    luna: Luna, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By absolute paths, as they may run elsewhere."""
    given: dict[str, Any] = {}

    def note(_scans: object, output: Path, job: DetectorJob, **settings: object) -> ManyDone:
        given.update(settings, job=job)
        return ManyDone(output, (), 0, 0.0)

    monkeypatch.setattr(many, "diagnose_many", note)
    weights = bundled("segmentation")
    monkeypatch.chdir(weights.parent)
    threads = torch.get_num_threads()
    luna(
        scans, "-o", tmp_path / "out", "--segmentation", weights.name, "--device", "cpu", "--threads", threads
    )
    assert (given["threads"], given["job"].device, given["job"].weights[0]) == (threads, "cpu", weights)
