"""From a scan on disk to its report and its folder: in Python as by the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import p2ch_luna
from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.io import read_ct, read_detections, read_mask, write_ct, write_series
from p2ch_luna.report.diagnose import diagnose, run
from p2ch_luna.report.outputs import Wanted
from p2ch_luna.report.schema import Report
from support.diagnosed import FixedDetector, names

NO_PAGE = Wanted(page=False)
DETECTOR = cast(NoduleDetector, FixedDetector())


@pytest.fixture
def chest() -> CtVolume:
    """A block of tissue in air; three different sides."""
    hu = np.full((30, 32, 34), -1000, np.int16)
    hu[5:15, 8:22, 9:31] = 20
    return CtVolume("scan", hu, ImageGeometry.axial((1.0, 1.0, 2.0), (10.0, 20.0, -30.0)))


@pytest.fixture
def scan(tmp_path: Path, chest: CtVolume) -> Path:
    write_ct(tmp_path / "scan.mha", chest)
    return tmp_path / "scan.mha"


def test_the_package_itself_diagnoses() -> None:
    assert p2ch_luna.diagnose is diagnose


def test_the_package_has_nothing_else_of_that_kind() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'diagnosis'"):
        p2ch_luna.diagnosis  # noqa: B018


def test_without_an_output_nothing_is_written(scan: Path, tmp_path: Path) -> None:
    report = diagnose(scan, detector=DETECTOR)
    assert len(report.findings) == 1
    assert report.files == ()
    assert names(tmp_path) == ["scan.mha"]


def test_a_path_may_be_a_text(scan: Path, tmp_path: Path) -> None:
    diagnose(str(scan), str(tmp_path / "out"), detector=DETECTOR, wanted=NO_PAGE)
    assert (tmp_path / "out" / "report.json").is_file()


def test_the_results_call_the_scan_as_they_are_told(scan: Path, tmp_path: Path) -> None:
    report = run(lambda: DETECTOR, scan, tmp_path / "out", name="chest of today.mha", wanted=NO_PAGE)
    assert report.scan.name == "chest of today.mha"


def test_the_folder_holds_what_the_report_names(scan: Path, tmp_path: Path) -> None:
    report = diagnose(scan, tmp_path / "out", detector=DETECTOR)
    assert names(tmp_path / "out") == sorted(["report.json", *report.files])
    assert {"detections.csv", "nodules.nii.gz", "report.html", "F1-axial.png"} <= set(report.files)


def test_the_report_in_the_folder_is_the_one_returned(scan: Path, tmp_path: Path) -> None:
    report = diagnose(scan, tmp_path / "out", detector=DETECTOR, wanted=NO_PAGE)
    assert Report.model_validate_json((tmp_path / "out" / "report.json").read_bytes()) == report


def test_without_pages_there_are_no_pictures(scan: Path, tmp_path: Path) -> None:
    diagnose(scan, tmp_path / "out", detector=DETECTOR, wanted=NO_PAGE)
    assert names(tmp_path / "out") == ["detections.csv", "nodules.nii.gz", "report.json"]


def test_dicom_has_dicom_objects(chest: CtVolume, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", chest)
    report = diagnose(tmp_path / "dicom", tmp_path / "out", detector=DETECTOR, wanted=NO_PAGE)
    assert {"nodules.seg.dcm", "nodules.sr.dcm"} <= set(names(tmp_path / "out"))
    assert report.scan.format == "dicom"


def test_dicom_objects_can_be_left_out(chest: CtVolume, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", chest)
    wanted = Wanted(page=False, dicom=False)
    diagnose(tmp_path / "dicom", tmp_path / "out", detector=DETECTOR, wanted=wanted)
    assert names(tmp_path / "out") == ["detections.csv", "nodules.nii.gz", "report.json"]


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("outputs.read_sources", LunaError("1.dcm: cannot be read")),
        ("outputs.read_sources", ValueError("DOE^JANE")),
        ("dicom.sr.write_sr", KeyError("DOE^JANE")),
    ],
)
def test_a_source_that_allows_no_dicom_objects_has_all_the_rest(
    chest: CtVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(f"p2ch_luna.report.{where}", refuse)
    write_series(tmp_path / "dicom", chest)
    report = diagnose(tmp_path / "dicom", tmp_path / "out", detector=DETECTOR)
    assert names(tmp_path / "out") == sorted(["report.json", *report.files])
    assert "report.html" in report.files
    assert not [name for name in report.files if name.endswith(".dcm")]
    assert report.warnings[-1].startswith("no DICOM SEG and SR: the source does not allow them: ")
    assert "DOE" not in report.to_json()


def test_the_reason_names_no_place_on_the_disk(
    chest: CtVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(files: Sequence[Path]) -> None:
        raise LunaError(f"{files[0]}: is odd; expected another")

    monkeypatch.setattr("p2ch_luna.report.outputs.read_sources", refuse)
    write_series(tmp_path / "dicom", chest)
    report = diagnose(tmp_path / "dicom", tmp_path / "out", detector=DETECTOR, wanted=NO_PAGE)
    assert report.warnings[-1].endswith("is odd; expected another")
    assert str(tmp_path) not in report.to_json()


def test_the_detections_are_all_candidates(scan: Path, tmp_path: Path) -> None:
    diagnose(scan, tmp_path / "out", detector=DETECTOR, wanted=NO_PAGE)
    marks = read_detections(tmp_path / "out" / "detections.csv")
    assert [mark.probability for mark in marks] == [1.0, 0.75, 0.5, 0.25]


def test_labels_lie_on_the_grid_of_the_scan(scan: Path, tmp_path: Path) -> None:
    """The ball of radius 2 mm at voxel 15, 15, 15, in slices of 2 mm."""
    diagnose(scan, tmp_path / "out", detector=DETECTOR, wanted=NO_PAGE)
    mask, geometry = read_mask(tmp_path / "out" / "nodules.nii.gz")
    np.testing.assert_allclose(geometry.origin_xyz, (10, 20, -30))
    assert mask.shape == (30, 32, 34)
    assert np.argwhere(mask).mean(0).tolist() == [15, 15, 15]


def test_labels_are_the_same_array_as_the_file_of_a_left_handed_scan(chest: CtVolume, tmp_path: Path) -> None:
    """Its slices run downwards, which the reader turns round and the writer must turn back."""
    down = ImageGeometry(chest.geometry.to_xyz([29, 0, 0]), np.array([1.0, 1.0, 2.0]), np.diag([1.0, 1, -1]))
    write_ct(tmp_path / "down.mha", CtVolume("down", chest.hu[::-1], down))
    assert read_ct(tmp_path / "down.mha").geometry.direction[2, 2] == 1
    diagnose(tmp_path / "down.mha", tmp_path / "out", detector=DETECTOR, wanted=NO_PAGE)
    import SimpleITK as sitk  # noqa: N813

    image = sitk.ReadImage(str(tmp_path / "out" / "nodules.nii.gz"))
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, -1)
    found = np.argwhere(sitk.GetArrayFromImage(image)).mean(0)
    assert found.tolist() == [14, 15, 15]


def test_stages_are_timed_in_their_order(scan: Path, tmp_path: Path) -> None:
    timings = diagnose(scan, tmp_path / "out", detector=DETECTOR).timings_s
    assert list(timings) == ["reading", "networks", "looking", "measuring", "files", "pictures", "page"]


def test_a_second_run_takes_away_the_pictures_of_the_first(scan: Path, tmp_path: Path) -> None:
    diagnose(scan, tmp_path / "out", detector=DETECTOR)
    (tmp_path / "out" / "mine.txt").touch()
    diagnose(scan, tmp_path / "out", detector=DETECTOR, wanted=NO_PAGE)
    assert names(tmp_path / "out") == ["detections.csv", "mine.txt", "nodules.nii.gz", "report.json"]


@pytest.mark.parametrize(
    "other",
    ["", "[]", "{}", '{"title": "mine", "files": ["mine.csv"]}', '{"software": "p2ch-luna", "files": 3}'],
)
def test_a_report_of_another_program_is_not_overwritten(scan: Path, tmp_path: Path, other: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text(other)
    (tmp_path / "out" / "mine.csv").touch()
    with pytest.raises(LunaError, match=r"out/report\.json: not of luna diagnose; wanted another folder"):
        diagnose(scan, tmp_path / "out", detector=DETECTOR, wanted=NO_PAGE)
    assert names(tmp_path / "out") == ["mine.csv", "report.json"]


def test_a_file_that_nothing_says_is_ours_is_not_overwritten(scan: Path, tmp_path: Path) -> None:
    """As the true labels that `luna phantom` puts beside its scan."""
    (tmp_path / "nodules.nii.gz").write_text("mine")
    with pytest.raises(LunaError, match=r"nodules\.nii\.gz: not of a diagnosis written here"):
        diagnose(scan, tmp_path, detector=DETECTOR, wanted=NO_PAGE)
    assert (tmp_path / "nodules.nii.gz").read_text() == "mine"


def test_only_files_of_kinds_that_a_diagnosis_writes_are_taken_away(scan: Path, tmp_path: Path) -> None:
    report = {"software": "p2ch-luna 0.1.0", "schema_version": "3.0", "files": ["mine.csv", "F9-axial.png"]}
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "mine.csv").touch()
    (tmp_path / "F9-axial.png").touch()
    diagnose(scan, tmp_path, detector=DETECTOR, wanted=NO_PAGE)
    assert "mine.csv" in names(tmp_path)
    assert "F9-axial.png" not in names(tmp_path)


def test_results_of_schema_2_are_replaced(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text('{"schema_version": "2.0", "software": "p2ch-luna 0.1.0"}')
    (tmp_path / "out" / "findings.png").touch()
    (tmp_path / "out" / "detections.csv").touch()
    diagnose(scan, tmp_path / "out", detector=DETECTOR, wanted=NO_PAGE)
    assert names(tmp_path / "out") == ["detections.csv", "nodules.nii.gz", "report.json"]


def test_what_a_killed_run_has_moved_in_is_replaced(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / ".0123abcd").mkdir(parents=True)
    (tmp_path / "out" / "detections.csv").touch()
    diagnose(scan, tmp_path / "out", detector=DETECTOR, wanted=NO_PAGE)
    assert (tmp_path / "out" / "detections.csv").stat().st_size > 0


def test_a_series_of_a_volume_file_is_told(scan: Path) -> None:
    with pytest.raises(LunaError, match=r"scan\.mha: a volume file has no series; wanted DICOM with 1\.2\.3"):
        diagnose(scan, detector=DETECTOR, series_uid="1.2.3")


def test_a_failure_leaves_the_old_results_whole(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diagnose(scan, tmp_path / "out", detector=DETECTOR)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(*_: object) -> None:
        raise LunaError("the disk is full")

    monkeypatch.setattr("p2ch_luna.report.html.page.write_html", fail)
    with pytest.raises(LunaError, match="the disk is full"):
        diagnose(scan, tmp_path / "out", detector=DETECTOR)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_an_output_that_cannot_be_written_is_told_before_the_weights_are_read(
    scan: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    def load() -> NoduleDetector:
        raise AssertionError("read")

    with pytest.raises(LunaError, match="file: is a file"):
        run(load, scan, tmp_path / "file")
