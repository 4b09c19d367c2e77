"""The same scan in every form that it may come in has the same findings."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.io import write_ct
from p2ch_luna.report.diagnose import diagnose
from p2ch_luna.report.schema import Finding

pytestmark = pytest.mark.slow

Turn = Callable[[np.ndarray], np.ndarray]  # of (N, 3) LPS mm, the patient's place to where the file puts it
FP_PER_SCAN = 8.0  # so that there are some findings
FEWEST = 3

TILT = np.array([[0.9, -0.3, 0.316], [0.36, 0.92, -0.155], [-0.245, 0.253, 0.936]])
OBLIQUE = np.linalg.qr(TILT)[0] * np.sign(np.diag(np.linalg.qr(TILT)[1]))  # about 23 degrees, right-handed


@pytest.fixture(scope="module")
def detector() -> NoduleDetector:
    return NoduleDetector.load()


@pytest.fixture(scope="module")
def from_dicom(detector: NoduleDetector, lidc_series: Path) -> tuple[Finding, ...]:
    found = diagnose(lidc_series, detector=detector, fp_per_scan=FP_PER_SCAN).findings
    assert len(found) >= FEWEST
    return found


def zipped(folder: Path, _ct: CtVolume, series: Path) -> Path:
    with zipfile.ZipFile(folder / "study.zip", "w") as archive:
        for path in sorted(series.rglob("*")):
            archive.write(path, Path("patient", path.relative_to(series)))
    return folder / "study.zip"


def as_file(suffix: str) -> Callable[[Path, CtVolume, Path], Path]:
    def write(folder: Path, ct: CtVolume, _series: Path) -> Path:
        write_ct(folder / f"scan{suffix}", ct)
        return folder / f"scan{suffix}"

    return write


def flipped(folder: Path, ct: CtVolume, series: Path) -> Path:
    """Columns run to the right, slices downwards; the patient lies where it lay."""
    g = ct.geometry
    last = [ct.hu.shape[0] - 1, 0, ct.hu.shape[2] - 1]
    turned = ImageGeometry(g.to_xyz(last), g.spacing_xyz, g.direction * [-1, 1, -1])
    return as_file(".nrrd")(folder, CtVolume(ct.series_uid, ct.hu[::-1, :, ::-1].copy(), turned), series)


def sagittal(folder: Path, ct: CtVolume, series: Path) -> Path:
    """Slices run to the left, columns to the back, rows upwards."""
    g = ct.geometry
    turned = ImageGeometry(g.origin_xyz, g.spacing_xyz[[1, 2, 0]], g.direction[:, [1, 2, 0]])
    hu = np.ascontiguousarray(ct.hu.transpose(2, 0, 1))
    return as_file(".nii.gz")(folder, CtVolume(ct.series_uid, hu, turned), series)


def oblique(folder: Path, ct: CtVolume, series: Path) -> Path:
    """The patient with all coordinates turned about the origin."""
    g = ct.geometry
    turned = ImageGeometry(OBLIQUE @ g.origin_xyz, g.spacing_xyz, OBLIQUE @ g.direction)
    return as_file(".mha")(folder, CtVolume(ct.series_uid, ct.hu, turned), series)


def resampled(ct: CtVolume, turn: np.ndarray) -> CtVolume:
    """The scan on a grid of the same spacing that is turned about its middle and holds all of it."""
    g = ct.geometry
    ends = np.array(list(product(*((0, n - 1) for n in ct.hu.shape))))
    middle_xyz, direction = g.to_xyz(ends).mean(0), turn @ g.direction
    wide_mm = np.ptp((g.to_xyz(ends) - middle_xyz) @ direction, axis=0)
    size = np.ceil(wide_mm / g.spacing_xyz).astype(int) + 1
    origin_xyz = middle_xyz - direction @ (g.spacing_xyz * (size - 1) / 2)
    image = sitk.GetImageFromArray(ct.hu)
    image.SetOrigin(g.origin_xyz)
    image.SetSpacing(g.spacing_xyz)
    image.SetDirection(g.direction.ravel())
    grid = (origin_xyz, g.spacing_xyz, direction.ravel())
    hu = sitk.Resample(image, size.tolist(), sitk.Transform(), sitk.sitkLinear, *grid, float(ct.hu.min()))
    return CtVolume(
        ct.series_uid, sitk.GetArrayFromImage(hu), ImageGeometry(origin_xyz, g.spacing_xyz, direction)
    )


def as_it_is(xyz: np.ndarray) -> np.ndarray:
    return xyz


def turned_back(xyz: np.ndarray) -> np.ndarray:
    return xyz @ OBLIQUE  # of an orthonormal matrix the transpose is the inverse


@pytest.mark.parametrize(
    ("write", "back"),
    [
        pytest.param(zipped, as_it_is, id="zip"),
        *(pytest.param(as_file(s), as_it_is, id=s) for s in (".mhd", ".nii.gz", ".nrrd")),
        pytest.param(flipped, as_it_is, id="flipped"),
        pytest.param(sagittal, as_it_is, id="sagittal"),
        pytest.param(oblique, turned_back, id="oblique"),
    ],
)
def test_it_has_the_findings_of_the_dicom_folder(
    write: Callable[[Path, CtVolume, Path], Path],
    back: Turn,
    detector: NoduleDetector,
    from_dicom: tuple[Finding, ...],
    lidc_ct: CtVolume,
    lidc_series: Path,
    tmp_path: Path,
) -> None:
    scan = write(tmp_path, lidc_ct, lidc_series)
    found = diagnose(scan, detector=detector, fp_per_scan=FP_PER_SCAN).findings
    assert len(found) == len(from_dicom)
    for one, other in zip(found, from_dicom, strict=True):
        assert math.dist(back(np.array(one.center_lps_mm)), other.center_lps_mm) < 0.5
        assert one.nodule_probability == pytest.approx(other.nodule_probability, abs=0.01)
        assert one.malignancy_probability == pytest.approx(other.malignancy_probability, abs=0.01)
        assert one.mean_diameter_mm == pytest.approx(other.mean_diameter_mm, abs=0.5)
        assert (one.texture, one.lung_rads) == (other.texture, other.lung_rads)


def test_an_oblique_grid_shows_the_tumour_where_it_is(
    detector: NoduleDetector, from_dicom: tuple[Finding, ...], lidc_ct: CtVolume, tmp_path: Path
) -> None:
    """The scan interpolated, so its outlines are softer: the same tumour, if not the same faint places."""
    turn = Rotation.from_euler("xyz", [10, 6, 10], degrees=True).as_matrix()
    ct = resampled(lidc_ct, turn)
    assert abs(ct.geometry.direction - np.eye(3)).max() > 0.1
    write_ct(tmp_path / "scan.mha", ct)
    first, *_ = diagnose(tmp_path / "scan.mha", detector=detector, fp_per_scan=FP_PER_SCAN).findings
    assert math.dist(first.center_lps_mm, from_dicom[0].center_lps_mm) < 0.5
    assert first.nodule_probability == pytest.approx(from_dicom[0].nodule_probability, abs=0.05)
    assert first.malignancy_probability == pytest.approx(from_dicom[0].malignancy_probability, abs=0.05)
    assert first.mean_diameter_mm == pytest.approx(from_dicom[0].mean_diameter_mm, abs=2)  # of 26.6 mm
    assert first.volume_mm3 == pytest.approx(from_dicom[0].volume_mm3, rel=0.05)
    assert (first.side, first.third, first.texture) == ("left", "middle", "solid")
