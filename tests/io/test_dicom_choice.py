"""Of several series in a folder the best CT is read, and each says why or why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io import read_ct
from p2ch_luna.io.dicom import CT_IMAGE, choose_series
from p2ch_luna.io.dicom_choice import Choice
from support.dicom_files import retag, small_ct, write_dicom

CORONAL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # rows run down the body, slices to the front


def add(folder: Path, uid: str, step: float = 2.5, n: int = 12, **tags: Any) -> None:
    """One more series, in a folder of its own."""
    write_dicom(folder / uid, small_ct(n, step, uid), **tags)


def remarks(choice: Choice) -> dict[str, str]:
    return {facts.series_uid: facts.remark for facts in choice.facts()}


def chosen(folder: Path) -> str:
    return choose_series(folder).found[0].series_uid


def test_a_series_alone_is_chosen(tmp_path: Path) -> None:
    add(tmp_path, "1.1")
    assert remarks(choose_series(tmp_path)) == {"1.1": "chosen: the only CT series that can be read"}


def test_thin_slices_are_chosen_before_thick_ones(tmp_path: Path) -> None:
    add(tmp_path, "1.1", 5, 12)
    add(tmp_path, "1.2", 1.25, 48)
    assert remarks(choose_series(tmp_path)) == {
        "1.2": "chosen: thinnest of 2 CT series",
        "1.1": "not chosen: 5 mm slices, the chosen has 1.25 mm",
    }


def test_thick_slices_that_overlap_count_as_thick(tmp_path: Path) -> None:
    add(tmp_path, "1.1", 1.5, 40, SliceThickness="5")
    add(tmp_path, "1.2", 2.5, 24)
    assert chosen(tmp_path) == "1.2"


def test_axial_slices_are_chosen_before_thinner_coronal_ones(tmp_path: Path) -> None:
    write_dicom(tmp_path / "coronal", small_ct(12, 1.25, "1.1", CORONAL))
    add(tmp_path, "1.2", 5)
    found = remarks(choose_series(tmp_path))
    assert found["1.1"] == "not chosen: coronal slices"
    assert found["1.2"] == "chosen: the axial one of 2 CT series"


def test_coronal_slices_are_read_where_there_are_no_others(tmp_path: Path) -> None:
    ct = small_ct(12, 1.25, "1.1", CORONAL)
    write_dicom(tmp_path / "coronal", ct)
    np.testing.assert_array_equal(read_ct(tmp_path).hu, ct.hu)


def test_images_as_reconstructed_are_chosen_before_derived_and_these_before_projections(
    tmp_path: Path,
) -> None:
    add(tmp_path, "1.1", 1.25, ImageType=["DERIVED", "SECONDARY", "AXIAL", "MIP"])
    add(tmp_path, "1.2", 1.25, ImageType=["DERIVED", "SECONDARY", "MPR"])
    add(tmp_path, "1.3", 2.5)
    found = remarks(choose_series(tmp_path))
    assert found["1.1"] == "not chosen: image type DERIVED SECONDARY AXIAL MIP"
    assert found["1.3"] == "chosen: the least derived of 3 CT series"
    for path in (tmp_path / "1.3").iterdir():
        path.unlink()
    assert chosen(tmp_path) == "1.2"


def test_a_short_series_is_not_chosen_though_its_slices_are_thinner(tmp_path: Path) -> None:
    add(tmp_path, "1.1", 1.25, 12)
    add(tmp_path, "1.2", 5, 40)
    assert remarks(choose_series(tmp_path))["1.1"] == "not chosen: 14 mm long, the chosen 195"


def test_a_chest_is_long_enough_beside_a_whole_body(tmp_path: Path) -> None:
    """242.5 mm are more than 0.8 of the 300 mm that are asked for; the body's 495 mm do not count in full."""
    add(tmp_path, "1.1", 5, 100)
    add(tmp_path, "1.2", 2.5, 98)
    assert chosen(tmp_path) == "1.2"


