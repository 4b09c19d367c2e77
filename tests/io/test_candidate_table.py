"""Candidates as columns."""

from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Candidate
from p2ch_luna.io import write_candidates
from p2ch_luna.io.candidate_table import CandidateTable, join_tables, read_candidate_table

V2 = """\
seriesuid,coordX,coordY,coordZ,class
1.2.3,68.42,-74.48,-288.7,0
1.2.3,-95.209361,-91.809406,-377.426250,0
1.2.4,1.5,2.5,-3.5,1
"""


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "candidates.csv").write_text(text, encoding="utf-8")
    return tmp_path / "candidates.csv"


@pytest.fixture
def table(tmp_path: Path) -> CandidateTable:
    return read_candidate_table(written(tmp_path, V2))


def test_lunas_table_comes_in_columns(table: CandidateTable) -> None:
    assert (table.series_uids, table.series.tolist()) == (("1.2.3", "1.2.4"), [0, 0, 1])
    assert table.is_nodule.tolist() == [False, False, True]
    np.testing.assert_array_equal(table.center_xyz[2], [1.5, 2.5, -3.5])


def test_rows_of_a_series(table: CandidateTable) -> None:
    found = table.of_series({"1.2.4", "9"})
    assert (len(found), found.center_xyz.tolist()) == (1, [[1.5, 2.5, -3.5]])


def test_rows_of_a_class(table: CandidateTable) -> None:
    assert (len(table.of_class(True)), len(table.of_class(False))) == (1, 2)


def test_mined_candidates_read_the_same_way_and_unknown_ones_are_left_out(tmp_path: Path) -> None:
    places = [
        Candidate("1.2.3", (float(k), 0.0, 0.0), 0.5, 10.0, 2.7, t) for k, t in enumerate((True, None, False))
    ]
    write_candidates(tmp_path / "mined.csv", places)
    found = read_candidate_table(tmp_path / "mined.csv")
    assert (found.center_xyz[:, 0].tolist(), found.is_nodule.tolist()) == ([0.0, 2.0], [True, False])


def test_ids_without_a_dot_stay_text(tmp_path: Path) -> None:
    table = read_candidate_table(written(tmp_path, "seriesuid,coordX,coordY,coordZ,class\n0012,1,2,3,0\n"))
    assert table.series_uids == ("0012",)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("seriesuid,coordX,coordY,coordZ,class", "1.2.3 ,1, 2,3 ,1 "),
        ("seriesuid, coordX,coordY ,coordZ,class ", "1.2.3,1,2,3,1"),
        ("class,seriesuid,coordX,coordY,coordZ,more", "1,1.2.3,1,2,3,x"),
    ],
)
def test_spaces_and_the_order_of_columns_do_not_count(tmp_path: Path, header: str, row: str) -> None:
    table = read_candidate_table(written(tmp_path, f"{header}\n{row}\n"))
    assert (table.series_uids, table.center_xyz.tolist()) == (("1.2.3",), [[1, 2, 3]])
    assert table.is_nodule.tolist() == [True]


def test_names_that_are_no_uid_are_read_too(tmp_path: Path) -> None:
    table = read_candidate_table(written(tmp_path, "seriesuid,coordX,coordY,coordZ,class\nlung1,1,2,3,0\n"))
    assert table.series_uids == ("lung1",)


def test_tables_are_joined_by_uid(tmp_path: Path, table: CandidateTable) -> None:
    other = read_candidate_table(written(tmp_path, "seriesuid,coordX,coordY,coordZ,class\n1.2.4,7,8,9,0\n"))
    joined = join_tables([table, other])
    assert [joined.series_uids[k] for k in joined.series] == ["1.2.3", "1.2.3", "1.2.4", "1.2.4"]
    assert joined.is_nodule.tolist() == [False, False, True, False]


def test_no_tables_join_to_none() -> None:
    assert len(join_tables([])) == 0


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            "1.3e+40,1,2,3,0",
            "line 3, column seriesuid: '1.3e\\+40'; expected a series uid with all its digits",
        ),
        ("1.2.3,x,2,3,0", "line 3, column coordX: 'x'; expected a number"),
        ("1.2.3,1,nan,3,0", "line 3, column coordY: 'nan'; expected a number"),
        ("1.2.3,1,2,inf,0", "line 3, column coordZ: 'inf'; expected a number"),
        ("1.2.3,1,2,3,2", "line 3, column class: '2'; expected 1, 0 or nothing"),
        ("nan,1,2,3,0", "line 3, column seriesuid: 'nan'; expected a series uid with all its digits"),
        ("1.2.3,1_0,2,3,0", "line 3, column coordX: '1_0'; expected a number"),
        (",1,2,3,0", "line 3, column seriesuid: ''; expected a series uid"),
        ("1.2.3,1,2,3", "line 3: 4 values; expected 5"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, told: str) -> None:
    path = written(tmp_path, f"seriesuid,coordX,coordY,coordZ,class\n1.2.3,1,2,3,0\n{row}\n")
    with pytest.raises(LunaError, match=f"candidates.csv: {told}"):
        read_candidate_table(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"no column 'class'; found seriesuid, coordX, coordY, coordZ"):
        read_candidate_table(written(tmp_path, "seriesuid,coordX,coordY,coordZ\n1.2.3,1,2,3\n"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"absent.csv: cannot be read"):
        read_candidate_table(tmp_path / "absent.csv")


def test_lunas_table_takes_a_tenth_of_what_objects_would(table: CandidateTable) -> None:
    n_bytes = sum(a.nbytes for a in (table.series, table.center_xyz, table.is_nodule))
    assert n_bytes / len(table) == 29  # 22 MB for its 754,975 rows
