"""LIDC-IDRI nodules as small crops: a table, a crop of HU and a consensus mask for each."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Point
from p2ch_luna.geometry import CtVolume
from p2ch_luna.io.checks import make_geometry
from p2ch_luna.io.names import itk_name
from p2ch_luna.io.whole import check_is_whole

COLUMNS = ("name", "patient_id", "seriesuid", "coordX", "coordY", "coordZ", "diameter_mm", "mean_malignancy")


@dataclass(frozen=True)
class LidcNodule:
    """One row of the table: a nodule and where its crop lies on disk."""

    name: str
    patient_id: str
    series_uid: str
    center_xyz: Point  # LUNA16's own centre, LPS mm
    diameter_mm: float
    malignancy: float | None  # mean of the readers, 1 (benign) to 5
    path: Path


@dataclass(frozen=True, eq=False)
class NoduleCrop:
    """The surroundings of one nodule and which of their voxels are the nodule."""

    name: str
    ct: CtVolume
    mask: NDArray[np.bool_]  # (D, H, W), as ct.hu
    diameter_mm: float
    malignancy: float | None

    @property
    def center_irc(self) -> NDArray[np.float64]:
        """(3,) centre of mass of the mask."""
        center: NDArray[np.float64] = np.argwhere(self.mask).mean(axis=0)
        return center


def read_lidc_nodules(folder: Path) -> list[LidcNodule]:
    """Read `nodules.csv`; the crops lie in `voi/` beside it. Nothing else is opened."""
    path = folder / "nodules.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise LunaError(f"{path}: no column {missing[0]!r}; found {reader.fieldnames}")
            return [_nodule(folder, row) for row in reader]
    except OSError as error:
        raise LunaError(f"{path}: {error.strerror}; wanted a table of LIDC nodules") from error
    except ValueError as error:
        raise LunaError(f"{path}, line {reader.line_num}: {error}; wanted a number") from error


def _nodule(folder: Path, row: Mapping[str, str]) -> LidcNodule:
    rating = row["mean_malignancy"]
    return LidcNodule(
        name=row["name"],
        patient_id=row["patient_id"],
        series_uid=row["seriesuid"],
        center_xyz=(float(row["coordX"]), float(row["coordY"]), float(row["coordZ"])),
        diameter_mm=float(row["diameter_mm"]),
        malignancy=float(rating) if rating else None,
        path=folder / "voi" / f"{row['name']}.nii.gz",
    )


def load_crop(nodule: LidcNodule) -> NoduleCrop:
    """Read the crop of a nodule and its mask."""
    return _read_pair(nodule.path, nodule.name, nodule.diameter_mm, nodule.malignancy)


def load_cube(path: Path) -> NoduleCrop:
    """Read a cube of 1 mm voxels with a nodule in its middle; its diameter is that of its mask's volume."""
    cube = _read_pair(path, path.name.removesuffix(".nii.gz"), 0.0, None)
    volume_mm3 = cube.mask.sum() * np.prod(cube.ct.geometry.spacing_xyz)
    diameter_mm = float(np.cbrt(6 * volume_mm3 / np.pi))
    return NoduleCrop(cube.name, cube.ct, cube.mask, diameter_mm, None)


def _read_pair(path: Path, name: str, diameter_mm: float, malignancy: float | None) -> NoduleCrop:
    image = _read_image(path)
    mask_path = path.with_name(f"{path.name.removesuffix('.nii.gz')}_mask.nii.gz")
    mask = sitk.GetArrayFromImage(_read_image(mask_path)) > 0
    hu = sitk.GetArrayFromImage(image).astype(np.int16, copy=False)
    if mask.shape != hu.shape:
        raise LunaError(f"{mask_path}: shape {mask.shape}; wanted that of {path.name}, {hu.shape}")
    if not mask.any():
        raise LunaError(f"{mask_path}: no voxel is set; wanted the nodule of {path.name}")
    geometry = make_geometry(path, image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    return NoduleCrop(name, CtVolume(name, hu, geometry), mask, diameter_mm, malignancy)


def _read_image(path: Path) -> sitk.Image:
    if not path.is_file():
        raise LunaError(f"{path}: no such file; wanted a nodule crop")
    try:
        check_is_whole(path, ".nii.gz")
        image = sitk.ReadImage(itk_name(path))
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise LunaError(f"{path}: cannot be read: {reason}; wanted a nodule crop") from error
    if image.GetDimension() != 3:
        raise LunaError(f"{path}: has {image.GetDimension()} dimensions; wanted a nodule crop of 3")
    return image
