"""Small CTs as DICOM folders, with whatever their headers shall say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import ArrayLike
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import write_series

TAGS = {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "PatientID": "4711", "StudyInstanceUID": "1.9"}


def small_ct(
    n: int = 12,
    step: float = 2.5,
    uid: str = "1.2.3",
    direction: ArrayLike | None = None,
    start: float = -200.0,
) -> CtVolume:
    """n slices of 10 x 12 random HU, the first at (-90, -80, start)."""
    hu = np.random.default_rng(n).integers(-1000, 1000, (n, 10, 12)).astype(np.int16)
    axes = np.eye(3) if direction is None else np.asarray(direction, float)
    return CtVolume(uid, hu, ImageGeometry(np.array([-90.0, -80.0, start]), np.array([1.0, 1.0, step]), axes))


def write_dicom(folder: Path, ct: CtVolume | None = None, **tags: Any) -> Path:
    """Write a CT with these tags by keyword over `TAGS`: values, or functions of the index."""
    write_series(folder, ct or small_ct())
    retag(folder, **{**TAGS, **tags})
    return folder


def with_words_for_numbers(dataset: Dataset, *keywords: str) -> None:
    """Give these tags a name as their value, which pydicom alone would not set."""
    for keyword in keywords:
        tag, word = Tag(keyword), f"DOE^{keyword[:6].upper():<8}".encode()
        dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(word), word, 0, False, True)


def retag(folder: Path, **tags: Any) -> None:
    """Set tags of all files of a folder; None deletes one."""
    for k, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        for keyword, value in tags.items():
            told = value(k) if isinstance(value, Callable) else value  # type: ignore[arg-type]
            if told is None:
                dataset.pop(keyword, None)
            else:
                setattr(dataset, keyword, told)
        dataset.save_as(path)
