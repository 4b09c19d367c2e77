"""The report of one scan: a versioned schema. Positions are LPS mm, lengths mm, volumes mm^3."""

from __future__ import annotations

from typing import Literal, get_args

from p2ch_luna import __version__
from p2ch_luna.findings import Point
from p2ch_luna.frozen import Frozen
from p2ch_luna.inference.anatomy import Side, Third
from p2ch_luna.inference.lung_rads import LungRads
from p2ch_luna.inference.texture import Texture
from p2ch_luna.models.checkpoint import Calibration, OperatingPoint
from p2ch_luna.report import RESEARCH_ONLY

SCHEMA_VERSION = "3.0"  # the first number changes where an old reader would fail
SUSPICION = "radiologist suspicion, not pathology"  # what a probability of malignancy is
Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = get_args(Plane)


class Series(Frozen):
    """A DICOM series that was there to choose from; nothing in it says whose it is."""

    series_uid: str
    study_uid: str
    modality: str
    description: str  # as the scanner's operator wrote it
    images: int
    thickness_mm: float | None
    kernel: str  # of the reconstruction
    remark: str  # why it was chosen, or why not


class Scan(Frozen):
    """The CT as it was read."""

    name: str  # of the file or folder, without the path
    format: str  # "dicom", or the suffix of a volume file
    series_uid: str
    series: tuple[Series, ...]  # the one that was read, then the others; empty for a volume file
    shape_irc: tuple[int, int, int]  # slices, rows, columns
    spacing_xyz_mm: Point
    origin_xyz_mm: Point
    direction: tuple[Point, Point, Point]  # rows of the matrix; its columns step along col, row, index


class Finding(Frozen):
    """A detection that is likely enough to be looked at."""

    id: str  # "F1" is the first
    rank: int  # 1: the most probable
    center_lps_mm: Point
    voxel_irc: Point  # (index, row, col) in `Scan`'s grid, from 0, fractional
    slice_index: int  # the nearest slice, from 0
    slice_number: int  # the same as a viewer shows it: DICOM's instance number, else counted from 1
    label: int  # of its voxels in nodules.nii.gz
    tracking_uid: str  # in DICOM objects; the same for the same series and place
    side: Side | None  # None: the lungs do not tell
    third: Third | None  # of that lung's height
    is_cut_off: bool  # it touches an end of the scan: its sizes are lower bounds
    pleura_mm: float | None  # from the nodule's edge to the nearest edge of the lung; 0: it touches
    longest_mm: float  # in the axial slice where it is longest
    perpendicular_mm: float  # the longest across that, in the same slice
    mean_diameter_mm: float  # of these two, as Lung-RADS wants it
    longest_lps_mm: tuple[Point, Point]  # its ends
    perpendicular_lps_mm: tuple[Point, Point]
    diameter_mm: float  # of the sphere of that volume
    volume_mm3: float  # of the mask
    mean_hu: float
    texture: Texture
    solid_mm: float  # mean diameter of the solid part; 0: none
    lung_rads: LungRads  # size category of Lung-RADS v2022 at a first screening, a hint for research
    nodule_probability: float  # of both stages together
    segmentation_probability: float
    classifier_probability: float
    malignancy_probability: float | None  # see `Report.malignancy_is`; None: not judged
    malignancy_by_diameter: float  # the same said by the diameter alone, to compare
    images: dict[Plane, str]  # file names of its key images


class Rejected(Frozen):
    """A candidate that is not reported, and why."""

    center_lps_mm: Point
    diameter_mm: float
    nodule_probability: float | None  # None: only the segmentation saw it, it was not judged
    segmentation_probability: float
    reason: str


class Model(Frozen):
    """A network that took part; its card, which `luna card` shows, has the training and the figures."""

    stage: str
    builder: str  # the network's name in `models.build.BUILDERS`
    weights_sha256: str  # by which its card is found
    software: str  # that trained it
    intended_use: str
    data: tuple[str, ...]  # what it was trained on, with the licences
    calibration: Calibration | None  # of a classifier; None: not calibrated


class Settings(Frozen):
    """What can be chosen, as it was."""

    finding_threshold: float  # nodule probability
    operating_point: OperatingPoint | None  # where it comes from; None: the classifier is not calibrated
    proposal_threshold: float
    mask_threshold: float  # of a candidate's core
    outline_share: float  # of a candidate's highest probability, from which on voxels are in its mask
    max_candidates: int


class Report(Frozen):
    """All that is known of one scan."""

    schema_version: str = SCHEMA_VERSION
    software: str = f"p2ch-luna {__version__}"
    statement: str = RESEARCH_ONLY
    malignancy_is: str = SUSPICION
    scan: Scan
    is_searched: bool  # false: no lungs were found, so nothing was looked at and no finding says nothing
    findings: tuple[Finding, ...]  # the most probable first
    rejected: tuple[Rejected, ...]  # likewise; then those that were not judged
    warnings: tuple[str, ...]
    models: tuple[Model, ...]
    settings: Settings
    files: tuple[str, ...]  # beside this report, made with it
    timings_s: dict[str, float]

    @property
    def count(self) -> str:
        """How many findings, in words."""
        if not self.is_searched:
            return "not searched"
        n = len(self.findings)
        return f"{n} finding" + ("s" if n != 1 else "")

    def to_json(self) -> str:
        """The text of `report.json`."""
        return self.model_dump_json(indent=2) + "\n"
