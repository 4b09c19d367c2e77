"""The comparison of two scans of a patient: a versioned schema. Positions are LPS mm, lengths mm."""

from __future__ import annotations

from typing import Literal

from p2ch_luna import __version__
from p2ch_luna.findings import Point
from p2ch_luna.frozen import Frozen
from p2ch_luna.inference.anatomy import Side, Third
from p2ch_luna.inference.texture import Texture
from p2ch_luna.report import RESEARCH_ONLY

SCHEMA_VERSION = "1.0"  # the first number changes where an old reader would fail
Status = Literal["matched", "new", "vanished", "not covered", "not judged"]  # see `Compared.status`
Verdict = Literal["growing", "larger", "stable", "smaller", "unclear"]


class ComparedScan(Frozen):
    """One of the two scans."""

    name: str
    series_uid: str
    findings: int


class Sight(Frozen):
    """A nodule as one of the scans shows it: what its report says."""

    id: str
    center_lps_mm: Point
    slice_number: int
    side: Side | None
    third: Third | None
    mean_diameter_mm: float
    volume_mm3: float
    solid_mm: float
    texture: Texture
    nodule_probability: float


class Growth(Frozen):
    """What has changed from the earlier scan to the later, in mm or mm^3 and in per cent."""

    diameter_mm: float  # of the mean diameter
    diameter_percent: float
    volume_mm3: float
    volume_percent: float
    doubling_days: float | None  # of the volume; None: neither growing nor larger, or the time is not known
    verdict: Verdict  # by `Comparison.rules`


class Compared(Frozen):
    """A nodule of either scan."""

    status: Status  # not covered: outside the other scan; not judged: alone, and the lungs do not agree
    prior: Sight | None
    current: Sight | None
    expected_lps_mm: Point  # in the later scan, where the earlier place should be; in the earlier one if new
    distance_mm: float | None  # from there to where it is
    growth: Growth | None  # of matched ones, where the lungs agree
    remark: str  # such as that the other scan shows something there that is no finding; "" if there is none


class Registration(Frozen):
    """How the lungs of the earlier scan were laid over those of the later: `rotation @ xyz + shift`."""

    rotation: tuple[Point, Point, Point]  # rows
    shift_lps_mm: Point
    turned_degrees: float  # about one axis, in all
    overlap: float  # Dice of the lungs, where both scans show them
    correlation: float  # of HU there
    surface_mm: float | None  # median distance between the lungs' surfaces; None: no surface is in both


class Comparison(Frozen):
    """All that is known of what changed."""

    schema_version: str = SCHEMA_VERSION
    software: str = f"p2ch-luna {__version__}"
    statement: str = RESEARCH_ONLY
    prior: ComparedScan
    current: ComparedScan
    days: int | None  # from the earlier scan to the later; None: not known
    registration: Registration
    nodules: tuple[Compared, ...]  # matched ones by their growth, then by status in the order of `Status`
    rules: tuple[str, ...]  # what decides on pairs and verdicts
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        """The text of `comparison.json`."""
        return self.model_dump_json(indent=2) + "\n"
