import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from p2ch_luna.errors import LunaError
from p2ch_luna.io.lidc import load_crop, load_cube, read_lidc_nodules


def test_the_table_reads_whole(shared_data: Path) -> None:
    nodules = read_lidc_nodules(shared_data / "lidc")
    assert len(nodules) == 809
    assert nodules[0].name == "LIDC-IDRI-0003_3"
    assert nodules[0].malignancy == 3.25
    assert nodules[0].center_xyz == (23.49083071, -47.63390567, -172.2791417)


def test_a_crop_lies_where_luna16_says_the_nodule_is(shared_data: Path) -> None:
    for nodule in read_lidc_nodules(shared_data / "lidc")[:20]:
        crop = load_crop(nodule)
        center_xyz = crop.ct.geometry.to_xyz(crop.center_irc)
        assert np.linalg.norm(center_xyz - nodule.center_xyz) < nodule.diameter_mm / 2


def test_a_cube_has_its_nodule_in_the_middle(shared_data: Path) -> None:
    cube = load_cube(shared_data / "lidc" / "cubes" / "13_nod1_ann0.nii.gz")
    assert cube.ct.hu.shape == (51, 51, 51)
    assert np.linalg.norm(cube.center_irc - 25) < 5


def test_a_cubes_diameter_is_that_of_its_masks_volume(shared_data: Path) -> None:
    cube = load_cube(shared_data / "lidc" / "cubes" / "13_nod1_ann0.nii.gz")
    assert np.pi / 6 * cube.diameter_mm**3 == pytest.approx(cube.mask.sum())  # voxels of 1 mm3


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "nodules.csv").write_text("name,patient\na,b\n")
    with pytest.raises(LunaError, match=r"nodules.csv: no column 'patient_id'; found"):
        read_lidc_nodules(tmp_path)


def test_text_in_a_number_names_the_line(tmp_path: Path) -> None:
    header = "name,patient_id,seriesuid,coordX,coordY,coordZ,diameter_mm,mean_malignancy\n"
    (tmp_path / "nodules.csv").write_text(header + "n,p,1.2,1,2,3,five,3\n")
    with pytest.raises(LunaError, match=r"nodules.csv, line 2: .*'five'; wanted a number"):
        read_lidc_nodules(tmp_path)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"nodules.csv: No such file"):
        read_lidc_nodules(tmp_path)


@pytest.fixture
def cube(shared_data: Path, tmp_path: Path) -> Path:
    """A copy of a real cube with its mask."""
    for name in ("13_nod1_ann0.nii.gz", "13_nod1_ann0_mask.nii.gz"):
        shutil.copy(shared_data / "lidc" / "cubes" / name, tmp_path / name)
    return tmp_path / "13_nod1_ann0.nii.gz"


def test_a_crop_cut_short_is_named(cube: Path) -> None:
    cube.write_bytes(cube.read_bytes()[:5000])
    with pytest.raises(LunaError, match=r"13_nod1_ann0.nii.gz: "):
        load_cube(cube)


def test_a_mask_that_is_no_image_is_named(cube: Path) -> None:
    mask = cube.with_name("13_nod1_ann0_mask.nii.gz")
    mask.write_text("not an image")
    with pytest.raises(LunaError, match=r"13_nod1_ann0_mask.nii.gz: "):
        load_cube(cube)


def test_an_image_that_itk_refuses_is_named(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise RuntimeError("Exception thrown\nITK ERROR: no")

    monkeypatch.setattr("SimpleITK.ReadImage", refuse)
    with pytest.raises(LunaError, match=r"ann0.nii.gz: cannot be read: ITK ERROR: no; wanted a nodule crop"):
        load_cube(cube)


def test_a_crop_of_two_dimensions_is_refused(cube: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((8, 9), np.int16)), str(cube))
    with pytest.raises(LunaError, match=r"13_nod1_ann0.nii.gz: has 2 dimensions; wanted a nodule crop of 3"):
        load_cube(cube)


def test_a_missing_crop_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"a.nii.gz: no such file; wanted a nodule crop"):
        load_cube(tmp_path / "a.nii.gz")
