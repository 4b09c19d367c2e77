"""The figures of a benchmark on implanted nodules, as a versioned schema, and its tables."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2ch_luna import __version__
from p2ch_luna.datasets.benchmark import Implanted
from p2ch_luna.files import replacing
from p2ch_luna.frozen import Frozen
from p2ch_luna.io.tables import UID, XYZ, write_detections, write_nodules
from p2ch_luna.metrics.froc import CPM_FP_PER_SCAN, bootstrap, froc
from p2ch_luna.metrics.matching import Outcome, score_detections
from p2ch_luna.report import RESEARCH_ONLY
from p2ch_luna.report.benchmark.parts import Part
from p2ch_luna.report.benchmark.stages import Stages, stages_of
from p2ch_luna.report.evaluation.schema import FrocPoint, Interval
from p2ch_luna.report.evaluation.scores import (
    SIZES_MM,
    TEXTURES,
    froc_points,
    texture_of,
    threshold_at,
    wilson,
)

SCHEMA_VERSION = "1.1"  # the first number changes where an old reader would fail
RATES = (1.0, 4.0)  # false positives per scan at which groups are compared
NOT_KNOWN = "not known"
NODULE_COLUMNS = (
    UID, *XYZ, "diameter_mm", "texture", "malignancy", "contrast_hu", "pleura_mm", "probability", "origin",
)  # fmt: skip


class HostInput(Frozen):
    """A scan that nodules were set in."""

    name: str  # of the file or folder, without the path
    series_uid: str
    sha256: str  # of its voxels and where they lie
    known: int  # findings of its own, which count neither as nodules nor as false


class Inputs(Frozen):
    """What was measured, and on what."""

    hosts: tuple[HostInput, ...]
    pool: int  # LIDC nodules that could be drawn
    pool_sha256: str
    models: dict[str, str]  # SHA-256 of the weights by stage
    calibration: str = ""  # SHA-256 of what joined both stages' logits; "": their mean


class Settings(Frozen):
    """What can be chosen, as it was."""

    copies: int
    count: int
    folds: tuple[int, ...]
    min_diameter_mm: float
    max_diameter_mm: float
    seed: int
    device: str


class Share(Frozen):
    """How many of a group are found by the lowest threshold with at most so many false positives a scan.

    The FROC curve goes on to the next threshold in a straight line: its sensitivity may be a little higher.
    """

    fp_per_scan: float
    found: int
    sensitivity: float
    sensitivity_95: tuple[float, float]  # Wilson's, which takes nodules as independent


class Group(Frozen):
    """Nodules that have something in common."""

    name: str
    nodules: int
    at: tuple[Share, ...]  # in the order of RATES


class Figures(Frozen):
    """LUNA16's score, and sensitivity of the nodules that are alike. Groups without a nodule are left out."""

    cpm: float
    cpm_95: Interval  # of hosts drawn with all their copies, as those of `froc`; None: fewer than two hosts
    froc: tuple[FrocPoint, ...]  # the seven points of the CPM
    scans: int
    nodules: int
    distinct_nodules: int  # of LIDC: one that is set into several scans counts once
    found: int  # by any mark
    false_positives: int  # of any score
    groups: dict[str, tuple[Group, ...]]  # diameter, texture, contrast, pleura, host
    stages: Stages


class BenchmarkReport(Frozen):
    """All that `luna benchmark` tells."""

    schema_version: str = SCHEMA_VERSION
    software: str = f"p2ch-luna {__version__}"
    statement: str = RESEARCH_ONLY
    inputs: Inputs
    settings: Settings
    figures: Figures
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        """The text of `benchmark.json`."""
        return self.model_dump_json(indent=2) + "\n"


class Scale(NamedTuple):
    """How nodules are cut into groups by one property; `group_of` gives one of `names`, None: not known."""

    names: tuple[str, ...]
    group_of: Callable[[Implanted], str | None]


def _bands(value: Callable[[Implanted], float | None], edges: Sequence[float], unit: str) -> Scale:
    """What lies below, between and above the edges; a value on an edge is above it."""
    middle = (f"{low:g}-{high:g} {unit}" for low, high in pairwise(edges))
    names = (f"below {edges[0]:g} {unit}", *middle, f"from {edges[-1]:g} {unit}")

    def group_of(one: Implanted) -> str | None:
        found = value(one)
        return None if found is None else names[int(np.searchsorted(edges, found, "right"))]

    return Scale(names, group_of)


SCALES = {
    "diameter": _bands(lambda one: one.nodule.diameter_mm, SIZES_MM[1:-1], "mm"),
    "texture": Scale(TEXTURES, lambda one: texture_of(one.nodule.texture)),
    "contrast": _bands(lambda one: one.contrast_hu, (200, 400, 600, 800), "HU"),
    "pleura": _bands(lambda one: one.pleura_mm, (10, 20, 30), "mm"),
}


def too_few_hosts(hosts: int, told: str, wanted: int) -> str:
    """A warning of what comes of so few."""
    return f"{hosts} host(s): {told}; wanted {wanted} or more, and further copies are no further hosts"


