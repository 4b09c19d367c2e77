"""`luna lidc` with a whole scan's header, a nodule without an origin and one of no known series."""

import csv
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from p2ch_luna.cli import main
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import read_nodules, write_ct, write_nodules

LIDC_IDRI_0001 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
OTHER = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100398138793540579077826395208"  # LIDC-IDRI-0813, one nodule


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_data: Path, lidc_ct: CtVolume) -> Path:
    """LUNA16's folder with the header of one scan, the nodules of two and one that is made up."""
    folder = tmp_path_factory.mktemp("luna16")
    nodules = read_nodules(shared_data / "luna16" / "annotations.csv")
    two = [nodule for nodule in nodules if nodule.series_uid in (LIDC_IDRI_0001, OTHER)]
    write_nodules(folder / "annotations.csv", [*two, Nodule("1.2.3", (1.0, 2.0, 3.0), 5.0)])
    few_slices = CtVolume(lidc_ct.series_uid, lidc_ct.hu[:8], lidc_ct.geometry)
    write_ct(folder / "subset0" / f"{LIDC_IDRI_0001}.mhd", few_slices)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `luna lidc` with arguments; exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            main(["lidc", *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(done.value.code or 0), out, err

    return call


@pytest.fixture
def figures(folder: Path, run: Callable[..., tuple[int, str, str]]) -> dict[str, dict[str, dict[str, float]]]:
    return dict(json.loads(run("--luna16", folder, "--json")[1]))


def test_every_nodule_is_accounted_for(figures: dict[str, int]) -> None:
    assert (figures["nodules"], figures["matched"], figures["unmatched"]) == (3, 2, 1)


def test_methods_are_told_apart(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    assert {method: group["matched"] for method, group in figures["methods"].items()} == {
        "header": 1,
        "slice": 1,
    }


def test_with_a_header_the_distance_is_true(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    assert 0 < figures["methods"]["header"]["max_mm"] < 0.3


def test_one_nodule_has_no_correlation(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    assert figures["methods"]["header"]["diameter_correlation"] is None


def test_the_table_says_what_has_no_origin(folder: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = run("--luna16", folder)
    assert "2 of 3 nodules matched" in out
    assert "NO ORIGIN: z and diameter alone" in out
    assert "these distances say less" in out


def test_the_table_lists_what_is_not_matched(folder: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = run("--luna16", folder)
    assert out.endswith("unmatched: 1.2.3 at (1.0, 2.0, 3.0), 5.0 mm: its series is not in the tables\n")


@pytest.fixture
def rows(folder: Path, run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> list[dict[str, str]]:
    assert run("--luna16", folder, "-o", tmp_path / "out" / "nodules.csv")[0] == 0
    with (tmp_path / "out" / "nodules.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_has_a_row_a_nodule(rows: list[dict[str, str]]) -> None:
    assert {row["seriesuid"]: row["method"] for row in rows} == {
        LIDC_IDRI_0001: "header",
        OTHER: "slice",
        "1.2.3": "",
    }


def test_the_csv_has_ratings(rows: list[dict[str, str]]) -> None:
    (row,) = [row for row in rows if row["seriesuid"] == LIDC_IDRI_0001]
    assert (row["patient_id"], row["readers"], row["malignancy"]) == ("LIDC-IDRI-0001", "4", "4.75")
    assert row["malignancy_class"] == "malignant"


def test_the_csv_says_why_there_is_none(rows: list[dict[str, str]]) -> None:
    (row,) = [row for row in rows if row["seriesuid"] == "1.2.3"]
    assert (row["reason"], row["malignancy_class"]) == ("its series is not in the tables", "")


def test_crops_and_the_excluded_list_are_read(
    folder: Path, shared_data: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "nodules.csv").write_text("name,seriesuid,first_pixel_x,first_pixel_y\n")
    excluded = shared_data / "luna16" / "annotations_excluded.csv"
    annotations = folder / "annotations.csv"
    _, out, _ = run("--annotations", annotations, "--excluded", excluded, "--crops", tmp_path, "--json")
    assert "readers" in json.loads(out)["methods"]


def test_xml_takes_the_place_of_the_tables(
    folder: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "a.xml").write_text(
        '<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>'
        f"<SeriesInstanceUid>{OTHER}</SeriesInstanceUid></ResponseHeader></LidcReadMessage>"
    )
    _, out, _ = run("--luna16", folder, "--xml", tmp_path)
    assert "0 of 3 nodules matched" in out
    assert "no reader outlined anything in its series" in out


def test_without_a_list_it_is_told(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, err = run("--luna16", tmp_path)
    assert code == 1
    assert "no nodules to find: expected --luna16 with annotations.csv in it, or --annotations" in err


def test_lists_may_lie_in_the_evaluation_script(
    folder: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    place = tmp_path / "evaluationScript" / "annotations"
    place.mkdir(parents=True)
    (place / "annotations.csv").write_bytes((folder / "annotations.csv").read_bytes())
    assert "2 of 3 nodules matched" in run("--luna16", tmp_path)[1]


def test_a_resampled_scan_is_told_and_its_nodule_matched_otherwise(
    folder: Path, run: Callable[..., tuple[int, str, str]], tmp_path: Path, lidc_ct: CtVolume
) -> None:
    with zipfile.ZipFile(tmp_path / "evaluationScript.zip", "w") as zipped:
        zipped.write(folder / "annotations.csv", "evaluationScript/annotations/annotations.csv")
    resampled = CtVolume(lidc_ct.series_uid, lidc_ct.hu[:8], ImageGeometry.axial((1.0, 1.0, 2.5)))
    write_ct(tmp_path / "subset0" / f"{LIDC_IDRI_0001}.mhd", resampled)
    code, out, err = run("--luna16", tmp_path, "--json")
    assert (code, json.loads(out)["matched"]) == (0, 2)
    assert "is the scan resampled?; it is not used" in err


def test_luna16s_lists_are_enough(
    folder: Path, run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "annotations.csv").write_bytes((folder / "annotations.csv").read_bytes())
    (tmp_path / "subsets.csv").write_text("seriesuid,subset\n")
    code, out, _ = run("--luna16", tmp_path, "--json")
    assert (code, json.loads(out)["nodules"]) == (0, 3)


@pytest.fixture
def luna16(folder: Path, tmp_path: Path) -> Path:
    """LUNA16's lists in a folder that may be written to."""
    (tmp_path / "luna16").mkdir()
    shutil.copy(folder / "annotations.csv", tmp_path / "luna16")
    return tmp_path / "luna16"


def test_a_list_of_excluded_findings_is_found_in_a_zip(
    luna16: Path, shared_data: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    with zipfile.ZipFile(luna16 / "evaluationScript.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        name = "annotations_excluded.csv"
        zipped.write(shared_data / "luna16" / name, f"evaluationScript/annotations/{name}")
    assert "readers" in json.loads(run("--luna16", luna16, "--json")[1])["methods"]


def test_a_scan_that_begins_above_an_outline_is_told(
    luna16: Path, lidc_ct: CtVolume, run: Callable[..., tuple[int, str, str]]
) -> None:
    cut = CtVolume(
        lidc_ct.series_uid, lidc_ct.hu[-8:], lidc_ct.geometry.moved_to([len(lidc_ct.hu) - 8, 0, 0])
    )
    write_ct(luna16 / "subset0" / f"{LIDC_IDRI_0001}.mhd", cut)
    code, out, err = run("--luna16", luna16, "--json")
    assert (code, json.loads(out)["nodules"]) == (0, 3)
    assert "outside the scan; expected the whole original series; it is not used" in err


def test_why_a_header_is_not_used_is_a_reason(
    luna16: Path, lidc_ct: CtVolume, run: Callable[..., tuple[int, str, str]]
) -> None:
    """A nodule that is found in no other way either."""
    write_nodules(luna16 / "annotations.csv", [Nodule(LIDC_IDRI_0001, (0.0, 0.0, 500.0), 5.0)])
    resampled = CtVolume(lidc_ct.series_uid, lidc_ct.hu[:8], ImageGeometry.axial((1.0, 1.0, 2.5)))
    write_ct(luna16 / "subset0" / f"{LIDC_IDRI_0001}.mhd", resampled)
    assert run("--luna16", luna16, "-o", luna16 / "out.csv")[0] == 0
    (row,) = csv.DictReader((luna16 / "out.csv").read_text().splitlines())
    assert row["reason"].startswith("no origin, and none of 1 findings is like it in z and diameter; ")
    assert "its scan is not used: pixels of 1 x 1 mm; expected 0.703125 mm" in row["reason"]


def test_a_damaged_zip_of_scans_is_told(luna16: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    (luna16 / "subset3.zip").write_bytes(b"PK no zip")
    code, _, err = run("--luna16", luna16)
    assert code == 0
    assert "subset3.zip: damaged or cut short: File is not a zip file" in err


def test_a_scan_without_its_data_is_told(
    luna16: Path, folder: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    (luna16 / "subset0").mkdir()
    shutil.copy(folder / "subset0" / f"{LIDC_IDRI_0001}.mhd", luna16 / "subset0")
    _, _, err = run("--luna16", luna16)
    assert f"{LIDC_IDRI_0001}.raw' is not there; expected it beside the header; it is not used" in err


def test_scans_in_no_subset_are_read(
    luna16: Path, folder: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    for path in (folder / "subset0").iterdir():
        shutil.copy(path, luna16)
    assert "header" in json.loads(run("--luna16", luna16, "--json")[1])["methods"]


def test_a_subset_without_scans_is_told(luna16: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    (luna16 / "subset0").mkdir()
    code, _, err = run("--luna16", luna16)
    assert code == 0
    assert "no scan there; wanted a file or a folder of .mhd" in err


def test_luna16s_folder_must_be_one(luna16: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = run("--luna16", luna16 / "annotations.csv")
    assert code == 1
    assert "annotations.csv: not a folder; expected LUNA16's, with annotations.csv in it" in err