def test_a_head_is_not_chosen_before_a_chest(tmp_path: Path) -> None:
    add(tmp_path, "1.1", 1.25, 48, BodyPartExamined="HEAD")
    add(tmp_path, "1.2", 5, 12, BodyPartExamined="CHEST")
    assert remarks(choose_series(tmp_path))["1.1"] == "not chosen: of another body part, HEAD"


@pytest.mark.parametrize("part", ["CHESTABDOMEN", "CHESTABDPELVIS", "NECKCHEST", "THORAX SPINE", "COLLEGE"])
def test_a_body_part_with_the_chest_is_the_chest(tmp_path: Path, part: str) -> None:
    add(tmp_path, "1.1", 5, 12)
    add(tmp_path, "1.2", 1.25, 48, BodyPartExamined=part)
    assert chosen(tmp_path) == "1.2"


@pytest.mark.parametrize("part", ["LEG", "UPPER LEG", "HIP", "HIPS", "LEFT_HIP", "ABDOMENPELVIS"])
def test_a_body_part_without_the_chest_is_not_chosen(tmp_path: Path, part: str) -> None:
    add(tmp_path, "1.1", 5, 12)
    add(tmp_path, "1.2", 1.25, 48, BodyPartExamined=part)
    assert chosen(tmp_path) == "1.1"


def test_a_head_alone_is_read(tmp_path: Path) -> None:
    add(tmp_path, "1.1", BodyPartExamined="HEAD")
    assert read_ct(tmp_path).series_uid == "1.1"


@pytest.mark.parametrize(
    ("sharp", "soft"),
    [
        ("LUNG", "STANDARD"),
        ("BONEPLUS", "SOFT"),
        ("B70f", "B30f"),
        (["Br64d", "3"], ["Br40d", "3"]),
        ("Bl57d", ""),
        ("FC52", "FC18"),
        ("YC", "B"),
    ],
)
def test_a_soft_kernel_is_chosen_before_a_sharp_one(tmp_path: Path, sharp: Any, soft: Any) -> None:
    add(tmp_path, "1.1", 1.0, 8, ConvolutionKernel=sharp)
    add(tmp_path, "1.2", 1.25, 8, ConvolutionKernel=soft)
    assert chosen(tmp_path) == "1.2"


def test_a_sharp_kernel_of_thin_slices_is_chosen_before_a_soft_one_of_thick(tmp_path: Path) -> None:
    add(tmp_path, "1.1", 1.25, 40, ConvolutionKernel="LUNG")
    add(tmp_path, "1.2", 5, 10, ConvolutionKernel="STANDARD")
    assert chosen(tmp_path) == "1.1"


def test_of_equals_the_longer_then_the_first_by_number_is_chosen(tmp_path: Path) -> None:
    add(tmp_path, "1.1", SeriesNumber="5")
    add(tmp_path, "1.2", SeriesNumber="4")
    assert remarks(choose_series(tmp_path))["1.1"] == "not chosen: a later series alike"
    add(tmp_path, "1.3", n=13)
    assert remarks(choose_series(tmp_path))["1.2"] == "not chosen: 12 images, the chosen has 13"


