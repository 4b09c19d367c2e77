import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.report.comparison.picture import write_pairs
from p2ch_luna.report.comparison.run import read_both
from p2ch_luna.report.comparison.schema import Compared, Comparison
from p2ch_luna.report.comparison.text import as_text
from support.compared import CUT, GONE, GROWN, MOVE, NEW
from support.findings import pixels

Folders = tuple[Path, Path]


def of(comparison: Comparison, status: str) -> Compared:
    """The first of them."""
    return next(nodule for nodule in comparison.nodules if nodule.status == status)


def test_every_nodule_of_either_scan_is_there_once(comparison: Comparison) -> None:
    assert [nodule.status for nodule in comparison.nodules] == [
        "matched",
        "matched",
        "new",
        "vanished",
        "not covered",
    ]


def test_the_grown_one_is_matched(comparison: Comparison) -> None:
    nodule = of(comparison, "matched")
    assert nodule.prior
    assert nodule.current
    assert nodule.growth
    assert (nodule.prior.id, nodule.current.id) == ("F2", "F2")
    assert nodule.growth.diameter_mm == pytest.approx(2.0)
    assert nodule.growth.doubling_days == pytest.approx(200 * np.log(2) / np.log(524 / 268))
    assert nodule.growth.verdict == "growing"


def test_what_has_grown_most_comes_first(comparison: Comparison) -> None:
    growths = [nodule.growth for nodule in comparison.nodules[:2]]
    assert [round(growth.diameter_mm, 1) for growth in growths if growth] == [2.0, 0.2]


def test_its_earlier_place_is_told_in_the_later_scan(comparison: Comparison) -> None:
    nodule = of(comparison, "matched")
    np.testing.assert_allclose(nodule.expected_lps_mm, MOVE(GROWN), atol=0.5)
    assert nodule.distance_mm == pytest.approx(0.5, abs=0.5)


def test_of_a_new_one_the_place_in_the_earlier_scan_is_told(comparison: Comparison) -> None:
    nodule = of(comparison, "new")
    assert nodule.prior is None
    np.testing.assert_allclose(nodule.expected_lps_mm, NEW, atol=0.5)


def test_what_was_rejected_there_is_mentioned(comparison: Comparison) -> None:
    told = "seen in the prior scan below the threshold: 4.5 mm, probability 0.2"
    assert of(comparison, "new").remark == told


def test_one_that_is_gone_is_told_where_it_would_be(comparison: Comparison) -> None:
    nodule = of(comparison, "vanished")
    assert nodule.current is None
    assert nodule.remark == ""
    np.testing.assert_allclose(nodule.expected_lps_mm, MOVE(GONE), atol=0.5)


def test_one_outside_of_the_later_scan_is_not_called_gone(comparison: Comparison) -> None:
    nodule = of(comparison, "not covered")
    assert nodule.prior
    assert nodule.prior.id == "F4"
    assert nodule.remark == "outside the current scan"
    np.testing.assert_allclose(nodule.expected_lps_mm, MOVE(CUT), atol=0.5)


def test_the_registration_is_told(comparison: Comparison) -> None:
    laid = comparison.registration
    np.testing.assert_allclose(laid.rotation, MOVE.rotation, atol=0.01)
    cosine = (np.trace(MOVE.rotation) - 1) / 2
    assert laid.turned_degrees == pytest.approx(np.degrees(np.arccos(cosine)), abs=0.5)


def test_it_comes_back_from_its_json(comparison: Comparison) -> None:
    assert Comparison.model_validate_json(comparison.to_json()) == comparison


def test_scans_that_agree_bring_no_warning(comparison: Comparison) -> None:
    assert comparison.warnings == ()


def test_where_lungs_do_not_agree_no_growth_is_told(unlike: Comparison) -> None:
    assert of(unlike, "matched").remark == "not judged: the lungs do not agree"
    assert [nodule.growth for nodule in unlike.nodules] == [None] * len(unlike.nodules)


def test_where_lungs_do_not_agree_nothing_is_called_new_or_gone(unlike: Comparison) -> None:
    alone = [nodule for nodule in unlike.nodules if nodule.status != "matched"]
    assert {(nodule.status, nodule.remark) for nodule in alone} == {("not judged", "the lungs do not agree")}


def test_the_table_of_such_scans_says_so(unlike: Comparison) -> None:
    table = as_text(unlike)
    assert "matched, not judged: the lungs do not agree\n" in table
    assert "growing" not in table


def test_the_rules_are_told(comparison: Comparison) -> None:
    assert [rule.split(" ")[0] for rule in comparison.rules] == ["a", "growing:", "volume", "where"]


def test_a_picture_shows_a_pair_a_row(comparison: Comparison, folders: Folders, tmp_path: Path) -> None:
    """5 rows; no key images are there, so the lungs are shown, nothing where the scan does not reach."""
    write_pairs(tmp_path / "pairs.png", comparison, *read_both(*folders))
    picture = pixels(tmp_path / "pairs.png")
    assert picture.shape == (56 + 5 * (48 + 400 + 12), 2 * 400 + 3 * 12, 3)
    assert picture[56 + 48 : 56 + 448, 12:412].std() > 10


# --- what is refused ---


@pytest.fixture
def copies(folders: Folders, tmp_path: Path) -> Folders:
    """The same folders, to be damaged."""
    shutil.copytree(folders[0].parent, tmp_path / "both")
    return tmp_path / "both" / "prior", tmp_path / "both" / "current"


def change(folder: Path, key: str, value: object) -> None:
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    (folder / "report.json").write_text(json.dumps(content | {key: value}), encoding="utf-8")


def damaged_text(folder: Path) -> None:
    (folder / "report.json").write_text("{", encoding="utf-8")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no report": (
        lambda folder: (folder / "report.json").unlink(),
        "prior: holds no report.json; wanted a folder that luna diagnose has written",
    ),
    "no JSON": (damaged_text, "prior/report.json: cannot be read as a report"),
    "old": (
        lambda folder: change(folder, "schema_version", "2.0"),
        "prior/report.json: a report of version 2.0; wanted 3",
    ),
    "not a report": (
        lambda folder: change(folder, "findings", 5),
        "prior/report.json: no whole report: findings",
    ),
    "no lungs found": (
        lambda folder: change(folder, "files", []),
        "prior: no lungs were found in this scan; wanted two scans of lungs",
    ),
    "lungs deleted": (
        lambda folder: (folder / "lungs.nii.gz").unlink(),
        "prior/lungs.nii.gz: not there, though report.json names it",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_folder_that_is_not_whole_is_refused(case: str, copies: Folders) -> None:
    damage, message = DAMAGE[case]
    damage(copies[0])
    with pytest.raises(LunaError) as caught:
        read_both(*copies)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_folder_twice_is_refused(folders: Folders) -> None:
    with pytest.raises(LunaError, match="given as earlier and as later scan; wanted two folders"):
        read_both(folders[0], folders[0] / ".")
