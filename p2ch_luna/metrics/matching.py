"""Which mark hits which nodule, by the rules of LUNA16's official script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule, Point

MAX_MARKS_PER_SCAN = 100
DIAMETER_MM_IF_NEGATIVE = 10.0  # LUNA16 writes -1 where nobody measured


class Scored(Protocol):
    """A place with a score: a `Detection`, or a row of a LUNA16 submission."""

    @property
    def series_uid(self) -> str:
        """DICOM Series Instance UID."""

    @property
    def center_xyz(self) -> Point:
        """LPS mm."""

    @property
    def probability(self) -> float:
        """The score; only the order of scores counts."""


class _InScan(Protocol):
    @property
    def series_uid(self) -> str: ...


Finding = TypeVar("Finding", bound=_InScan)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of every nodule and mark of a set of scans; all that a FROC curve needs.

    nodule_score: (N,) highest score among the marks that hit it; -inf: missed.
    nodule_diameter_mm: (N,) as used for the hits.    false_score: (F,) of the false positives.
    nodule_scan, false_scan: (N,), (F,) number of the scan in the list.
    """

    n_scans: int
    nodule_score: NDArray[np.float64]
    nodule_scan: NDArray[np.int64]
    nodule_diameter_mm: NDArray[np.float64]
    false_score: NDArray[np.float64]
    false_scan: NDArray[np.int64]

    def of_nodules(self, chosen: NDArray[np.bool_]) -> Outcome:
        """The same scans and false positives with only the `chosen` (N,) of the nodules in the truth."""
        return Outcome(
            self.n_scans,
            self.nodule_score[chosen],
            self.nodule_scan[chosen],
            self.nodule_diameter_mm[chosen],
            self.false_score,
            self.false_scan,
        )


def score_detections(
    nodules: Iterable[Nodule], excluded: Iterable[Nodule], scans: Sequence[str], detections: Iterable[Scored]
) -> Outcome:
    """Match the marks on each of the listed scans with its nodules and excluded findings.

    Nodules and excluded findings on other scans are left out: a list may be a part of the truth. Raises
    LunaError for a mark on a scan that is not listed, a scan listed twice, a score that is not a number.
    """
    marks = _by_scan(detections, scans)
    _check_scans(scans, marks)
    truth = _by_scan(nodules, scans)
    irrelevant = _by_scan(excluded, scans)
    per_scan = [_match(truth[uid], irrelevant[uid], marks[uid]) for uid in scans]
    nodule_score = [best for best, _ in per_scan]
    false_score = [rest for _, rest in per_scan]
    return Outcome(
        n_scans=len(scans),
        nodule_score=_joined(nodule_score),
        nodule_scan=_scan_numbers(nodule_score),
        nodule_diameter_mm=np.array([effective_diameter_mm(n) for uid in scans for n in truth[uid]], float),
        false_score=_joined(false_score),
        false_scan=_scan_numbers(false_score),
    )


def effective_diameter_mm(nodule: Nodule) -> float:
    """The diameter that decides on hits."""
    return DIAMETER_MM_IF_NEGATIVE if nodule.diameter_mm < 0 else nodule.diameter_mm


def hits(
    center_xyz: NDArray[np.float64], diameter_mm: NDArray[np.float64], mark_xyz: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(N, M): whether mark m lies inside sphere n; on its surface is no hit. Centres (N, 3), marks (M, 3)."""
    squared_mm2 = ((center_xyz[:, None] - mark_xyz[None]) ** 2).sum(axis=2)
    result: NDArray[np.bool_] = squared_mm2 < (diameter_mm[:, None] / 2) ** 2
    return result


def strongest(score: NDArray[np.float64], limit: int = MAX_MARKS_PER_SCAN) -> NDArray[np.bool_]:
    """(M,): which marks of a scan count. With more than `limit`: those above the next score after `limit`.

    Marks tied with that score all go, so `limit` + 1 equal scores leave none.
    """
    if len(score) <= limit:
        return np.ones(len(score), dtype=bool)
    next_score = np.sort(score)[::-1][limit]
    result: NDArray[np.bool_] = score > next_score
    return result


def _match(
    nodules: Sequence[Nodule], excluded: Sequence[Nodule], marks: Sequence[Scored]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One scan: each nodule's highest score (-inf: missed), and the scores of the false positives."""
    score = np.array([mark.probability for mark in marks], float)
    mark_xyz = np.array([mark.center_xyz for mark in marks], float).reshape(-1, 3)
    kept = strongest(score)
    score, mark_xyz = score[kept], mark_xyz[kept]
    is_hit = hits(*_spheres(nodules), mark_xyz)
    is_irrelevant = hits(*_spheres(excluded), mark_xyz).any(axis=0)
    best = np.where(is_hit, score, -np.inf).max(axis=1, initial=-np.inf)
    return best, score[~is_hit.any(axis=0) & ~is_irrelevant]


def _spheres(nodules: Sequence[Nodule]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 3) centres in LPS mm and (N,) diameters in mm."""
    center_xyz = np.array([nodule.center_xyz for nodule in nodules], float).reshape(-1, 3)
    return center_xyz, np.array([effective_diameter_mm(nodule) for nodule in nodules], float)


def _by_scan(findings: Iterable[Finding], scans: Iterable[str]) -> dict[str, list[Finding]]:
    """All findings by scan: every scan of the list is there, then those that findings name besides."""
    found: dict[str, list[Finding]] = {uid: [] for uid in scans}
    for finding in findings:
        found.setdefault(finding.series_uid, []).append(finding)
    return found


def _check_scans(scans: Sequence[str], marks: dict[str, list[Scored]]) -> None:
    if len(set(scans)) < len(scans):
        twice = next(uid for i, uid in enumerate(scans) if uid in scans[:i])
        raise LunaError(f"list of scans: {twice!r} is there more than once; expected each scan once")
    unlisted = list(marks)[len(scans) :]
    if unlisted:
        raise LunaError(
            f"detections: {len(unlisted)} scan(s), such as {unlisted[0]!r}, are not among the {len(scans)} "
            f"listed; expected ids just as in the list{_such_as(scans)}"
        )
    for uid in scans:
        for mark in marks[uid]:
            if not np.isfinite([mark.probability, *mark.center_xyz]).all():
                raise LunaError(
                    f"detections: {uid}: score {mark.probability} at {mark.center_xyz}; expected numbers"
                )


def _such_as(scans: Sequence[str]) -> str:
    return f", such as {scans[0]!r}" if scans else ""


def _joined(per_scan: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.empty(0), *per_scan])


def _scan_numbers(per_scan: Sequence[NDArray[np.float64]]) -> NDArray[np.int64]:
    """For each joined value, the number of its scan."""
    return np.repeat(np.arange(len(per_scan)), [len(values) for values in per_scan]).astype(np.int64)
