"""Parts are made once, used again while nothing changes, and made anew where something does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference import Diagnosis
from p2ch_luna.inference.detector import Silent
from p2ch_luna.io import read_ct, read_detections, read_mask, read_nodules, read_series_uids
from p2ch_luna.models.checkpoint import Calibration, ModelCard
from p2ch_luna.report.benchmark.run import Bench, run_benchmark
from p2ch_luna.report.benchmark.schema import BenchmarkReport, Settings

SETTINGS = Settings(
    copies=2, count=3, folds=tuple(range(10)), min_diameter_mm=3, max_diameter_mm=30, seed=0, device="cpu"
)


@dataclass
class Bencher:
    """Runs a benchmark on one output folder, over and over."""

    lidc: Path
    output: Path
    detector: Any
    told: list[str]

    def __call__(
        self,
        *hosts: Path,
        known: Sequence[Nodule] | None = None,
        keep_scans: bool = False,
        pictures: bool = False,
        **settings: object,
    ) -> BenchmarkReport:
        chosen = SETTINGS.model_copy(update=settings)
        bench = Bench.read(hosts, self.lidc, known, self.detector, chosen)
        tell = self.told.append
        return run_benchmark(bench, self.output, Silent(), tell, keep_scans=keep_scans, pictures=pictures)


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time and are tested on their own."""
    monkeypatch.setattr("p2ch_luna.report.benchmark.run.write_plots", lambda *_: None)


@pytest.fixture
def run(lidc: Path, tmp_path: Path, detector: Any) -> Bencher:
    return Bencher(lidc, tmp_path / "out", detector, [])


def card(trained_on: list[str]) -> ModelCard:
    return ModelCard(
        builder="unet",
        arguments={},
        config={},
        data=[],
        split={"train": trained_on},
        metrics={},
        software="",
        weights_sha256="ab",
    )


WriteHost = Callable[..., Path]


def test_every_ball_in_every_copy_is_found(run: Bencher, write_host: WriteHost) -> None:
    report = run(write_host("a"), write_host("b", -800))
    assert (report.figures.scans, report.figures.nodules, report.figures.found) == (4, 12, 12)
    assert report.figures.cpm == 1


def test_the_same_again_diagnoses_nothing_and_gives_the_same_bytes(
    run: Bencher, write_host: WriteHost
) -> None:
    host = write_host()
    run(host)
    before = {path.name: path.read_bytes() for path in run.output.glob("*.*")}
    run(host)
    assert run.detector.calls == 2
    assert {path.name: path.read_bytes() for path in run.output.glob("*.*")} == before
    assert run.told[-1].startswith("2 of 2 scans are done")


def test_a_further_copy_leaves_the_earlier_ones(run: Bencher, write_host: WriteHost) -> None:
    host = write_host()
    run(host, copies=1)
    first = read_nodules(run.output / "annotations.csv")
    run(host, copies=3)
    assert run.detector.calls == 3
    assert read_nodules(run.output / "annotations.csv")[:3] == first


def test_a_further_host_leaves_the_earlier_one(run: Bencher, write_host: WriteHost) -> None:
    run(write_host("a"), copies=1)
    run(write_host("b"), write_host("a"), copies=1)
    assert run.detector.calls == 2


def test_a_host_whose_voxels_changed_is_done_anew(run: Bencher, write_host: WriteHost) -> None:
    run(write_host("a"), write_host("b"), copies=1)
    run(write_host("a", -840), write_host("b"), copies=1)
    assert run.detector.calls == 2 + 1


@pytest.mark.parametrize("changed", [{"seed": 1}, {"count": 2}, {"min_diameter_mm": 7.0}, {"device": "cuda"}])
def test_what_decides_the_result_makes_it_anew(
    run: Bencher, write_host: WriteHost, changed: dict[str, object]
) -> None:
    host = write_host()
    run(host, copies=1)
    run(host, copies=1, **changed)
    assert run.detector.calls == 2