class Scored(NamedTuple):
    """All scans together: the nodules in their order, and LUNA16's score of the marks."""

    implanted: list[Implanted]
    hosts: list[str]  # of each nodule
    host_of_scan: list[str]
    score: NDArray[np.float64]  # (N,) of its best mark; -inf: missed
    found: dict[float, NDArray[np.bool_]]  # (N,) at each of RATES
    outcome: Outcome
    stages: Stages


def outcome_of(parts: Sequence[Part]) -> Outcome:
    """Match the marks of all implanted scans with their nodules, by LUNA16's rules.

    Nodules and marks are numbered in the order of the parts.
    """
    return score_detections(
        [one.nodule for part in parts for one in part.implanted],
        [nodule for part in parts for nodule in part.excluded],
        [part.series_uid for part in parts],
        [mark for part in parts for mark in part.detections],
    )


def nodule_scores(outcome: Outcome) -> NDArray[np.float64]:
    """(N,) of the best mark of each nodule, in the order in which they were given; -inf: missed."""
    return outcome.nodule_score[np.argsort(outcome.nodule_index)]


def score_parts(parts: Sequence[Part]) -> Scored:
    """Score the marks of all implanted scans by LUNA16's rules. Raises LunaError if there is no nodule."""
    outcome = outcome_of(parts)
    curve, score = froc(outcome), nodule_scores(outcome)
    return Scored(
        [one for part in parts for one in part.implanted],
        [part.host for part in parts for _ in part.implanted],
        [part.host for part in parts],
        score,
        {rate: score >= threshold_at(curve, rate) for rate in RATES},
        outcome,
        stages_of(parts),
    )


def figures_of(scored: Scored, rng: np.random.Generator) -> Figures:
    """The score with the bounds of hosts drawn by `rng`, and the sensitivity of each group.

    A host is drawn with all its copies: more of them do not say more of how other hosts would do.
    """
    outcome = scored.outcome
    curve, band = froc(outcome), bootstrap(outcome, rng, groups=scored.host_of_scan)
    cpm_95 = float(band.cpm.low), float(band.cpm.high)
    return Figures(
        cpm=curve.cpm,
        cpm_95=cpm_95 if np.isfinite(cpm_95).all() else None,
        froc=froc_points(curve.at(CPM_FP_PER_SCAN), band.at(CPM_FP_PER_SCAN)),
        scans=outcome.n_scans,
        nodules=len(scored.implanted),
        distinct_nodules=len({one.name for one in scored.implanted}),
        found=int(np.isfinite(scored.score).sum()),
        false_positives=len(outcome.false_score),
        groups=_groups(scored),
        stages=scored.stages,
    )


def _groups(scored: Scored) -> dict[str, tuple[Group, ...]]:
    """By each of SCALES, and by host."""
    groups = {
        scale: _counted(scored, [how.group_of(one) for one in scored.implanted], how.names)
        for scale, how in SCALES.items()
    }
    return {**groups, "host": _counted(scored, scored.hosts, tuple(dict.fromkeys(scored.hosts)))}


def _counted(scored: Scored, group_of: Sequence[str | None], names: Sequence[str]) -> tuple[Group, ...]:
    """The groups that have a nodule, in the order of `names`; last those whose group is not known."""
    members = {
        name or NOT_KNOWN: np.array([own == name for own in group_of], bool) for name in (*names, None)
    }
    return tuple(
        Group(
            name=name,
            nodules=int(of_group.sum()),
            at=tuple(
                share_of(rate, int(found[of_group].sum()), int(of_group.sum()))
                for rate, found in scored.found.items()
            ),
        )
        for name, of_group in members.items()
        if of_group.any()
    )


def share_of(rate: float, found: int, of: int) -> Share:
    """So many found of `of` > 0 nodules at a rate of false positives."""
    return Share(fp_per_scan=rate, found=found, sensitivity=found / of, sensitivity_95=wilson(found / of, of))


def write_tables(folder: Path, parts: Sequence[Part], scored: Scored) -> None:
    """Write the lists that `luna evaluate` scores, and nodules.csv."""
    write_detections(folder / "detections.csv", [mark for part in parts for mark in part.detections])
    write_nodules(folder / "annotations.csv", [one.nodule for one in scored.implanted])
    excluded = [nodule for part in parts for nodule in part.excluded]
    write_nodules(folder / "annotations_excluded.csv", excluded)
    _write_rows(folder / "seriesuids.csv", [(UID,), *((part.series_uid,) for part in parts)])
    pairs = zip(scored.implanted, scored.score.tolist(), strict=True)
    _write_rows(folder / "nodules.csv", [NODULE_COLUMNS, *(_nodule_row(*pair) for pair in pairs)])


def _nodule_row(one: Implanted, score: float) -> tuple[str | float | None, ...]:
    nodule = one.nodule
    return (
        nodule.series_uid, *nodule.center_xyz, nodule.diameter_mm, nodule.texture, nodule.malignancy,
        one.contrast_hu, one.pleura_mm, score if np.isfinite(score) else None, one.name,
    )  # fmt: skip


def _write_rows(path: Path, rows: Sequence[Sequence[str | float | None]]) -> None:
    """None becomes an empty cell."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
