"""What is read, refused and said before anything is scored."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.report.evaluation.run import Answer, Lists, lists_of, run_evaluation

MARKS = "seriesuid,coordX,coordY,coordZ,probability\n"
NODULES = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


def run(folder: Path, marks: str, nodules: str, scans: str | None = None) -> Answer:
    (folder / "marks.csv").write_text(MARKS + marks)
    (folder / "truth.csv").write_text(NODULES + nodules)
    listed = None
    if scans is not None:
        listed = folder / "scans.csv"
        listed.write_text(scans)
    return run_evaluation([folder / "marks.csv"], Lists(folder / "truth.csv", None, listed), 0.0, seed=0)


def test_a_folder_gives_luna16s_lists(tmp_path: Path) -> None:
    for name in ("annotations.csv", "annotations_excluded.csv", "seriesuids.csv"):
        (tmp_path / name).touch()
    found = lists_of(tmp_path, None, None)
    assert found == Lists(
        *(tmp_path / f"{n}.csv" for n in ("annotations", "annotations_excluded", "seriesuids"))
    )


def test_lists_that_are_given_go_before_those_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "annotations.csv").touch()
    (tmp_path / "seriesuids.csv").touch()
    found = lists_of(tmp_path, tmp_path / "x.csv", tmp_path / "part.csv")
    assert (found.excluded, found.scans) == (tmp_path / "x.csv", tmp_path / "part.csv")


def test_a_folder_without_nodules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"no annotations\.csv in it"):
        lists_of(tmp_path, None, None)


def test_probabilities_outside_0_to_1_are_allowed_and_said(tmp_path: Path) -> None:
    answer = run(tmp_path, "1.2.1,0,0,0,7.5\n1.2.1,9,9,9,-3\n1.2.1,8,8,8,1\n", "1.2.1,0,0,0,5\n", "1.2.1\n")
    assert answer.evaluation.cpm == 1.0
    assert answer.evaluation.warnings == (
        "marks.csv: 2 mark(s) have a probability outside 0 to 1, such as 7.5: only the order counts",
    )


def test_more_than_100_marks_on_a_scan_are_said(tmp_path: Path) -> None:
    rows = "".join(f"1.2.1,{50 + k},0,0,0.5\n" for k in range(101))
    answer = run(tmp_path, rows, "1.2.1,0,0,0,5\n", "1.2.1\n")
    assert answer.evaluation.false_positives == 0  # all tied with the 101st
    assert answer.evaluation.warnings == (
        "marks.csv: more than 100 marks on 1 scan(s): there those count that score above number 101",
    )


def test_scans_without_a_mark_are_counted_and_said(tmp_path: Path) -> None:
    answer = run(tmp_path, "1.2.1,0,0,0,0.5\n", "1.2.1,0,0,0,5\n", "1.2.1\n1.2.2\n1.2.3\n")
    assert answer.evaluation.scans == 3
    assert answer.evaluation.warnings == (
        "marks.csv: no mark on 2 of 3 scan(s): they count as scans without a finding",
    )


def test_an_empty_submission_scores_0(tmp_path: Path) -> None:
    answer = run(tmp_path, "", "1.2.1,0,0,0,5\n", "1.2.1\n")
    assert (answer.evaluation.cpm, answer.evaluation.missed) == (0.0, 1)


def test_an_empty_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"no nodule in 1 scan\(s\)"):
        run(tmp_path, "1.2.1,0,0,0,0.5\n", "", "1.2.1\n")


def test_a_list_that_has_no_scan_of_the_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        LunaError, match=r"no seriesuid in common: the truth has 1\.2\.1, .*scans\.csv has 1\.2\.8"
    ):
        run(tmp_path, "", "1.2.1,0,0,0,5\n", "1.2.8\n1.2.9\n")


def test_ids_that_lost_their_zeros_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        LunaError, match=r"marks\.csv: 1 scan\(s\), such as '7', are not among the 1 listed; .* such as '007'"
    ):
        run(tmp_path, "7,0,0,0,0.5\n", "007,0,0,0,5\n", "007\n")


def test_ids_in_powers_of_ten_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"marks\.csv: line 2, column seriesuid: '1\.3E\+50'; .* its digits"):
        run(tmp_path, "1.3E+50,0,0,0,0.5\n", "1.2.1,0,0,0,5\n")


def test_files_are_known_by_their_sums(tmp_path: Path) -> None:
    answer = run(tmp_path, "", "1.2.1,0,0,0,5\n", "1.2.1\n")
    assert [(i.role, i.name, i.sha256) for i in answer.evaluation.inputs] == [
        (role, name, hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
        for role, name in (("detections", "marks.csv"), ("truth", "truth.csv"), ("scans", "scans.csv"))
    ]


def test_submissions_of_one_name_are_told_apart_by_their_paths(files: Path, tmp_path: Path) -> None:
    other = tmp_path / "a.csv"
    other.write_bytes((files / "b.csv").read_bytes())
    lists = Lists(files / "truth.csv", None, None)
    answer = run_evaluation([files / "a.csv", other], lists, 0.0, seed=0)
    assert [s.name for s in answer.evaluation.all_scores] == [str(files / "a.csv"), str(other)]


def test_luna16s_nodules_have_lidcs_ratings(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text(MARKS)
    lists = lists_of(shared_data / "luna16", None, None)
    evaluation = run_evaluation([tmp_path / "none.csv"], lists, 0.0, seed=0).evaluation
    assert sum(group.nodules for group in evaluation.textures) == 1186
    assert [fate.missed for fate in evaluation.confusion] == [326, 351, 509, None]


def submit(folder: Path, *submissions: str) -> Answer:
    """Without a list of scans; the truth is one nodule on 1.2.1."""
    (folder / "truth.csv").write_text(NODULES + "1.2.1,0,0,0,5\n")
    paths = [folder / f"{k}.csv" for k in range(len(submissions))]
    for path, rows in zip(paths, submissions, strict=True):
        path.write_text(MARKS + rows)
    return run_evaluation(paths, Lists(folder / "truth.csv", None, None), 0.0, seed=0)


def test_a_submission_of_other_scans_is_named_beside_one_that_fits(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"truth has 1\.2\.1, .*1\.csv has 1\.2\.8; wanted"):
        submit(tmp_path, "1.2.1,0,0,0,1\n", "1.2.8,0,0,0,1\n")


def test_scans_of_one_submission_alone_need_a_list(tmp_path: Path) -> None:
    own = "".join(f"1.8.{k},0,0,0,1\n" for k in range(4))
    with pytest.raises(
        LunaError,
        match=r"1\.csv: 4 scan\(s\) .*: 1\.8\.0, 1\.8\.1, 1\.8\.2 and 1 more; .* --scans with a list",
    ):
        submit(tmp_path, "1.2.1,0,0,0,1\n", "1.2.1,0,0,0,1\n" + own)


def test_scans_that_two_submissions_have_beside_the_truth_are_counted(tmp_path: Path) -> None:
    marks = "1.2.1,0,0,0,1\n1.2.8,0,0,0,1\n"
    assert submit(tmp_path, marks, marks).evaluation.scans == 2


def excluding(folder: Path, excluded: str) -> tuple[str, ...]:
    """What is said where 1.2.1 alone is listed."""
    for name, text in (
        ("marks.csv", MARKS + "1.2.1,0,0,0,0.5\n"),
        ("truth.csv", NODULES + "1.2.1,0,0,0,5\n"),
        ("excluded.csv", NODULES + excluded),
        ("scans.csv", "1.2.1\n"),
    ):
        (folder / name).write_text(text)
    lists = Lists(folder / "truth.csv", folder / "excluded.csv", folder / "scans.csv")
    return run_evaluation([folder / "marks.csv"], lists, 0.0, seed=0).evaluation.warnings


def test_excluded_findings_on_scans_that_are_not_listed_are_said(tmp_path: Path) -> None:
    (said,) = excluding(tmp_path, "1.2.1,9,0,0,5\n1.2.2,0,0,0,5\n1.2.3,0,0,0,5\n")
    expected = (
        f"2 excluded finding(s) of {tmp_path / 'excluded.csv'} are on scans that are not listed: left out"
    )
    assert said == expected


def test_excluded_findings_of_other_scans_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        LunaError, match=r"excluded\.csv: no excluded finding .* has 1\.9\.2, .* such as 1\.2\.1"
    ):
        excluding(tmp_path, "1.9.2,0,0,0,5\n1.9.3,0,0,0,5\n")


def test_all_scores_have_a_difference_but_the_first(both: Answer) -> None:
    (other,) = both.evaluation.others
    assert other.name == "b.csv"
    assert other.difference.cpm == pytest.approx(other.cpm - both.evaluation.cpm)
