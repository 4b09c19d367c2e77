"""`luna evaluate` on files small enough to score by hand."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from p2ch_luna.cli.evaluate import evaluate
from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import write_ct
from p2ch_luna.io.tables import read_nodules, read_series_uids

TRUTH = """seriesuid,coordX,coordY,coordZ,diameter_mm
1.2.1,0,0,0,4.0
1.2.1,50,0,0,8.0
1.2.2,0,0,0,25.0
"""
DETECTIONS = """seriesuid,coordX,coordY,coordZ,probability
1.2.1,51,0,0,0.9
1.2.1,-70,0,0,0.8
1.2.2,0,0,5,0.7
1.2.2,90,0,0,0.1
"""
EXCLUDED = """seriesuid,coordX,coordY,coordZ,diameter_mm
1.2.1,-70,0,0,-1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "truth.csv").write_text(TRUTH)
    (tmp_path / "detections.csv").write_text(DETECTIONS)
    (tmp_path / "excluded.csv").write_text(EXCLUDED)
    (tmp_path / "scans.csv").write_text("1.2.1\n1.2.2\n1.2.3\n1.2.4\n")
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Callable[..., Result]:
    """Evaluate the files above, with further options."""

    def invoke(*options: str) -> Result:
        args = [str(folder / "detections.csv"), "--truth", str(folder / "truth.csv"), *options]
        return CliRunner().invoke(evaluate, args, catch_exceptions=False)

    return invoke


