"""What the name of a file says, and which files lie below a folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io import read_ct, write_ct, write_series
from p2ch_luna.io.names import files_below, is_scan, itk_name, printable, stem_of
from support.dicom_files import small_ct

K_LN = os.fsdecode(b"K\xf6ln")  # in Latin-1, as an old zip leaves it


@pytest.mark.parametrize("name", ["1.2.3.mhd", "CT.NII.GZ", "p1/a.nrrd", "unmasked.mha", "nodulesx.nii"])
def test_a_volume_counts_as_a_scan(name: str) -> None:
    assert is_scan(PurePosixPath(name))


@pytest.mark.parametrize(
    "name",
    [
        *("ct_mask.nii.gz", "seg.nii", "Labels.mha", "lung1-nodule.nrrd"),
        *("lungs.nii.gz", "nodules.nii.gz", "nodules.seg.dcm", "report.json", "a.raw"),
        *(".a.mha", "__MACOSX/a.mha", "seg-lungs-LUNA16/1.2.3.mhd"),
    ],
)
def test_masks_results_and_hidden_files_do_not(name: str) -> None:
    assert not is_scan(PurePosixPath(name))


def test_only_the_suffix_of_a_volume_goes() -> None:
    assert [stem_of(name) for name in ("1.2.3.mhd", "A.NII.GZ", "b.nii")] == ["1.2.3", "A", "b"]


def test_files_are_found_through_links_and_each_folder_once(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1").touch()
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "2").touch()
    (tmp_path / "p1" / "series").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "p1" / "twice").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "ring").symlink_to(tmp_path / "p1")
    (tmp_path / "p1" / "nowhere").symlink_to(tmp_path / "gone")
    found = [str(path.relative_to(tmp_path / "p1")) for path in files_below(tmp_path / "p1")]
    assert found == ["2", "series/1"]


def test_images_that_this_package_wrote_are_left_out(tmp_path: Path) -> None:
    for name in ("1.dcm", "nodules.seg.dcm", "nodules.sr.dcm", "lungs.nii.gz", "nodules.nii.gz"):
        (tmp_path / name).touch()
    assert [path.name for path in files_below(tmp_path)] == ["1.dcm"]


def test_a_name_that_is_not_utf8_is_refused_in_plain_characters() -> None:
    with pytest.raises(LunaError, match=r"^K\\xf6ln\.mha: its name is not UTF-8; expected another: "):
        itk_name(Path(f"{K_LN}.mha"))
    assert printable(Path("Köln") / K_LN) == r"Köln/K\xf6ln"


def test_a_volume_of_such_a_name_is_refused(tmp_path: Path) -> None:
    write_ct(tmp_path / "a.mha", small_ct())
    (tmp_path / "a.mha").rename(tmp_path / f"{K_LN}.mha")
    with pytest.raises(LunaError, match="its name is not UTF-8"):
        read_ct(tmp_path / f"{K_LN}.mha")


def test_dicom_in_a_folder_of_such_a_name_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "a", small_ct())
    (tmp_path / "a").rename(tmp_path / K_LN)
    with pytest.raises(LunaError, match="its name is not UTF-8"):
        read_ct(tmp_path / K_LN)


@pytest.mark.parametrize("name", ["a.mha", "a.nii.gz", "series"])
def test_nothing_is_written_under_such_a_name(tmp_path: Path, name: str) -> None:
    write = write_series if name == "series" else write_ct
    with pytest.raises(LunaError, match="its name is not UTF-8"):
        write(tmp_path / K_LN / name, small_ct())
    assert not (tmp_path / K_LN / name).exists()
