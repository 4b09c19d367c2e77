"""The source series as DICOM SEG and SR need it: whose it is, and where its slices lie."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing
from p2ch_luna.io.dicom import CT_IMAGE, derived_uid
from p2ch_luna.report.schema import Report

if TYPE_CHECKING:
    from highdicom.base import SOPClass
    from pydicom import Dataset

MANUFACTURER = "p2ch-luna project"
DEVICE: dict[str, Any] = {  # of SEG and SR: the program that made them
    "manufacturer": MANUFACTURER,
    "manufacturer_model_name": "p2ch-luna",
    "software_versions": __version__,
    "device_serial_number": "none",
}
PATIENT_AND_STUDY = (  # what highdicom asks of a source, present or not
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
COPIED = (  # of every slice
    "Modality",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagePositionPatient",
    "PositionReferenceIndicator",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)


@dataclass(frozen=True, eq=False)
class Sources:
    """The slices of one series, by their headers.

    header: of the first file, without pixels; it says who the patient is: for SEG and SR, for nothing else.
    images: of every slice in the order given, what SEG and SR refer to; they do not say who the patient is.
    """

    header: Dataset
    images: tuple[Dataset, ...]

    @property
    def series_uid(self) -> str:
        """Of the source series."""
        return str(self.images[0].SeriesInstanceUID)

    @property
    def frame_of_reference_uid(self) -> str:
        """Of the coordinates: the source's own, or one made for it."""
        return str(self.images[0].FrameOfReferenceUID)

    def new_uid(self, report: Report, purpose: str) -> str:
        """A UID that is the same for the same series, program and findings."""
        findings = "".join(finding.model_dump_json() for finding in report.findings)
        return derived_uid(self.series_uid, f"{purpose} {report.software} {findings}")


def read_sources(dicom_files: Sequence[Path]) -> Sources:
    """Read the headers of single-frame slices of one series, ordered along col x row.

    What is missing and must be there is filled: empty, or made from the series' uid.
    Raises LunaError where a file cannot be read or the extra `dicom` is not installed.
    """
    if find_spec("highdicom") is None:
        raise LunaError('DICOM SEG and SR: highdicom is not installed; wanted pip install "p2ch-luna[dicom]"')
    with patient_kept_quiet():
        headers = [_header(path) for path in dicom_files]
        first = headers[0]
        first.StudyInstanceUID = _uid(first, "StudyInstanceUID", "study")
        step = _step_mm(headers)
        return Sources(first, tuple(_image(header, first, step) for header in headers))


@contextmanager
def patient_kept_quiet() -> Iterator[None]:
    """Within the block pydicom takes values as they are and quotes none: they may say who the patient is."""
    from pydicom import config

    with config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save(path: Path, dataset: SOPClass, sources: Sources) -> None:
    """Write a SEG or SR of the sources' patient and study, in UTF-8.

    Raises LunaError where it cannot be written.
    """
    with patient_kept_quiet(), replacing(path) as temporary:
        dataset.copy_patient_and_study_information(sources.header)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.save_as(temporary, enforce_file_format=True)


def _header(path: Path) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return dcmread(path, stop_before_pixels=True, force=True)
    except (OSError, InvalidDicomError) as error:
        raise LunaError(f"{path}: cannot be read; wanted the DICOM slice it was") from error


def _image(header: Dataset, first: Dataset, step: float) -> Dataset:
    """What a SEG or SR says of a slice; orientation and study are those of the first."""
    from pydicom import Dataset

    image = Dataset()
    image.SOPClassUID = header.get("SOPClassUID") or CT_IMAGE
    image.SOPInstanceUID = header.SOPInstanceUID
    image.StudyInstanceUID = first.StudyInstanceUID
    image.SeriesInstanceUID = first.SeriesInstanceUID
    image.FrameOfReferenceUID = _uid(first, "FrameOfReferenceUID", "frame of reference")
    image.ImageOrientationPatient = first.ImageOrientationPatient
    image.SpacingBetweenSlices = step
    image.SliceThickness = _thickness_mm(header) or step
    for keyword in COPIED:
        if keyword in header:
            image[keyword] = header[keyword]
    for keyword in PATIENT_AND_STUDY:
        setattr(image, keyword, None)
    return image


def _uid(header: Dataset, keyword: str, purpose: str) -> str:
    """The header's own, or one made from its series."""
    return str(header.get(keyword) or derived_uid(str(header.SeriesInstanceUID), purpose))


def _thickness_mm(header: Dataset) -> float | None:
    """None where it is not told, or is no number: that is no reason to go without results."""
    try:
        thickness = float(header.SliceThickness)
    except (AttributeError, TypeError, ValueError):
        return None
    return thickness if math.isfinite(thickness) else None


def _step_mm(headers: Sequence[Dataset]) -> float:
    """From slice to slice, to 1e-6 mm; the thickness, or 1, of a single slice."""
    if len(headers) == 1:
        return _thickness_mm(headers[0]) or 1.0
    ends = np.array([headers[k].ImagePositionPatient for k in (0, -1)], float)
    return round(float(np.linalg.norm(ends[1] - ends[0])) / (len(headers) - 1), 6)
