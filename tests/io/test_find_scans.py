"""Which scans are found at and below a folder, and what they are called."""

from __future__ import annotations

import os
import re
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from p2ch_luna.errors import LunaError
from p2ch_luna.io import read_ct, write_ct
from p2ch_luna.io.dicom_headers import MODALITY, PATIENT_ID, SERIES_UID, STUDY_UID, read_header
from p2ch_luna.io.find_scans import FoundScan, find_scans, on_disk
from support.dicom_files import small_ct

HEADER = "DimSize = 2 2 2\nElementSpacing = 1 1 1\nElementType = MET_SHORT\nElementDataFile = 1.2.raw\n"


def dicom(folder: Path, patient: str, study: str, series: str = "1.2.1", modality: str = "CT") -> None:
    """Nine images that are one file, as only headers are read."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    image = sitk.GetImageFromArray(np.zeros((8, 8), np.int16))
    for tag, value in ((PATIENT_ID, patient), (STUDY_UID, study), (SERIES_UID, series), (MODALITY, modality)):
        image.SetMetaData(tag, value)
    writer.SetFileName(str(folder / "1.dcm"))
    writer.Execute(image)
    for number in range(2, 10):
        os.link(folder / "1.dcm", folder / f"{number}.dcm")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def pack(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as zipped:
        for name in names:
            zipped.writestr(name, HEADER if name.endswith(".mhd") else f"content of {name}")


def names(root: Path) -> list[str]:
    return [scan.name for scan in find_scans(root)]


def test_volume_files_are_scans_and_their_data_files_are_none(tmp_path: Path) -> None:
    touch(tmp_path, "1.2.3.mhd", "1.2.3.raw", "a.nii.gz", "b.nii", "c.nrrd", "d.mha", "notes.txt")
    assert names(tmp_path) == ["1.2.3", "a", "b", "c", "d"]


def test_scans_in_folders_below_are_called_by_their_place(tmp_path: Path) -> None:
    touch(tmp_path, "p1/ct.nii.gz", "p2/old/ct.nii.gz")
    assert find_scans(tmp_path) == [
        FoundScan("p1_ct", tmp_path / "p1/ct.nii.gz"),
        FoundScan("p2_old_ct", tmp_path / "p2/old/ct.nii.gz"),
    ]


def test_a_file_is_one_scan_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, "nodules.nii.gz", "other.nii.gz")
    assert find_scans(tmp_path / "nodules.nii.gz") == [FoundScan("nodules", tmp_path / "nodules.nii.gz")]


def test_what_is_not_there_is_left_to_who_opens_it(tmp_path: Path) -> None:
    assert find_scans(tmp_path / "a.mhd") == [FoundScan("a", tmp_path / "a.mhd")]


def test_an_empty_folder_holds_none(tmp_path: Path) -> None:
    assert find_scans(tmp_path) == []


def test_masks_are_passed_over_by_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "ct.nii.gz", "ct_mask.nii.gz", "lung1-nodule.nrrd", "seg.nii", "Labels.mha")
    touch(tmp_path, "seg-lungs-LUNA16/ct.mhd")
    assert names(tmp_path) == ["ct"]


def test_masks_that_are_passed_over_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "ct.nii.gz", "ct_mask.nii.gz", "nodules.nii.gz")
    find_scans(tmp_path)
    assert caplog.messages == [
        f"{tmp_path}: passed over as masks, by their names, 1 in all: {tmp_path}/ct_mask.nii.gz"
    ]


def test_labels_that_this_package_writes_need_no_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "ct.nii.gz", "nodules.nii.gz")
    assert names(tmp_path) == ["ct"]
    assert caplog.messages == []


def test_results_are_no_scans(tmp_path: Path) -> None:
    touch(tmp_path, "ct.mha", "out/ct/report.json", "out/ct/detections.csv", "out/ct/lungs.nii.gz")
    assert names(tmp_path) == ["ct"]


def test_a_scan_in_the_folder_of_its_own_results_is_found(tmp_path: Path) -> None:
    results = ("report.json", "detections.csv", "lungs.nii.gz", "nodules.nii.gz", "F1-axial.png")
    touch(tmp_path, "p1/ct.mha", *(f"p1/{name}" for name in results))
    dicom(tmp_path / "p2", "A", "1.1")
    dicom(tmp_path / "other", "A", "1.2", modality="SEG")
    (tmp_path / "other" / "1.dcm").rename(tmp_path / "p2" / "nodules.seg.dcm")
    touch(tmp_path, *(f"p2/{name}" for name in results))
    assert names(tmp_path) == ["p1_ct", "p2"]


def test_what_is_passed_over_need_not_be_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "ct.nii.gz", "ct_mask.nii.gz")
    find_scans(tmp_path, tell=False)
    assert caplog.messages == []


def test_the_folder_of_results_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "ct.mha", "out/ct/lungs.nii.gz")
    assert [scan.name for scan in find_scans(tmp_path, besides=tmp_path / "out")] == ["ct"]


def test_what_a_system_hides_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.mha", ".b.mha", "__MACOSX/a.mha", ".trash/c.mha")
    assert names(tmp_path) == ["a"]


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path, "a.mha", "A.nrrd", "b.mha")
    found = names(tmp_path)
    assert [name[:2] for name in found] == ["A-", "a-", "b"]
    assert len({name.lower() for name in found}) == 3


def test_names_are_the_same_the_next_time(tmp_path: Path) -> None:
    touch(tmp_path, "a.mha", "a.nrrd", "ü/ct.mha")
    assert names(tmp_path) == names(tmp_path)


def test_names_are_of_plain_characters(tmp_path: Path) -> None:
    touch(tmp_path, "Köln/a b:c.mha")
    assert names(tmp_path) == ["K_ln_a_b_c"]


def test_a_name_does_not_take_that_of_a_table(tmp_path: Path) -> None:
    dicom(tmp_path / "summary.csv", "A", "1.1")
    touch(tmp_path, "ct.mha")
    assert [name.startswith("summary.csv-") for name in names(tmp_path)] == [False, True]


def test_a_long_name_is_cut_and_stays_its_own(tmp_path: Path) -> None:
    touch(tmp_path, f"{'1' * 120}/a.mha", f"{'1' * 120}/b.mha")
    first, second = names(tmp_path)
    assert len(first) == len(second) == 100
    assert first != second


def test_a_folder_of_one_study_is_one_scan(tmp_path: Path) -> None:
    dicom(tmp_path / "p1" / "study" / "thin", "A", "1.1", "1.1.1")
    dicom(tmp_path / "p1" / "study" / "thick", "A", "1.1", "1.1.2")
    dicom(tmp_path / "p2" / "study" / "thin", "B", "1.2", "1.2.1")
    assert find_scans(tmp_path) == [FoundScan("p1", tmp_path / "p1"), FoundScan("p2", tmp_path / "p2")]


def test_a_patient_with_two_studies_has_two_scans(tmp_path: Path) -> None:
    dicom(tmp_path / "p1" / "first" / "ct", "A", "1.1")
    dicom(tmp_path / "p1" / "second" / "ct", "A", "1.2")
    assert names(tmp_path) == ["p1_first", "p1_second"]


def test_series_of_several_studies_side_by_side_are_a_scan_each(tmp_path: Path) -> None:
    for name, study in (("s1", "1.1"), ("s2", "1.1"), ("s3", "1.2")):
        dicom(tmp_path / name, "A", study)
    assert names(tmp_path) == ["s1", "s2", "s3"]


def test_patients_of_one_study_uid_are_told_apart(tmp_path: Path) -> None:
    dicom(tmp_path / "p1", "A", "1.1")
    dicom(tmp_path / "p2", "B", "1.1")
    assert names(tmp_path) == ["p1", "p2"]


def test_a_study_is_called_after_the_folder_that_was_given(tmp_path: Path) -> None:
    dicom(tmp_path / "study" / "ct", "A", "1.1")
    assert find_scans(tmp_path / "study") == [FoundScan("study", tmp_path / "study")]


def test_slices_above_other_studies_are_one_scan_with_them(tmp_path: Path) -> None:
    dicom(tmp_path / "all", "A", "1.1")
    dicom(tmp_path / "all" / "below", "B", "1.2")
    assert names(tmp_path) == ["all"]


def test_a_few_images_above_studies_are_passed_over_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "p1", "p2"):
        dicom(tmp_path / name, name, "1.1")
    for number in range(2, 10):
        (tmp_path / f"{number}.dcm").unlink()
    assert names(tmp_path) == ["p1", "p2"]
    assert caplog.messages[0].startswith(f"{tmp_path}: too few files for a scan, beside folders of other")


def test_objects_that_were_made_from_images_are_no_scans(tmp_path: Path) -> None:
    dicom(tmp_path / "p1", "A", "1.1")
    dicom(tmp_path / "p2", "B", "1.2")
    dicom(tmp_path / "p3", "C", "1.3", modality="SEG")
    assert names(tmp_path) == ["p1", "p2"]


def test_a_volume_beside_dicom_is_a_scan_of_its_own(tmp_path: Path) -> None:
    dicom(tmp_path / "p1" / "dicom", "A", "1.1")
    touch(tmp_path, "p1/ct.nii.gz")
    assert names(tmp_path) == ["p1_ct", "p1_dicom"]


def test_dicom_of_no_ct_beside_a_volume_is_passed_over_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dicom(tmp_path, "A", "1.1", modality="OT")
    touch(tmp_path, "ct.nii.gz")
    assert names(tmp_path) == ["ct"]
    assert caplog.messages == [f"{tmp_path}: DICOM images beside a volume are passed over: none is of a CT"]


def test_a_damaged_first_slice_does_not_split_a_study(tmp_path: Path) -> None:
    for series in ("1.1.1", "1.1.2"):
        dicom(tmp_path / "p1" / series, "A", "1.1", series)
    content = (tmp_path / "p1" / "1.1.1" / "1.dcm").read_bytes()
    (tmp_path / "p1" / "1.1.1" / "1.dcm").unlink()
    (tmp_path / "p1" / "1.1.1" / "1.dcm").write_bytes(content[:600])
    dicom(tmp_path / "p2", "B", "1.2")
    assert names(tmp_path) == ["p1", "p2"]


def test_a_folder_whose_name_is_not_utf8_is_a_scan_that_will_fail(tmp_path: Path) -> None:
    dicom(tmp_path / "p1", "A", "1.1")
    (tmp_path / "p1").rename(tmp_path / os.fsdecode(b"J\xfcrgen"))
    dicom(tmp_path / "p2", "B", "1.2")
    first, second = find_scans(tmp_path)
    assert (first.where, second.name) == (f"{tmp_path}/J\\xfcrgen", "p2")
    with pytest.raises(LunaError, match="its name is not UTF-8"), on_disk(first):
        pass


def test_a_scan_opens_as_what_was_found(tmp_path: Path) -> None:
    """A zip of a volume and its mask, alone in a folder."""
    write_ct(tmp_path / "ct.mha", small_ct())
    write_ct(tmp_path / "ct_mask.nii.gz", small_ct())
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "one.zip", "w") as zipped:
        for name in ("ct.mha", "ct_mask.nii.gz"):
            zipped.write(tmp_path / name, name)
    (scan,) = find_scans(tmp_path / "in")
    for path in (scan.path, tmp_path / "in"):
        assert read_ct(path).series_uid == "ct"


def test_a_zip_of_tables_is_no_scan_unless_it_is_named(tmp_path: Path) -> None:
    pack(tmp_path / "lists.zip", "annotations.csv", "readme.txt", "inner.zip", "ct_mask.nii.gz")
    assert find_scans(tmp_path) == []
    assert names(tmp_path / "lists.zip") == ["lists"]


def test_one_header_a_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        dicom(tmp_path / f"p{number}", str(number), f"1.{number}")
    read: list[str] = []

    def reading(path: Path) -> object:
        read.append(path.parent.name)
        return read_header(path)

    monkeypatch.setattr("p2ch_luna.io.find_scans.read_header", reading)
    assert len(find_scans(tmp_path)) == 3
    assert read == ["p0", "p1", "p2"]


def test_links_are_followed_and_a_ring_of_them_ends(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/ct.mha", "scans/own.mha")
    (tmp_path / "scans" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "ring").symlink_to(tmp_path / "scans")
    assert names(tmp_path / "scans") == ["linked_ct", "own"]


def test_a_zip_is_a_scan(tmp_path: Path) -> None:
    pack(tmp_path / "study.zip", "dicom/1", "dicom/2")
    pack(tmp_path / "one.zip", "ct.mhd", "ct.raw", "ct_mask.nii.gz")
    assert find_scans(tmp_path) == [
        FoundScan("one", tmp_path / "one.zip"),
        FoundScan("study", tmp_path / "study.zip"),
    ]


def test_a_zip_of_several_volumes_holds_as_many_scans(tmp_path: Path) -> None:
    path = tmp_path / "subset0.zip"
    pack(path, "subset0/1.2.3.mhd", "subset0/1.2.3.raw", "subset0/1.2.4.mhd", "__MACOSX/1.2.3.mhd")
    assert find_scans(path) == [
        FoundScan("subset0_subset0_1.2.3", path, "subset0/1.2.3.mhd"),
        FoundScan("subset0_subset0_1.2.4", path, "subset0/1.2.4.mhd"),
    ]


def test_a_damaged_zip_is_a_scan_that_will_fail(tmp_path: Path) -> None:
    touch(tmp_path, "a.zip", "b.mha")
    assert names(tmp_path) == ["a", "b"]


def test_a_scan_in_a_zip_is_on_disk_for_the_block(tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", "x/1.2.mhd", "x/1.2.raw", "x/1.23.mhd", "y/1.2.raw")
    with on_disk(FoundScan("a", tmp_path / "a.zip", "x/1.2.mhd")) as path:
        copied = {file.name: file.read_text(encoding="utf-8") for file in path.parent.iterdir()}
        assert path.name == "1.2.mhd"
    assert copied == {"1.2.mhd": HEADER, "1.2.raw": "content of x/1.2.raw"}
    assert not path.exists()


def test_a_volume_in_a_zip_whose_data_lie_elsewhere_is_refused(tmp_path: Path) -> None:
    header = HEADER.replace("1.2.raw", "../s.raw")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("1.mhd", header)
    named = re.escape(f"{tmp_path}/a.zip/1.mhd: its data file is '../s.raw'")
    with pytest.raises(LunaError, match=named), on_disk(FoundScan("a", tmp_path / "a.zip", "1.mhd")):
        pass


def test_a_scan_in_no_zip_is_where_it_is(tmp_path: Path) -> None:
    with on_disk(FoundScan("a", tmp_path / "a.mha")) as path:
        assert path == tmp_path / "a.mha"


@pytest.mark.parametrize(("limit", "is_refused"), [(15, True), (16, False)])
def test_a_volume_in_a_zip_is_refused_where_it_alone_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, is_refused: bool
) -> None:
    """Each of the two has 16 bytes."""
    monkeypatch.setattr("p2ch_luna.io.unpack.MAX_BYTES", limit)
    pack(tmp_path / "a.zip", "1.nii", "2.nii")
    refused = pytest.raises(LunaError, match=r"a\.zip: .* unpacked; expected at most")
    with refused if is_refused else nullcontext(), on_disk(FoundScan("a", tmp_path / "a.zip", "1.nii")):
        pass


def test_a_volume_in_a_zip_that_leads_out_of_it_is_refused(tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", "C:\\evil.mhd", "b.mhd")
    with pytest.raises(LunaError, match="leads out"), on_disk(find_scans(tmp_path)[0]):
        pass


def test_a_member_that_leads_out_of_the_zip_is_no_scan(tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", "../../evil.mhd", "b.mhd", "c.mhd")
    assert names(tmp_path) == ["a_b", "a_c"]


@pytest.mark.slow
def test_a_thousand_scans_of_three_hundred_slices_are_found_in_seconds(tmp_path: Path) -> None:
    dicom(tmp_path / "0000", "0", "1.0000")
    content = (tmp_path / "0000" / "1.dcm").read_bytes()
    for patient in range(1000):
        folder = tmp_path / f"{patient:04}"
        folder.mkdir(exist_ok=True)
        (folder / "000.dcm").write_bytes(content.replace(b"1.0000", f"1.{patient:04}".encode()))
        for number in range(300):
            (folder / f"{number:03}.dcm").touch()
    start = time.perf_counter()
    found = find_scans(tmp_path)
    assert time.perf_counter() - start < 15
    assert len(found) == 1000
