"""The evaluation of submissions: a versioned schema. Positions are LPS mm, lengths mm.

Intervals are of 95 %; None where there is too little to tell one, as with a single scan.
"""

from __future__ import annotations

from p2ch_luna import __version__
from p2ch_luna.findings import Point
from p2ch_luna.frozen import Frozen

SCHEMA_VERSION = "1.0"  # the first number changes where an old reader would fail
RULES = "LUNA16: CPM, the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan"
Interval = tuple[float, float] | None


class Input(Frozen):
    """A file that was read."""

    role: str  # detections, truth, excluded or scans
    name: str  # without its folder
    sha256: str


class Settings(Frozen):
    """What can be chosen, and what the rules fix."""

    min_diameter_mm: float  # smaller nodules count as excluded findings
    seed: int  # of the scans drawn for the intervals
    resamples: int
    max_marks_per_scan: int
    group_fp_per_scan: float  # where the sensitivity of sizes, textures and malignancies is taken
    operating_fp_per_scan: float  # below the threshold of this rate a mark is filtered out


class FrocPoint(Frozen):
    """A point of the FROC curve."""

    fp_per_scan: float
    sensitivity: float
    sensitivity_95: Interval  # from drawing scans anew


class Group(Frozen):
    """Nodules of one kind, and how many of them are found.

    Found is what scores at least the threshold of all nodules' curve, the lowest with no more than
    `fp_per_scan` false positives: sensitivity is a whole count of the nodules, and the counts of groups add
    up. A point of the FROC curve lies between two thresholds where this is below it.
    """

    name: str
    nodules: int
    fp_per_scan: float
    sensitivity: float
    sensitivity_95: Interval  # Wilson's, which takes nodules as independent


class SizeGroup(Group):
    """Nodules of a band of diameters."""

    from_mm: float
    below_mm: float | None  # None: no limit


class Fate(Frozen):
    """A row of the confusion table: what became of the places of one kind.

    missed: no mark counts there; None for what is no nodule, which cannot be missed.    filtered_out: marked,
    but with less than the threshold of the operating point.    found: with that or more.
    """

    kind: str
    missed: int | None
    filtered_out: int
    found: int


class NoduleNotFound(Frozen):
    """A nodule that no mark hits, or only marks below the threshold of the operating point."""

    series_uid: str
    center_lps_mm: Point
    diameter_mm: float
    malignancy: float | None  # mean of the readers' ratings, 1 to 5
    texture: float | None
    probability: float | None  # of the best mark on it; None: no mark


class FalsePositive(Frozen):
    """A mark on no nodule and no excluded finding."""

    rank: int  # 1: the strongest
    series_uid: str
    center_lps_mm: Point
    probability: float


class Score(Frozen):
    """What one submission achieves."""

    name: str
    cpm: float
    cpm_95: Interval
    froc: tuple[FrocPoint, ...]  # the seven points of the CPM
    scans: int
    nodules: int
    found: int  # hit by a mark of any score
    missed: int
    false_positives: int
    threshold: float | None  # of the operating point; None: no mark counts there
    sizes: tuple[SizeGroup, ...]
    textures: tuple[Group, ...]  # empty where no nodule is rated
    malignancies: tuple[Group, ...]
    confusion: tuple[Fate, ...]
    missed_nodules: tuple[NoduleNotFound, ...]  # the largest first
    filtered_nodules: tuple[NoduleNotFound, ...]  # likewise
    strongest_false_positives: tuple[FalsePositive, ...]


class PointDifference(Frozen):
    """A submission's sensitivity minus the first one's."""

    fp_per_scan: float
    sensitivity: float
    sensitivity_95: Interval
    p: float | None


class Difference(Frozen):
    """A submission minus the first one, on the same scans drawn anew; p: two-sided, of no difference."""

    cpm: float
    cpm_95: Interval
    p: float | None
    froc: tuple[PointDifference, ...]


class Compared(Score):
    """A further submission."""

    difference: Difference


class Evaluation(Score):
    """All that is known of one submission, and of others beside it."""

    schema_version: str = SCHEMA_VERSION
    software: str = f"p2ch-luna {__version__}"
    rules: str = RULES
    inputs: tuple[Input, ...]
    settings: Settings
    warnings: tuple[str, ...]
    others: tuple[Compared, ...]

    @property
    def all_scores(self) -> tuple[Score, ...]:
        """Of every submission, in the order given."""
        return (self, *self.others)

    def to_json(self) -> str:
        """The text of `evaluation.json`."""
        return self.model_dump_json(indent=2) + "\n"