def test_other_weights_make_it_anew(run: Bencher, write_host: WriteHost) -> None:
    host = write_host()
    run(host, copies=1)
    run.detector.models = {"segmentation": card([])}
    run(host, copies=1)
    assert run.detector.calls == 2


def test_another_calibration_makes_it_anew_but_not_what_is_said_of_it(
    run: Bencher, write_host: WriteHost
) -> None:
    def calibrated(intercept: float, on: str) -> dict[str, ModelCard]:
        how = Calibration(segmentation=1, classifier=1, intercept=intercept, operating_points=(), on=on)
        return {"classifier": card([]).model_copy(update={"calibration": how})}

    host = write_host()
    for calls, intercept, on in ((1, 0.0, "a"), (1, 0.0, "b"), (2, -1.0, "b")):
        run.detector.models = calibrated(intercept, on)
        run(host, copies=1)
        assert run.detector.calls == calls


def test_the_report_names_the_calibration(run: Bencher, write_host: WriteHost) -> None:
    how = Calibration(segmentation=1, classifier=2, intercept=-1, operating_points=(), on="a")
    host = write_host()
    assert run(host, copies=1).inputs.calibration == ""
    run.detector.models = {"classifier": card([]).model_copy(update={"calibration": how})}
    assert run(host, copies=1).inputs.calibration == how.sha256


def test_other_crops_make_it_anew(run: Bencher, write_host: WriteHost) -> None:
    host = write_host()
    run(host, copies=1)
    table = run.lidc / "nodules.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",12.0,4", ",12.5,4"), encoding="utf-8")
    run(host, copies=1)
    assert run.detector.calls == 2


def test_known_findings_of_the_host_are_excluded_in_every_copy(run: Bencher, write_host: WriteHost) -> None:
    own, other = Nodule("host", (-28.0, 0.0, 34.0), 9.0), Nodule("elsewhere", (0.0, 0.0, 0.0), 9.0)
    report = run(write_host(), known=[own, other])
    expected = [replace(own, series_uid=f"host-implanted-{copy}") for copy in (1, 2)]
    assert read_nodules(run.output / "annotations_excluded.csv") == expected
    assert report.inputs.hosts[0].known == 1


def test_what_was_done_before_a_failure_is_kept(run: Bencher, write_host: WriteHost) -> None:
    host, seen = write_host(), run.detector

    def fails_at_the_second(ct: object) -> object:
        if seen.calls == 1:
            raise KeyboardInterrupt
        return seen(ct)

    fails_at_the_second.models, fails_at_the_second.proposal = {}, seen.proposal  # type: ignore[attr-defined]
    run.detector = fails_at_the_second
    with pytest.raises(KeyboardInterrupt):
        run(host)
    assert not (run.output / "benchmark.json").exists()
    run.detector = seen
    run(host)
    assert seen.calls == 2


def test_a_damaged_part_is_told_and_made_anew(
    run: Bencher, write_host: WriteHost, caplog: pytest.LogCaptureFixture
) -> None:
    host = write_host()
    run(host)
    part = run.output / "parts" / "host-implanted-2.json"
    part.write_bytes(part.read_bytes()[:100])
    run(host)
    assert run.detector.calls == 3
    assert "host-implanted-2.json: not a part of a benchmark" in caplog.text


def test_scans_are_written_only_if_they_are_wanted(run: Bencher, write_host: WriteHost) -> None:
    host = write_host()
    run(host, copies=1)
    assert not (run.output / "scans").exists()
    run(host, copies=1, keep_scans=True)
    run(host, copies=1, keep_scans=True)
    assert run.detector.calls == 2
    ct = read_ct(run.output / "scans" / "host-implanted-1.mhd")
    labels, _ = read_mask(run.output / "scans" / "host-implanted-1-nodules.nii.gz")
    assert ct.hu[labels].min() > -500


