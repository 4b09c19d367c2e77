from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Candidate, Detection, Nodule
from p2ch_luna.io import (
    ScoredPoint,
    read_candidates,
    read_detections,
    read_nodules,
    read_series_uids,
    write_candidates,
    write_detections,
    write_nodules,
)

UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860"
XYZ = (-128.6994211, 1 / 3, -298.38750641234567)
NODULES = [Nodule(UID, XYZ, 5.651470635), Nodule("007", (1.0, 2.0, 3.0), -1.0)]
CANDIDATES = [Candidate(UID, XYZ, 0.1 + 0.2, 33.3, 4.1, truth) for truth in (True, False, None)]
DETECTION = Detection(UID, XYZ, 0.9999999999999, 5.5, 87.1, 0.9, 0.8, 0.3)
HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


def test_luna16s_annotations_are_read(shared_data: Path) -> None:
    assert len(read_nodules(shared_data / "luna16" / "annotations.csv")) == 1186


def test_luna16s_excluded_findings_are_read(shared_data: Path) -> None:
    assert len(read_nodules(shared_data / "luna16" / "annotations_excluded.csv")) == 35192


def test_luna16s_scans_are_read(shared_data: Path) -> None:
    assert len(read_series_uids(shared_data / "luna16" / "seriesuids.csv")) == 888


def test_luna16s_subsets_list_the_same_scans(shared_data: Path) -> None:
    folder = shared_data / "luna16"
    assert set(read_series_uids(folder / "subsets.csv")) == set(read_series_uids(folder / "seriesuids.csv"))


def test_the_first_row_of_luna16_is_read_exactly(shared_data: Path) -> None:
    first = read_nodules(shared_data / "luna16" / "annotations.csv")[0]
    assert first == Nodule(UID, (-128.6994211, -175.3192718, -298.3875064), 5.651470635)


def test_nodules_come_back_exactly(tmp_path: Path) -> None:
    write_nodules(tmp_path / "a.csv", NODULES)
    assert read_nodules(tmp_path / "a.csv") == NODULES


def test_unrated_nodules_have_luna16s_columns(tmp_path: Path) -> None:
    write_nodules(tmp_path / "a.csv", NODULES)
    assert (tmp_path / "a.csv").read_text().startswith(HEADER)


def test_malignancy_comes_back(tmp_path: Path) -> None:
    nodules = [Nodule(UID, XYZ, 6.0, malignancy=3.25), *NODULES]
    write_nodules(tmp_path / "a.csv", nodules)
    assert read_nodules(tmp_path / "a.csv") == nodules


def test_texture_comes_back_without_malignancy(tmp_path: Path) -> None:
    nodules = [Nodule(UID, XYZ, 6.0, texture=4.75), *NODULES]
    write_nodules(tmp_path / "a.csv", nodules)
    assert read_nodules(tmp_path / "a.csv") == nodules
    assert (tmp_path / "a.csv").read_text().startswith(HEADER.replace("\n", ",texture\n"))


def test_two_columns_without_a_name_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER.strip()},,\n{UID},1,2,3,4,,\n")
    assert read_nodules(tmp_path / "a.csv") == [Nodule(UID, (1.0, 2.0, 3.0), 4.0)]


def test_a_list_of_scans_with_two_columns_of_uids_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("seriesuid,seriesuid\n1.2.3,1.2.4\n")
    with pytest.raises(LunaError, match=r"a\.csv: column 'seriesuid' is there 2 times; expected it once"):
        read_series_uids(tmp_path / "a.csv")


def test_candidates_come_back_exactly(tmp_path: Path) -> None:
    write_candidates(tmp_path / "a.csv", CANDIDATES)
    assert read_candidates(tmp_path / "a.csv") == CANDIDATES


def test_detections_come_back_exactly(tmp_path: Path) -> None:
    write_detections(tmp_path / "a.csv", [DETECTION])
    assert read_detections(tmp_path / "a.csv") == [ScoredPoint(UID, XYZ, 0.9999999999999)]


def test_detections_have_luna16s_columns(tmp_path: Path) -> None:
    write_detections(tmp_path / "a.csv", [])
    assert (tmp_path / "a.csv").read_text() == "seriesuid,coordX,coordY,coordZ,probability\n"


def test_a_scan_without_detections_is_read(tmp_path: Path) -> None:
    write_detections(tmp_path / "a.csv", [])
    assert read_detections(tmp_path / "a.csv") == []


def test_further_columns_and_another_order_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"probability,x,coordZ,coordY,coordX,seriesuid\n0.5,?,3,2,1,{UID}\n")
    assert read_detections(tmp_path / "a.csv") == [ScoredPoint(UID, (1.0, 2.0, 3.0), 0.5)]


def test_a_file_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    text = f"\ufeff{HEADER}{UID}, 1,2,3,4\n\n".replace("\n", "\r\n")
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert read_nodules(tmp_path / "a.csv") == [Nodule(UID, (1.0, 2.0, 3.0), 4.0)]


def test_zero_padding_of_ids_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("seriesuid\n007\n07\n7\n")
    assert read_series_uids(tmp_path / "a.csv") == ["007", "07", "7"]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_nodules(path, NODULES),
        lambda path: write_candidates(path, CANDIDATES),
        lambda path: write_detections(path, [DETECTION]),
    ],
)
def test_only_the_table_is_left_in_the_folder(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "a.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_a_failed_write_leaves_the_old_table(tmp_path: Path) -> None:
    write_nodules(tmp_path / "a.csv", NODULES)
    with pytest.raises(TypeError):
        write_nodules(tmp_path / "a.csv", [*NODULES, Nodule(UID, XYZ, 1j)])  # type: ignore[arg-type]
    assert read_nodules(tmp_path / "a.csv") == NODULES


def test_unwritable_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LunaError, match="cannot be written"):
        write_nodules(tmp_path / "file" / "a.csv", NODULES)