def test_localizers_and_images_without_a_place_are_not_chosen(tmp_path: Path) -> None:
    add(tmp_path, "1.1", 1.25, 40, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    add(tmp_path, "1.2", 1.25, 40, ImagePositionPatient=None)
    add(tmp_path, "1.3", 5)
    found = remarks(choose_series(tmp_path))
    assert found["1.1"] == "not chosen: a localizer"
    assert found["1.2"] == "not chosen: images without a place in the patient"
    assert list(found) == ["1.3", "1.1", "1.2"]


def test_a_localizer_alone_is_refused(tmp_path: Path) -> None:
    add(tmp_path, "1.1", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(LunaError, match=r": a localizer; expected a CT series of slices"):
        choose_series(tmp_path)


def test_a_better_series_with_a_slice_missing_gives_way_with_a_warning(tmp_path: Path) -> None:
    add(tmp_path, "1.1", 1.25, 40)
    (tmp_path / "1.1" / "0005.dcm").unlink()
    add(tmp_path, "1.2", 5)
    choice = choose_series(tmp_path)
    missing = "slices missing: 1, at (-90.00, -80.00, -195.00)"
    assert remarks(choice)["1.1"] == f"not chosen: {missing}"
    assert choice.warnings == (f"series 1.1 of 39 images cannot be read: {missing}",)


def test_the_fault_of_the_largest_series_is_told_where_none_can_be_read(tmp_path: Path) -> None:
    add(tmp_path, "1.1", n=3)
    add(tmp_path, "1.2")
    (tmp_path / "1.2" / "0005.dcm").unlink()
    with pytest.raises(LunaError, match=r"slices missing: 1, at"):
        choose_series(tmp_path)


def test_a_damaged_slice_spoils_its_own_series_only(tmp_path: Path) -> None:
    add(tmp_path, "1.1", 1.25, 40)
    add(tmp_path, "1.2", 5)
    path = tmp_path / "1.1" / "0005.dcm"
    path.write_bytes(path.read_bytes()[:-60])
    found = remarks(choose_series(tmp_path))
    assert found["1.1"] == f"not chosen: {Path('1.1') / '0005.dcm'}: a CT image that cannot be read"
    assert choose_series(tmp_path).found[0].series_uid == "1.2"


def test_damaged_slices_of_no_other_series_are_told_of(tmp_path: Path) -> None:
    add(tmp_path, "1.1")
    add(tmp_path, "1.2", n=8)
    for path in sorted((tmp_path / "1.2").iterdir()):
        path.write_bytes(path.read_bytes()[:-60])
    assert choose_series(tmp_path).warnings == ("damaged CT images of another series, passed over: 8",)


def test_a_structured_report_that_refers_to_ct_images_is_no_damaged_one(tmp_path: Path) -> None:
    """As a dose report does, and our own SR of an earlier run."""
    add(tmp_path, "1.1")
    report = pydicom.Dataset()
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"
    report.SOPInstanceUID, report.SeriesInstanceUID, report.Modality = "1.5.1", "1.5", "SR"
    image = pydicom.Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = CT_IMAGE, "1.1.1"
    report.ReferencedInstanceSequence = [image]
    report.file_meta = pydicom.dataset.FileMetaDataset()
    report.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "dose.dcm", report, enforce_file_format=True)
    assert choose_series(tmp_path).warnings == ()


def test_a_series_that_is_asked_for_is_read(tmp_path: Path) -> None:
    add(tmp_path, "1.1", 5)
    add(tmp_path, "1.2", 1.25, 48)
    assert read_ct(tmp_path, "1.1").series_uid == "1.1"
    assert remarks(choose_series(tmp_path, "1.1")) == {
        "1.1": "chosen: it was asked for",
        "1.2": "not chosen: another was asked for",
    }


def test_a_series_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    add(tmp_path, "1.1", n=12)
    add(tmp_path, "1.2", n=13)
    with pytest.raises(LunaError, match=r"no series 1\.3; expected one of 1\.1 \(CT, 12\), 1\.2 \(CT, 13\)$"):
        read_ct(tmp_path, "1.3")


@pytest.mark.parametrize("modality", ["MR", "PT"])
def test_another_modality_is_refused(tmp_path: Path, modality: str) -> None:
    add(tmp_path, "1.1", Modality=modality)
    for uid in (None, "1.1"):
        with pytest.raises(LunaError, match=rf"images of modality {modality}; expected CT$"):
            read_ct(tmp_path, uid)


def test_two_patients_are_refused_without_a_word_of_who_they_are(tmp_path: Path) -> None:
    add(tmp_path, "1.1", PatientID="hidden1", PatientName="Hidden^One")
    add(tmp_path, "1.2", PatientID="hidden2", PatientName="Hidden^Two")
    with pytest.raises(LunaError) as caught:
        read_ct(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: CT images of 2 patients; expected one: "
        "name a series (--series UID) of 1.1 (CT, 12), 1.2 (CT, 12)"
    )


def test_of_two_patients_a_series_can_be_asked_for(tmp_path: Path) -> None:
    add(tmp_path, "1.1", PatientID="1")
    add(tmp_path, "1.2", PatientID="2")
    assert read_ct(tmp_path, "1.2").series_uid == "1.2"


def same_uid(folder: Path, n_second: int = 12) -> None:
    """Two patients whose slices an anonymiser gave one series uid, the second 30 mm above the first."""
    write_dicom(folder / "a", small_ct(12, 2.5, "1.5"), PatientID="hidden1")
    write_dicom(folder / "b", small_ct(n_second, 2.5, "1.5", start=-170.0), PatientID="hidden2")
    retag(folder / "b", SOPInstanceUID=lambda k: f"1.7.{k + 1}")


def test_two_patients_of_one_series_uid_never_become_one_stack(tmp_path: Path) -> None:
    same_uid(tmp_path)
    with pytest.raises(LunaError, match=r"series 1\.5 has images of 2 patients; expected one: put the files"):
        choose_series(tmp_path, "1.5")


def test_a_uid_that_patients_share_is_not_recommended(tmp_path: Path) -> None:
    same_uid(tmp_path)
    with pytest.raises(LunaError, match=r"of 2 patients; expected one: no series uid tells them apart$"):
        choose_series(tmp_path)
    add(tmp_path, "1.6", PatientID="hidden1")
    with pytest.raises(LunaError, match=r"name a series \(--series UID\) of 1\.6 \(CT, 12\)$"):
        choose_series(tmp_path)


def test_a_slice_of_another_patient_in_a_series_is_refused(tmp_path: Path) -> None:
    same_uid(tmp_path, 1)
    with pytest.raises(LunaError, match="CT images of 2 patients"):
        choose_series(tmp_path)


def test_one_name_written_in_two_ways_is_one_patient(tmp_path: Path) -> None:
    add(tmp_path, "1.1", PatientName="Doe^Jane")
    add(tmp_path, "1.2", PatientName="DOE JANE")
    assert len(choose_series(tmp_path).found) == 2


def test_two_studies_of_a_patient_are_told_of(tmp_path: Path) -> None:
    add(tmp_path, "1.1", StudyInstanceUID="1.8")
    add(tmp_path, "1.2", n=13, StudyInstanceUID="1.7")
    assert choose_series(tmp_path).warnings == ("CTs of 2 studies are there: 1.7 was read",)


def test_facts_are_those_of_the_headers(tmp_path: Path) -> None:
    add(
        tmp_path,
        "1.1",
        SeriesDescription="Thorax über",
        ConvolutionKernel=["Br40d", "3"],
        SpecificCharacterSet="ISO_IR 100",
    )
    (facts,) = choose_series(tmp_path).facts()
    assert (facts.study_uid, facts.modality, facts.description) == ("1.9", "CT", "Thorax über")
    assert (facts.images, facts.thickness_mm, facts.kernel) == (12, 2.5, "Br40d 3")


def test_a_header_that_says_little_gives_none_and_empty_texts(tmp_path: Path) -> None:
    add(tmp_path, "1.1")
    retag(tmp_path / "1.1", SliceThickness=None, StudyInstanceUID=None, ImageType=None, SeriesNumber=None)
    (facts,) = choose_series(tmp_path).facts()
    assert (facts.study_uid, facts.description, facts.thickness_mm, facts.kernel) == ("", "", None, "")