@pytest.fixture
def score(run: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """The same, as JSON."""

    def read(*options: str) -> dict[str, Any]:
        scores: dict[str, Any] = json.loads(run("--json", *options).stdout)
        return scores

    return read


Score = Callable[..., dict[str, Any]]


def test_nodules_are_counted(score: Score) -> None:
    counts = score()
    assert (counts["nodules"], counts["found"], counts["missed"]) == (3, 2, 1)


def test_cpm(score: Score) -> None:
    # in 2 scans: 1/3 found from 0 FP/scan, 2/3 from 1/2 FP/scan on
    assert score()["cpm"] == pytest.approx((2 * 1 / 3 + 5 * 2 / 3) / 7)


def test_listed_scans_divide_the_false_positives(score: Score, folder: Path) -> None:
    # in 4 scans the first false positive is at 1/4 FP/scan
    assert score("--scans", str(folder / "scans.csv"))["cpm"] == pytest.approx((1 / 3 + 6 * 2 / 3) / 7)


def test_marks_on_excluded_findings_do_not_count(score: Score, folder: Path) -> None:
    assert score("--excluded", str(folder / "excluded.csv"))["false_positives"] == 1


def test_smaller_nodules_become_excluded(score: Score) -> None:
    assert score("--min-diameter", "6")["nodules"] == 2


def test_a_mark_on_a_nodule_too_small_is_no_false_positive(score: Score) -> None:
    assert score("--min-diameter", "10")["false_positives"] == 2


def test_sensitivity_by_size(score: Score) -> None:
    bands = [(band["from_mm"], band["nodules"], band["sensitivity"]) for band in score()["sizes"]]
    assert bands == [(3.0, 1, 0.0), (6.0, 1, 1.0), (20.0, 1, 1.0)]


def test_one_seed_gives_one_interval(score: Score) -> None:
    assert score("--seed", "3")["cpm_95"] == score("--seed", "3")["cpm_95"]


def test_the_table_is_for_a_person(run: Callable[..., Result]) -> None:
    lines = run().stdout.splitlines()
    assert lines[0].startswith("CPM 0.571  [")
    assert lines[2] == "2 of 3 nodules found, 1 missed, 2 false positives in 2 scan(s)"
    assert lines[7].startswith("    1/2        0.667  [")


def test_guessed_scans_are_said_on_stderr(run: Callable[..., Result]) -> None:
    assert "--scans is not given: counting the 2 scan(s)" in run().stderr


def test_truth_on_other_scans_is_said_on_stderr(run: Callable[..., Result], folder: Path) -> None:
    (folder / "detections.csv").write_text(DETECTIONS.split("1.2.2,")[0])
    (folder / "part.csv").write_text("1.2.1\n")
    assert "1 nodule(s) of" in run("--scans", str(folder / "part.csv")).stderr


def test_a_detection_on_a_scan_that_is_not_listed_is_an_error(
    run: Callable[..., Result], folder: Path
) -> None:
    (folder / "part.csv").write_text("1.2.1\n")
    with pytest.raises(LunaError, match=r"such as '1\.2\.2'"):
        run("--scans", str(folder / "part.csv"))


def test_a_missing_file_is_an_error(folder: Path) -> None:
    args = [str(folder / "none.csv"), "--truth", str(folder / "truth.csv")]
    with pytest.raises(LunaError, match=r"none\.csv"):
        CliRunner().invoke(evaluate, args, catch_exceptions=False)


def test_luna16s_own_truth_scores_1(shared_data: Path, tmp_path: Path) -> None:
    luna16 = shared_data / "luna16"
    rows = [
        f"{nodule.series_uid},{','.join(map(str, nodule.center_xyz))},1"
        for nodule in read_nodules(luna16 / "annotations.csv")
    ]
    (tmp_path / "all.csv").write_text("\n".join(["seriesuid,coordX,coordY,coordZ,probability", *rows]))
    args = [tmp_path / "all.csv", "--truth", luna16 / "annotations.csv", "--scans", luna16 / "seriesuids.csv"]
    args += ["--excluded", luna16 / "annotations_excluded.csv", "--json"]
    result = CliRunner().invoke(evaluate, [str(arg) for arg in args], catch_exceptions=False)
    figures = json.loads(result.stdout)
    expected = (1.0, 1186, len(read_series_uids(luna16 / "seriesuids.csv")))
    assert (figures["cpm"], figures["found"], figures["scans"]) == expected


def test_a_negative_seed_is_wrong_usage(folder: Path) -> None:
    args = [folder / "detections.csv", "--truth", folder / "truth.csv", "--seed", "-1"]
    assert CliRunner().invoke(evaluate, [str(arg) for arg in args]).exit_code == 2


def test_ids_that_have_nothing_in_common_are_refused(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.9,0,0,0,5\n")
    (tmp_path / "marks.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\n1.2.8,0,0,0,0.5\n")
    arguments = [str(tmp_path / "marks.csv"), "--truth", str(tmp_path / "truth.csv")]
    with pytest.raises(LunaError, match=r"no seriesuid in common: the truth has 1.2.9, .*csv has 1.2.8"):
        CliRunner().invoke(evaluate, arguments, catch_exceptions=False)


def test_one_scan_has_no_interval(folder: Path) -> None:
    (folder / "detections.csv").write_text(DETECTIONS.split("1.2.2,")[0])
    (folder / "truth.csv").write_text(TRUTH.split("1.2.2,")[0])
    arguments = [str(folder / "detections.csv"), "--truth", str(folder / "truth.csv")]
    lines = CliRunner().invoke(evaluate, arguments, catch_exceptions=False).stdout.splitlines()
    assert lines[0] == "CPM 0.500  [too few scans]"


def test_the_books_table_ends_the_text(run: Callable[..., Result]) -> None:
    # 2 scans: 0.7, below the false 0.8, is above the threshold of 1 FP/scan, 0.1
    assert run().stdout.splitlines()[-6:] == [
        "at 1 FP/scan: score >= 0.1",
        "                          missed  filtered out    found",
        "malignant                      0             0        0",
        "benign                         0             0        0",
        "indeterminate or unrated       1             0        2",
        "non-nodule                                   0        2",
    ]


def test_a_folder_of_lists_is_a_truth(folder: Path) -> None:
    lists = folder / "lists"
    lists.mkdir()
    (folder / "truth.csv").rename(lists / "annotations.csv")
    (folder / "excluded.csv").rename(lists / "annotations_excluded.csv")
    (folder / "scans.csv").rename(lists / "seriesuids.csv")
    arguments = [str(folder / "detections.csv"), "--truth", str(lists), "--json"]
    counts = json.loads(CliRunner().invoke(evaluate, arguments, catch_exceptions=False).stdout)
    assert (counts["scans"], counts["false_positives"]) == (4, 1)


@pytest.fixture
def two(folder: Path) -> list[str]:
    """Two submissions, the second without the mark at 0.9."""
    (folder / "other.csv").write_text(DETECTIONS.replace("1.2.1,51,0,0,0.9\n", ""))
    return [str(folder / "detections.csv"), str(folder / "other.csv"), "--truth", str(folder / "truth.csv")]


def test_several_submissions_are_compared_with_the_first(two: list[str]) -> None:
    lines = CliRunner().invoke(evaluate, two, catch_exceptions=False).stdout.splitlines()
    assert lines[0] == "3 nodules in 2 scan(s); sensitivity at FP/scan"
    assert lines[3].split()[:2] == ["detections.csv", "0.571"]
    assert lines[4].split()[:2] == ["other.csv", "0.238"]  # 1/3 from 1/2 FP/scan on: 5/7 of it
    assert lines[6].startswith("minus detections.csv")
    assert lines[7].split()[:2] == ["other.csv", "-0.333"]
    assert {len(line) for line in (lines[2], *lines[3:5])} == {len(lines[3])}
    assert {len(line) for line in lines[6:8]} == {len(lines[6])}


def test_json_of_several_has_the_first_and_others(two: list[str]) -> None:
    found = json.loads(CliRunner().invoke(evaluate, [*two, "--json"], catch_exceptions=False).stdout)
    assert found["cpm"] == pytest.approx(4 / 7)
    assert [other["difference"]["cpm"] for other in found["others"]] == pytest.approx([-1 / 3])


def test_output_is_the_json_the_curve_the_figures_and_the_page(
    run: Callable[..., Result], folder: Path
) -> None:
    result = run("--json", "--output", str(folder / "out"))
    assert (folder / "out" / "evaluation.json").read_text(encoding="utf-8") == result.stdout
    names = ["evaluation.json", "froc.csv", "froc.png", "index.html", "sizes.png"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == names


def test_a_folder_that_holds_something_is_not_written_to(run: Callable[..., Result], folder: Path) -> None:
    with pytest.raises(LunaError, match="the folder is not empty"):
        run("--output", str(folder))


def test_bad_input_leaves_no_output(run: Callable[..., Result], folder: Path) -> None:
    (folder / "detections.csv").write_text(DETECTIONS.replace("0.7", "high"))
    with pytest.raises(LunaError, match=r"line 4, column probability: 'high'; expected a number"):
        run("--output", str(folder / "out"))
    assert not [path for path in folder.iterdir() if path.suffix != ".csv"]


def test_images_become_pictures_on_the_page(run: Callable[..., Result], folder: Path) -> None:
    hu = np.full((41, 41, 41), -850, np.int16)
    hu[18:23, 18:23, 18:23] = 50
    write_ct(
        folder / "cts" / "1.2.1.mha", CtVolume("1.2.1", hu, ImageGeometry.axial(origin_xyz=(-20, -20, -20)))
    )
    result = run("--output", str(folder / "out"), "--images", str(folder / "cts"))
    page = (folder / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count('<div class="montage">') == 1  # the missed nodule; marks lie outside or on 1.2.2
    assert "no CT of 1 of 2 scan(s), such as 1.2.2" in result.stderr
    written = json.loads((folder / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert any("no CT of 1 of 2" in warning for warning in written["warnings"])


def test_images_without_output_are_wrong_usage(folder: Path) -> None:
    args = [folder / "detections.csv", "--truth", folder / "truth.csv", "--images", folder]
    result = CliRunner().invoke(evaluate, [str(arg) for arg in args])
    assert result.exit_code == 2
    assert "--images is for the page that --output writes" in result.stderr


def test_neither_submission_nor_truth_is_wrong_usage() -> None:
    assert CliRunner().invoke(evaluate, []).exit_code == 2


BAD_SUBMISSIONS = {
    "duplicate header": (f"coordX,{DETECTIONS}", "column 'coordX' is there 2 times"),
    "renamed column": (DETECTIONS.replace("probability", "score"), "no column 'probability'; found"),
    "no columns": ("", "empty; expected the columns seriesuid"),
    "id without its digits": (DETECTIONS.replace("1.2.2", "1.3E+50"), "'1.3E+50'; expected a series uid"),
    "NaN": (DETECTIONS.replace("0.7", "nan"), "column probability: 'nan'; expected a number"),
    "infinite": (DETECTIONS.replace("0.7", "inf"), "column probability: 'inf'; expected a number"),
    "text in a place": (DETECTIONS.replace("51,", "left,"), "column coordX: 'left'; expected a number"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "says"), BAD_SUBMISSIONS.values(), ids=BAD_SUBMISSIONS)
def test_a_bad_submission_is_refused(
    run: Callable[..., Result], folder: Path, content: str, says: str
) -> None:
    (folder / "detections.csv").write_text(content)
    with pytest.raises(LunaError, match=re.escape(says)):
        run()