def test_a_kept_scan_that_was_deleted_is_made_again(run: Bencher, write_host: WriteHost) -> None:
    host = write_host()
    run(host, copies=1, keep_scans=True)
    (run.output / "scans" / "host-implanted-1.mhd").unlink()
    run(host, copies=1, keep_scans=True)
    assert (run.output / "scans" / "host-implanted-1.mhd").is_file()


def test_pictures_are_taken_of_scans_made_again_but_not_diagnosed(
    run: Bencher, write_host: WriteHost
) -> None:
    hosts = write_host("a"), write_host("b", -800)
    run(*hosts)
    run(*hosts, pictures=True)
    assert run.detector.calls == 4
    assert {"found.png", "missed.png", "false_positives.png"} <= {p.name for p in run.output.iterdir()}


def test_the_lists_are_those_of_luna16(run: Bencher, write_host: WriteHost) -> None:
    run(write_host())
    uids = read_series_uids(run.output / "seriesuids.csv")
    assert uids == ["host-implanted-1", "host-implanted-2"]
    assert {mark.series_uid for mark in read_detections(run.output / "detections.csv")} == set(uids)
    assert [nodule.series_uid for nodule in read_nodules(run.output / "annotations.csv")] == [
        uid for uid in uids for _ in range(3)
    ]


def test_patients_and_hosts_that_a_network_learnt_from_are_told(
    run: Bencher, write_host: WriteHost, caplog: pytest.LogCaptureFixture
) -> None:
    run.detector.models = {"segmentation": card(["P2", "host", "P9"])}
    report = run(write_host(), copies=1)
    assert report.warnings == (
        "the segmentation network has learnt from 1 of the hosts: host",
        "the segmentation network has learnt from 1 of the patients of nodules: P2",
        "1 host(s): no 95% interval of the CPM; wanted 5 or more, and further copies are no further hosts",
    )
    assert "patients of nodules: P2; sensitivity on others will be lower" in caplog.text


def test_a_bad_host_stops_it_before_anything_is_made(
    run: Bencher, write_host: WriteHost, tmp_path: Path
) -> None:
    (tmp_path / "bad.mha").write_text("no scan", encoding="utf-8")
    with pytest.raises(LunaError, match=r"bad\.mha"):
        run(write_host(), tmp_path / "bad.mha")
    assert run.detector.calls == 0
    assert not run.output.exists()


def test_a_kept_scan_of_an_earlier_seed_is_replaced(run: Bencher, write_host: WriteHost) -> None:
    host = write_host()
    run(host, copies=1, keep_scans=True)
    run(host, copies=1, seed=1)
    run(host, copies=1, seed=1, keep_scans=True)
    labels, geometry = read_mask(run.output / "scans" / "host-implanted-1-nodules.nii.gz")
    for nodule in read_nodules(run.output / "annotations.csv"):
        i, row, col = np.rint(geometry.to_irc(nodule.center_xyz)).astype(int)
        assert labels[i, row, col]


def test_two_hosts_are_told_to_be_few(run: Bencher, write_host: WriteHost) -> None:
    report = run(write_host("a"), write_host("b", -800), copies=1)
    assert report.warnings == (
        "2 host(s): the 95% interval of the CPM is a rough one; wanted 5 or more, and further copies are no "
        "further hosts",
    )


def test_120_tied_marks_are_as_many_as_the_rule_keeps(run: Bencher, write_host: WriteHost) -> None:
    """None: all are tied with number 101. Cut to 100 first, all would count. But some nodule is proposed."""
    seen = run.detector

    def crowd(ct: CtVolume) -> Diagnosis:
        diagnosis: Diagnosis = seen(ct)
        return replace(diagnosis, detections=[replace(diagnosis.detections[0], probability=0.5)] * 120)

    crowd.models, crowd.proposal = seen.models, seen.proposal  # type: ignore[attr-defined]
    run.detector = crowd
    figures = run(write_host(), copies=1).figures
    assert figures.found == 0
    assert (figures.stages.candidates_per_scan, figures.stages.on_nodules) == (120, 120)
