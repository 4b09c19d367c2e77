"""What is known or claimed about places in a CT. Positions are LPS mm, lengths mm."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Nodule:
    """An annotated nodule: the truth."""

    series_uid: str
    center_xyz: Point
    diameter_mm: float
    malignancy: float | None = None  # mean of the readers' ratings, 1 (benign) to 5; None: not rated
    texture: float | None = None  # likewise, 1 (ground glass) to 5 (solid)


@dataclass(frozen=True)
class Candidate:
    """A place that the segmentation proposes."""

    series_uid: str
    center_xyz: Point
    probability: float  # highest nodule probability of the segmentation there
    volume_mm3: float
    diameter_mm: float  # of the sphere of that volume
    is_nodule: bool | None = None  # None: the truth is not known


@dataclass(frozen=True)
class Detection:
    """A candidate with the final score: a finding."""

    series_uid: str
    center_xyz: Point
    probability: float  # that it is a nodule, from both stages
    diameter_mm: float
    volume_mm3: float
    segmentation_probability: float
    classifier_probability: float
    malignancy_probability: float | None  # as a radiologist would suspect it, not pathology; None: not judged
