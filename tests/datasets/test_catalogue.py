"""Which scans are found in LUNA16's folder, as it may lie on a disk. No voxel is read for that."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from p2ch_luna.datasets.catalogue import LunaLists, ScanSource, find_lists, index_scans
from p2ch_luna.errors import LunaError
from p2ch_luna.io import read_nodules

HEADER = """NDims = 3
ElementSpacing = 1 1 1
DimSize = 1 1 1
ElementType = MET_UCHAR
ElementDataFile = {uid}.raw
"""
TABLE = "seriesuid,coordX,coordY,coordZ,diameter_mm\n1.1.1,1,2,3,4\n"


def unpacked(folder: Path, *uids: str) -> Path:
    """Scans of one voxel."""
    folder.mkdir(parents=True, exist_ok=True)
    for uid in uids:
        (folder / f"{uid}.mhd").write_text(HEADER.format(uid=uid))
        (folder / f"{uid}.raw").write_bytes(b"0")
    return folder


def zipped(path: Path, *uids: str) -> Path:
    """The same in a zip as LUNA16's: in a folder of the zip's name."""
    with zipfile.ZipFile(path, "w") as file:
        for uid in uids:
            file.writestr(f"{path.stem}/{uid}.mhd", HEADER.format(uid=uid))
            file.writestr(f"{path.stem}/{uid}.raw", b"0")
    return path


def found(*paths: Path, subsets: list[int] | None = None) -> list[tuple[int | None, str]]:
    """Subset and uid of each scan that can be used; all can."""
    catalogue = index_scans(paths, subsets)
    assert catalogue.problems == []
    return [(s.subset, s.series_uid) for s in catalogue.sources]


def problem(*paths: Path, listed: list[str] | None = None) -> tuple[str, str, str]:
    """Uid, place below the first path, and reason of the one problem."""
    (one,) = index_scans(paths, listed=listed).problems
    return one.series_uid, one.where.replace(f"{paths[0]}/", ""), one.reason


def test_scans_have_the_number_of_their_folder(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset0", "1.2", "1.1")
    unpacked(tmp_path / "subset7", "1.3")
    assert found(tmp_path) == [(0, "1.1"), (0, "1.2"), (7, "1.3")]


def test_scans_have_the_number_of_their_zip(tmp_path: Path) -> None:
    zipped(tmp_path / "subset3.zip", "1.1")
    assert index_scans([tmp_path]).sources == [
        ScanSource("1.1", tmp_path / "subset3.zip", "subset3/1.1.mhd", 3)
    ]


def test_a_subset_may_be_given_alone(tmp_path: Path) -> None:
    assert found(unpacked(tmp_path / "subset0", "1.1"), zipped(tmp_path / "subset4.zip", "1.2")) == [
        (0, "1.1"),
        (4, "1.2"),
    ]


def test_a_scan_of_a_subset_may_be_given_alone(tmp_path: Path) -> None:
    assert found(unpacked(tmp_path / "subset0", "1.1") / "1.1.mhd") == [(0, "1.1")]


def test_a_subset_unpacked_into_a_folder_of_its_own_name_is_found(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset2" / "subset2", "1.1")
    assert found(tmp_path) == [(2, "1.1")]


def test_subsets_on_other_disks_are_found_through_links(tmp_path: Path) -> None:
    (tmp_path / "LUNA16").mkdir()
    (tmp_path / "LUNA16" / "subset5").symlink_to(unpacked(tmp_path / "disk", "1.1"))
    assert found(tmp_path / "LUNA16") == [(5, "1.1")]


def test_links_in_circles_end(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "subset5", "1.1")
    for name in ("up", "again", "more"):
        (folder / name).symlink_to(tmp_path)
    assert found(tmp_path) == [(5, "1.1")]


def test_lung_masks_are_no_scans(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset0", "1.1")
    unpacked(tmp_path / "seg-lungs-LUNA16", "1.1", "1.2")
    assert found(tmp_path) == [(0, "1.1")]


def test_lung_masks_in_any_folder_are_no_scans(tmp_path: Path) -> None:
    unpacked(tmp_path, "1.1")
    unpacked(tmp_path / "seg-lungs-LUNA16", "1.2")
    assert found(tmp_path) == [(None, "1.1")]


def test_lung_masks_alone_are_no_scans(tmp_path: Path) -> None:
    unpacked(tmp_path / "seg-lungs-LUNA16", "1.1")
    with pytest.raises(LunaError, match="seg-lungs-LUNA16: no scan there"):
        index_scans([tmp_path / "seg-lungs-LUNA16"])


def test_what_lies_beside_the_subsets_is_no_scan_of_luna16(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset0", "1.1")
    unpacked(tmp_path / "mine", "1.2")
    catalogue = index_scans([tmp_path])
    assert [source.series_uid for source in catalogue.sources] == ["1.1"]
    (problem,) = catalogue.problems
    assert problem.where == str(tmp_path / "mine" / "1.2.mhd")
    assert problem.reason == "lies in no subset of LUNA16 (1 such files); expected its folder by itself"


def test_one_problem_tells_of_all_that_lies_beside_the_subsets(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset1", "1.1")
    unpacked(tmp_path / "other", "1.2", "1.3")
    unpacked(tmp_path / "seg-lungs-LUNA16", "1.1")
    assert problem(tmp_path) == (
        "",
        "other/1.2.mhd",
        "lies in no subset of LUNA16 (2 such files); expected its folder by itself",
    )


def test_what_lies_beside_the_subsets_is_used_where_it_has_a_path_of_its_own(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset1", "1.1")
    own = unpacked(tmp_path / "other", "1.2")
    assert found(tmp_path, own) == [(1, "1.1"), (None, "1.2")]


def test_what_lies_beside_the_subsets_does_not_matter_where_some_of_these_are_wanted(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset1", "1.1")
    unpacked(tmp_path / "other", "1.2")
    assert found(tmp_path, subsets=[1]) == [(1, "1.1")]


def test_masks_and_results_are_no_scans(tmp_path: Path) -> None:
    unpacked(tmp_path, "1.1", "1.1_mask", "nodules")
    for name in ("out/lungs.nii.gz", "out/nodules.nii.gz", "1.1-seg.nrrd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert found(tmp_path) == [(None, "1.1")]


def test_a_mask_in_a_zip_is_no_scan(tmp_path: Path) -> None:
    assert found(zipped(tmp_path / "subset1.zip", "1.1", "1.1_mask")) == [(1, "1.1")]


def test_hidden_files_are_no_scans(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset0", "1.1", ".5f2a-1.2")
    assert found(tmp_path) == [(0, "1.1")]


def test_what_a_mac_puts_into_a_zip_is_no_scan(tmp_path: Path) -> None:
    with zipfile.ZipFile(zipped(tmp_path / "subset0.zip", "1.1"), "a") as file:
        file.writestr("__MACOSX/subset0/._1.1.mhd", "")
    assert found(tmp_path) == [(0, "1.1")]


def test_only_the_subsets_wanted_are_found(tmp_path: Path) -> None:
    for k in range(3):
        unpacked(tmp_path / f"subset{k}", f"1.{k}")
    assert found(tmp_path, subsets=[0, 2]) == [(0, "1.0"), (2, "1.2")]


def test_the_subset_of_a_scan_does_not_depend_on_the_others(tmp_path: Path) -> None:
    unpacked(tmp_path / "all" / "subset1", "1.1")
    unpacked(tmp_path / "all" / "subset0", "1.0")
    unpacked(tmp_path / "one" / "subset1", "1.1")
    assert (1, "1.1") in found(tmp_path / "all")
    assert found(tmp_path / "one") == [(1, "1.1")]


def test_other_folders_have_no_subsets(tmp_path: Path) -> None:
    unpacked(tmp_path / "a", "1.1")
    for name in ("1.2.mha", "1.3.nii.gz", "1.4.nrrd", "nodules.nii.gz", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert found(tmp_path) == [(None, "1.1"), (None, "1.2"), (None, "1.3"), (None, "1.4")]


def test_a_subset_both_unpacked_and_zipped_counts_once(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset0", "1.1")
    zipped(tmp_path / "subset0.zip", "1.1", "1.2")
    sources = index_scans([tmp_path]).sources
    assert [(s.series_uid, s.path.name) for s in sources] == [("1.1", "1.1.mhd"), ("1.2", "subset0.zip")]


def test_the_zip_helps_where_unpacking_was_cut_short(tmp_path: Path) -> None:
    (unpacked(tmp_path / "subset0", "1.1") / "1.1.raw").unlink()
    zipped(tmp_path / "subset0.zip", "1.1")
    assert [s.path.name for s in index_scans([tmp_path]).sources] == ["subset0.zip"]


def test_a_path_given_twice_counts_once(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset0", "1.1")
    assert found(tmp_path, tmp_path / "subset0", tmp_path / "subset0" / "1.1.mhd") == [(0, "1.1")]


def test_a_uid_in_two_subsets_is_used_from_neither(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset0", "1.1", "1.2")
    zipped(tmp_path / "subset1.zip", "1.1")
    assert [s.series_uid for s in index_scans([tmp_path]).sources] == ["1.2"]
    assert problem(tmp_path) == (
        "1.1",
        "subset0/1.1.mhd and subset1.zip: subset1/1.1.mhd",
        "the same series uid at 2 places; expected one: none is used",
    )


def test_of_a_uid_at_many_places_three_are_named(tmp_path: Path) -> None:
    for folder in "abcde":
        unpacked(tmp_path / folder, "1.1")
    assert problem(tmp_path)[1:] == (
        "a/1.1.mhd and b/1.1.mhd and c/1.1.mhd … and 2 more",
        "the same series uid at 5 places; expected one: none is used",
    )


def test_a_uid_in_two_files_is_used_from_neither(tmp_path: Path) -> None:
    unpacked(tmp_path, "1.1")
    (tmp_path / "1.1.nrrd").write_bytes(b"")
    assert problem(tmp_path)[1] == "1.1.mhd and 1.1.nrrd"


def test_a_uid_that_is_not_in_the_list_is_a_problem(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset0", "1.1", "1.2")
    assert problem(tmp_path, listed=["1.1"]) == (
        "1.2",
        "subset0/1.2.mhd",
        "its series uid is not in LUNA16's list, seriesuids.csv; expected one of those",
    )


def test_scans_that_are_not_of_luna16_need_no_list(tmp_path: Path) -> None:
    unpacked(tmp_path, "mine")
    assert len(index_scans([tmp_path], listed=["1.1"]).sources) == 1


def test_a_missing_raw_is_a_problem(tmp_path: Path) -> None:
    (unpacked(tmp_path / "subset0", "1.1", "1.2") / "1.1.raw").unlink()
    assert problem(tmp_path) == (
        "1.1",
        "subset0/1.1.mhd",
        "its data file '1.1.raw' is not there; expected it beside the header",
    )


def test_a_missing_raw_in_a_zip_is_a_problem(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "subset0.zip", "w") as file:
        file.writestr("subset0/1.1.mhd", HEADER.format(uid="1.1"))
    assert problem(tmp_path)[1] == "subset0.zip: subset0/1.1.mhd"


def test_data_may_have_any_name(tmp_path: Path) -> None:
    unpacked(tmp_path, "1.1")
    (tmp_path / "1.1.raw").rename(tmp_path / "other.raw")
    (tmp_path / "1.1.mhd").write_text(HEADER.format(uid="other"))
    assert found(tmp_path) == [(None, "1.1")]


def test_a_zip_cut_short_is_a_problem_and_the_rest_goes_on(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset0", "1.1")
    path = zipped(tmp_path / "subset1.zip", "1.2")
    path.write_bytes(path.read_bytes()[:-30])
    assert [s.series_uid for s in index_scans([tmp_path]).sources] == ["1.1"]
    uid, where, reason = problem(tmp_path)
    assert (uid, where) == ("", "subset1.zip")
    assert reason.startswith("damaged or cut short: ")


def test_a_zip_cut_short_does_not_matter_where_its_subset_is_not_wanted(tmp_path: Path) -> None:
    unpacked(tmp_path / "subset0", "1.1")
    (tmp_path / "subset1.zip").write_bytes(b"PK")
    assert index_scans([tmp_path], subsets=[0]).problems == []


def test_a_zip_without_scans_is_a_problem(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "subset0.zip", "w") as file:
        file.writestr("readme.txt", "")
    assert problem(tmp_path)[2] == "no .mhd in it; expected scans as in LUNA16's subset0.zip"


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="nowhere: no such file or folder"):
        index_scans([tmp_path / "nowhere"])


def test_a_folder_without_scans_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="no scan there; wanted a file or a folder of "):
        index_scans([tmp_path])


def test_a_file_that_is_no_scan_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(LunaError, match=r"notes\.txt: unknown suffix '\.txt'"):
        index_scans([tmp_path / "notes.txt"])


def test_lists_are_found_where_the_download_puts_them(tmp_path: Path) -> None:
    (tmp_path / "annotations.csv").write_text(TABLE)
    (tmp_path / "candidates.csv").write_text("")
    official = tmp_path / "evaluationScript" / "annotations"
    official.mkdir(parents=True)
    (official / "annotations_excluded.csv").write_text(TABLE)
    (official / "seriesuids.csv").write_text("1.1\n")
    with zipfile.ZipFile(tmp_path / "candidates_V2.zip", "w") as file:
        file.writestr("candidates_V2.csv", "")
    assert find_lists(tmp_path) == LunaLists(
        annotations=tmp_path / "annotations.csv",
        excluded=official / "annotations_excluded.csv",
        series_uids=official / "seriesuids.csv",
        candidates=tmp_path / "candidates.csv",
        candidates_v2=tmp_path / "candidates_V2.zip" / "candidates_V2.csv",
    )


def test_lists_may_lie_in_the_zip_of_the_evaluation(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evaluationScript.zip", "w") as file:
        file.writestr("evaluationScript/annotations/annotations.csv", TABLE)
    path = find_lists(tmp_path).annotations
    assert path is not None
    assert [n.series_uid for n in read_nodules(path)] == ["1.1.1"]


def test_what_is_unpacked_is_taken_before_what_is_zipped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "candidates_V2.zip", "w") as file:
        file.writestr("candidates_V2.csv", "")
    (tmp_path / "candidates_V2.csv").write_text("")
    assert find_lists(tmp_path).candidates_v2 == tmp_path / "candidates_V2.csv"


def test_lists_that_are_not_there_are_none(tmp_path: Path) -> None:
    assert find_lists(tmp_path) == LunaLists(None, None, None, None, None)


def test_a_zip_of_lists_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "evaluationScript.zip").write_bytes(b"PK")
    with pytest.raises(LunaError, match=r"evaluationScript\.zip: damaged or cut short"):
        find_lists(tmp_path)