BAD_NODULES = {
    "empty": ("", r"a\.csv: empty; expected the columns seriesuid, coordX"),
    "column renamed": (HEADER.replace("coordY", "y"), r"a\.csv: no column 'coordY'; found seriesuid, .* y,"),
    "column twice": (f"coordX,{HEADER}9,{UID},1,2,3,4\n", r"a\.csv: column 'coordX' is there 2 times"),
    "further column twice": (f"x,x,{HEADER}", r"a\.csv: column 'x' is there 2 times; expected it once"),
    "rating of no scale": (
        f"{HEADER.strip()},texture\n{UID},1,2,3,4,6\n",
        r"line 2, column texture: '6'; expected a rating from 1 to 5, or nothing",
    ),
    "text in a rating": (
        f"{HEADER.strip()},malignancy\n{UID},1,2,3,4,benign\n",
        r"line 2, column malignancy: 'benign'; expected a number",
    ),
    "semicolons": (HEADER.replace(",", ";"), r"no column 'seriesuid'; found seriesuid;coordX"),
    "text in a number": (f"{HEADER}7,1,2,3,4\n7,1,two,3,4\n", r"line 3, column coordY: 'two'; expected"),
    "underscore in a number": (f"{HEADER}7,1_0,2,3,4\n", r"column coordX: '1_0'; expected a number"),
    "Arabic digits": (f"{HEADER}7,1,2,3,\u0663\n", r"column diameter_mm: .*; expected a number"),
    "NaN": (f"{HEADER}{UID},1,2,3,nan\n", r"line 2, column diameter_mm: 'nan'; expected a number"),
    "infinite": (f"{HEADER}{UID},1,inf,3,4\n", r"line 2, column coordY: 'inf'"),
    "empty cell": (f"{HEADER}{UID},1,,3,4\n", r"line 2, column coordY: ''"),
    "value missing": (f"{HEADER}{UID},1,2,3\n", r"line 2: 4 values; expected 5"),
    "value too many": (f"{HEADER}{UID},1,2,3,4,5\n", r"line 2: 6 values; expected 5"),
    "no id": (f"{HEADER},1,2,3,4\n", r"line 2, column seriesuid: ''; expected a series uid"),
    "id in powers of ten": (f"{HEADER}1.3e+00,1,2,3,4\n", r"column seriesuid: '1\.3e\+00'; .* its digits"),
    "id cut to a number": (f"{HEADER}1.3,1,2,3,4\n", r"column seriesuid: '1\.3'; .* saved as a number"),
    "id that became a float": (f"{HEADER}12.0,1,2,3,4\n", r"column seriesuid: '12\.0'"),
    "id NaN": (f"{HEADER}nan,1,2,3,4\n", r"column seriesuid: 'nan'"),
    "open quote": (f'{HEADER}"{UID},1,2,3,4\n', r"a\.csv: not a CSV file"),
    "not text": (b"PK\x03\x04\xff\xfe\x00", r"a\.csv: not a CSV file"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "says"), BAD_NODULES.values(), ids=BAD_NODULES)
def test_a_bad_table_is_refused(tmp_path: Path, content: str | bytes, says: str) -> None:
    (tmp_path / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LunaError, match=says):
        read_nodules(tmp_path / "a.csv")


BAD_LISTS = {
    "empty": ("", r"a\.csv: empty"),
    "twice": ("1.2.3\n1.2.4\n1.2.3\n", r"a\.csv: line 3: 1\.2\.3 is in line 1 too"),
    "several columns, no header": ("1.2.3,0\n", r"no column 'seriesuid'; found 1\.2\.3, 0"),
    "number": ("seriesuid,subset\n1.3E+12,0\n", r"line 2, column seriesuid: '1\.3E\+12'"),
}


@pytest.mark.parametrize(("content", "says"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_bad_list_of_scans_is_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(LunaError, match=says):
        read_series_uids(tmp_path / "a.csv")


def test_an_unknown_class_is_refused(tmp_path: Path) -> None:
    write_candidates(tmp_path / "a.csv", CANDIDATES[:1])
    (tmp_path / "a.csv").write_text((tmp_path / "a.csv").read_text().replace(",1\n", ",yes\n"))
    with pytest.raises(LunaError, match="line 2, column class: 'yes'; expected 1, 0 or nothing"):
        read_candidates(tmp_path / "a.csv")


@pytest.mark.parametrize("read", [read_nodules, read_candidates, read_detections, read_series_uids])
def test_a_table_that_is_not_there_is_refused(
    tmp_path: Path, read: Callable[[Path], Sequence[object]]
) -> None:
    with pytest.raises(LunaError, match=r"no\.csv: cannot be read: No such file"):
        read(tmp_path / "no.csv")


def test_a_nodule_of_no_size_is_named(tmp_path: Path) -> None:
    path = tmp_path / "annotations.csv"
    path.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3,1,2,3,5\n1.2.3,1,2,3,0.0\n")
    with pytest.raises(LunaError, match=r"line 3, column diameter_mm: '0.0'; expected a length in mm, or -1"):
        read_nodules(path)
