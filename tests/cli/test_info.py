"""`luna info` says what a path is, in words and as JSON."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2ch_luna.cli import main
from p2ch_luna.config import as_toml, load_config
from p2ch_luna.datasets.sources import ScanSource, prepare_source
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import write_ct, write_series
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.models.checkpoint import bundled, load_card
from p2ch_luna.training import run_dir
from support.dicom_files import small_ct, write_dicom

CONFIGS = Path(__file__).parents[2] / "configs"
Info = Callable[..., str]


@pytest.fixture
def info(capsys: pytest.CaptureFixture[str]) -> Info:
    """Runs `luna info`; what it prints."""

    def run(*arguments: str | Path) -> str:
        with pytest.raises(SystemExit) as end:
            main(["info", *map(str, arguments)])
        assert not end.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    return run


@pytest.fixture
def facts(info: Info) -> Callable[[Path], dict[str, Any]]:
    """What `--json` says."""

    def run(path: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(info(path, "--json"))
        return found

    return run


@pytest.fixture
def chest() -> CtVolume:
    """Three different sides; its rows run forwards."""
    hu = np.full((16, 40, 48), -1000, np.int16)
    hu[:, 8:32, 4:44] = 40
    hu[2:14, 12:28, 8:20] = hu[2:14, 12:28, 28:40] = -850
    geometry = ImageGeometry(
        np.array([-90.0, 80.0, -200.0]), np.array([4.0, 4.0, 5.0]), np.diag([1.0, -1.0, -1.0])
    )
    return CtVolume("1.2.3", hu, geometry)


@pytest.fixture
def scan(chest: CtVolume, tmp_path: Path) -> Path:
    path = tmp_path / "subset3" / "1.2.3.mhd"
    write_ct(path, chest)
    return path


def error_of(capsys: pytest.CaptureFixture[str], path: Path) -> str:
    with pytest.raises(SystemExit) as end:
        main(["info", str(path)])
    assert end.value.code == 1
    return capsys.readouterr().err


def test_a_scan(facts: Callable[[Path], dict[str, Any]], scan: Path) -> None:
    assert facts(scan) == {
        "kind": "scan",
        "path": str(scan),
        "series_uid": "1.2.3",
        "slices_rows_columns": [16, 40, 48],
        "spacing_xyz_mm": [4.0, 4.0, 5.0],
        "size_xyz_mm": [192.0, 160.0, 80.0],
        "origin_xyz_mm": [-90.0, 80.0, -200.0],
        "orientation": "LAI",
        "hu": [-1000.0, 40.0],
    }


def test_a_scan_in_words(info: Info, scan: Path) -> None:
    lines = info(scan).splitlines()
    assert lines[0] == "kind                 scan"
    assert "slices rows columns  16 x 40 x 48" in lines
    assert "hu                   -1000 x 40" not in lines
    assert "hu                   -1000 to 40" in lines


def test_a_tilted_scan_is_said_to_be(
    facts: Callable[[Path], dict[str, Any]], chest: CtVolume, tmp_path: Path
) -> None:
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, 0.96, -0.28], [0.0, 0.28, 0.96]])
    geometry = ImageGeometry(chest.geometry.origin_xyz, chest.geometry.spacing_xyz, tilt)
    write_ct(tmp_path / "a.mha", CtVolume("a", chest.hu, geometry))
    assert facts(tmp_path / "a.mha")["orientation"] == "LPS, tilted"


def test_a_folder_of_dicom(facts: Callable[[Path], dict[str, Any]], chest: CtVolume, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", chest)
    found = facts(tmp_path / "dicom")
    assert (found["kind"], found["series_uid"]) == ("scan", "1.2.3")


def test_of_dicom_the_series_are_listed_with_why(
    facts: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    write_dicom(tmp_path / "dicom" / "thin", small_ct(40, 1.25, "1.1"), ConvolutionKernel="STANDARD")
    write_dicom(tmp_path / "dicom" / "thick", small_ct(10, 5, "1.2"))
    found = facts(tmp_path / "dicom")
    assert (found["kind"], found["series_uid"], found["warnings"]) == ("scan", "1.1", [])
    assert found["slices_rows_columns"] == [40, 10, 12]
    thin, thick = found["series"]
    assert (thin["remark"], thin["kernel"]) == ("chosen: thinnest of 2 CT series", "STANDARD")
    assert (thick["apart_mm"], thick["images"], thick["plane"]) == (5, 10, "axial")


def test_the_series_are_a_table_in_words(info: Info, tmp_path: Path) -> None:
    write_dicom(tmp_path / "dicom", small_ct(40, 1.25, "1.1"), ConvolutionKernel="STANDARD")
    lines = [line.strip() for line in info(tmp_path / "dicom").splitlines()]
    (at,) = [k for k, line in enumerate(lines) if line.startswith("series  ")]
    assert lines[at].split()[1:3] == ["images", "modality"]
    assert lines[at + 1].split() == ["40", "CT", "axial", "1.25", "1.25", "48.8", "STANDARD", "-"]
    assert lines[at + 2] == "1.1: chosen: the only CT series that can be read"


def test_series_of_two_patients_are_listed_and_none_is_chosen(
    facts: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    for uid in ("1.1", "1.2"):
        write_dicom(tmp_path / uid, small_ct(uid=uid), PatientID=f"hidden{uid}")
    found = facts(tmp_path)
    assert (found["kind"], found["series_uid"]) == ("scans of DICOM", None)
    assert [row["series_uid"] for row in found["series"]] == ["1.1", "1.2"]
    told = "CT images of 2 patients; expected one: name a series (--series UID) of"
    assert found["warnings"][0].startswith(told)
    assert "hidden" not in str(found)


def test_a_zip_of_dicom(facts: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    write_dicom(tmp_path / "dicom")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        for path in (tmp_path / "dicom").iterdir():
            zipped.write(path, path.name)
    found = facts(tmp_path / "a.zip")
    assert (found["kind"], found["path"], found["series_uid"]) == ("scan", str(tmp_path / "a.zip"), "1.2.3")


def test_dicom_with_a_mask_beside_it(
    facts: Callable[[Path], dict[str, Any]], chest: CtVolume, tmp_path: Path
) -> None:
    write_dicom(tmp_path / "dicom")
    write_ct(tmp_path / "mask.nii.gz", chest)
    assert facts(tmp_path)["series_uid"] == "1.2.3"


@pytest.mark.parametrize("modality", ["MR", "PT"])
def test_a_folder_of_another_modality(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], modality: str
) -> None:
    write_dicom(tmp_path / "dicom", Modality=modality)
    error = error_of(capsys, tmp_path / "dicom")
    assert f"no scan, run or cache in it (images of modality {modality}); expected" in error
    assert error.count("\n") == 1


def test_a_damaged_zip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.zip").write_bytes(b"nothing")
    assert "a.zip: damaged or cut short" in error_of(capsys, tmp_path / "a.zip")


def test_the_folder_of_luna16(facts: Callable[[Path], dict[str, Any]], scan: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "subset5.zip", "w") as zipped:
        zipped.write(scan, "subset5/1.2.4.mhd")
        zipped.write(scan.with_suffix(".raw"), "subset5/1.2.4.raw")
        zipped.write(scan, "subset5/1.2.5.mhd")
        zipped.write(scan.with_suffix(".raw"), "subset5/1.2.5.raw")
    (tmp_path / "seriesuids.csv").write_text("1.2.3\n1.2.4\n1.2.6\n")
    found = facts(tmp_path)
    assert (found["kind"], found["scans"], found["listed"]) == ("scans of LUNA16", 2, 3)
    assert found["subsets"] == {
        "3": {"scans": 1, "zipped": 0, "official": 89},
        "5": {"scans": 1, "zipped": 1, "official": 89},
    }
    assert found["lists"]["series_uids"] == str(tmp_path / "seriesuids.csv")
    assert found["lists"]["annotations"] is None
    assert [p.split(": ")[1] for p in found["problems"]] == ["subset5/1.2.5.mhd"]


def test_a_folder_of_other_scans(
    facts: Callable[[Path], dict[str, Any]], chest: CtVolume, tmp_path: Path
) -> None:
    write_ct(tmp_path / "a.nii.gz", chest)
    found = facts(tmp_path)
    assert (found["kind"], found["scans"], found["subsets"]) == ("folder of scans", 1, {})


def test_a_folder_of_one_zip_is_told_as_that_scan(
    facts: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    write_dicom(tmp_path / "dicom")
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "study.zip", "w") as zipped:
        for path in (tmp_path / "dicom").iterdir():
            zipped.write(path, path.name)
    found = facts(tmp_path / "in")
    assert (found["kind"], found["path"], found["series_uid"]) == ("scan", str(tmp_path / "in"), "1.2.3")


def test_volumes_zips_and_dicom_are_counted_as_they_would_be_diagnosed(
    facts: Callable[[Path], dict[str, Any]], chest: CtVolume, tmp_path: Path
) -> None:
    for name in ("a.mha", "a_mask.mha", "out/lungs.nii.gz"):
        write_ct(tmp_path / name, chest)
    write_dicom(tmp_path / "dicom")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as zipped:
        zipped.write(tmp_path / "a.mha", "b.mha")
    found = facts(tmp_path)
    assert (found["kind"], found["scans"], found["problems"]) == ("folder of scans", 3, [])


def test_studies_of_dicom_are_counted(facts: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    for uid in ("1.1", "1.2"):
        write_dicom(tmp_path / uid, small_ct(uid=uid), StudyInstanceUID=f"1.9.{uid}")
    assert facts(tmp_path)["scans"] == 2


def test_a_cache(facts: Callable[[Path], dict[str, Any]], scan: Path, tmp_path: Path) -> None:
    cache = ScanCache(tmp_path / "cache")
    prepare_source(ScanSource("1.2.3", scan), cache)
    for path in (tmp_path / "cache", tmp_path / "cache" / "scans"):
        found = facts(path)
        assert (found["kind"], found["scans"], found["storage"]) == (
            "cache of prepared scans",
            1,
            {"blosc2": 1},
        )


def test_a_file_of_a_cache(facts: Callable[[Path], dict[str, Any]], scan: Path, tmp_path: Path) -> None:
    stored = prepare_source(ScanSource("1.2.3", scan), ScanCache(tmp_path / "cache"))
    assert stored.path is not None
    found = facts(stored.path)
    assert (found["kind"], found["series_uid"]) == ("prepared scan", "1.2.3")
    assert found["spacing_xyz_mm"] == [1.0, 1.0, 1.0]
    assert found["spacing_xyz_mm_before"] == [4.0, 4.0, 5.0]


def test_a_damaged_file_of_a_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.scan").write_bytes(b"nothing")
    assert "a.scan: damaged: " in error_of(capsys, tmp_path / "a.scan")


def test_a_model(facts: Callable[[Path], dict[str, Any]]) -> None:
    found = facts(bundled("nodule"))
    assert (found["kind"], found["network"]) == ("model", "nodule_classifier")
    assert found["split"]["train"] > 100
    assert found["metrics"]["nodule_auc"] > 0.5
    epoch = load_card(bundled("nodule")).metrics["epoch"]
    assert (found["best_epoch"], "epoch" in found["metrics"]) == (epoch, False)


def test_a_model_that_does_not_fit_its_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"a{suffix}").write_bytes(bundled("nodule").with_suffix(suffix).read_bytes())
    with (tmp_path / "a.safetensors").open("ab") as file:
        file.write(b"0")
    assert "its card says" in error_of(capsys, tmp_path / "a.safetensors")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of the smoke config, begun and not trained."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = load_config(CONFIGS / "smoke.toml", ["loop.epochs=2", "optim.lr=0.5"])
    run_dir.begin(folder, as_toml(config), "cpu", 1)
    return folder


def test_a_run_without_an_epoch(facts: Callable[[Path], dict[str, Any]], run: Path) -> None:
    found = facts(run)
    assert (found["kind"], found["task"], found["state"]) == ("training run", "segmentation", "running")
    assert (found["files"], found["epochs"], found["metrics"]) == ([], "0 of 2", {})


def test_a_finished_run(facts: Callable[[Path], dict[str, Any]], run: Path) -> None:
    for suffix in (".safetensors", ".json"):
        (run / f"model{suffix}").write_bytes(bundled("segmentation").with_suffix(suffix).read_bytes())
    (run / run_dir.LAST).write_bytes(b"")
    run_dir.save_history(run, [{"epoch": 1, "step": 60, "seconds": 1.0, "metrics": {}}])
    run_dir.set_status(run, run_dir.FINISHED)
    found = facts(run)
    assert (found["state"], found["epochs"]) == ("finished", "1 of 2")
    assert found["files"] == ["last.pt", "model.safetensors"]
    assert found["metrics"]["dice"] > 0


def test_the_whole_config_of_a_run(facts: Callable[[Path], dict[str, Any]], run: Path) -> None:
    assert facts(run)["config"]["optim"]["lr"] == 0.5


def test_a_run_in_words(info: Info, run: Path) -> None:
    lines = info(run).splitlines()
    assert lines[0] == "kind        training run"
    assert "epochs      0 of 2" in lines
    assert "best epoch  none" in lines


def test_the_settings_of_a_run_are_told_one_a_line(info: Info, run: Path) -> None:
    lines = [line.strip() for line in info(run).splitlines()]
    assert {"optim.lr = 0.5", "model.window_hu = [-1000, 400]", "compute.compile = false"} <= set(lines)
    assert not [line for line in lines if line.startswith("data.luna16")]  # it is empty


def test_a_long_list_of_a_runs_settings_is_told_one_entry_a_line(info: Info, run: Path) -> None:
    lines = [line.strip() for line in info(run).splitlines()]
    assert lines[lines.index("data.credits = [") + 1].startswith("'LIDC-IDRI nodules: ")


def test_numbers_in_a_table_are_no_size(info: Info) -> None:
    assert "window_hu: [-1000, 400]\n" in info(bundled("nodule"))


def test_a_run_without_its_own_words(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / run_dir.ABOUT).unlink()
    assert "run.json: No such file or directory; wanted a file that" in error_of(capsys, run)


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere: no such file or folder; expected a scan" in error_of(capsys, tmp_path / "nowhere")


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = error_of(capsys, tmp_path)
    assert error == (
        f"luna: error: {tmp_path}: no scan, run or cache in it (no DICOM images in this folder); "
        "expected one of these\n"
    )


def test_a_file_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("")
    assert "notes.txt: neither its name nor what is in it says what it is" in error_of(
        capsys, tmp_path / "notes.txt"
    )
