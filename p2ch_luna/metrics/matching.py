"""Which mark hits which nodule, by the rules of LUNA16's official script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

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


class _Placed(Protocol):
    @property
    def series_uid(self) -> str: ...

    @property
    def center_xyz(self) -> Point: ...


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of every nodule and mark of a set of scans; all that a FROC curve needs.

    nodule_score: (N,) highest score among the marks that hit it; -inf: missed.
    nodule_diameter_mm: (N,) as used for the hits.    false_score: (F,) of the false positives.
    nodule_scan, false_scan: (N,), (F,) number of the scan in the list.
    nodule_index: (N,) number of the nodule in the list given, which may have more of them.
    nodule_mark, false_mark: (N,), (F,) number of the mark in the list of detections; a nodule has the mark of
    its score, the first of equals, and -1 if it is missed.
    """

    n_scans: int
    nodule_score: NDArray[np.float64]
    nodule_scan: NDArray[np.int64]
    nodule_diameter_mm: NDArray[np.float64]
    false_score: NDArray[np.float64]
    false_scan: NDArray[np.int64]
    nodule_index: NDArray[np.int64]
    nodule_mark: NDArray[np.int64]
    false_mark: NDArray[np.int64]


def score_detections(
    nodules: Iterable[Nodule], excluded: Iterable[Nodule], scans: Sequence[str], detections: Iterable[Scored]
) -> Outcome:
    """Match the marks on each of the listed scans with its nodules and excluded findings.

    Nodules and excluded findings on other scans are left out: a list may be a part of the truth. Raises
    LunaError for a mark on a scan that is not listed, a scan listed twice, and a score, a place or a diameter
    that is not a finite number. Without detections every nodule is missed.
    """
    _check_scans(scans)
    listed, marks = list(nodules), list(detections)
    _check_listed(marks, scans)
    truth = _Places.of_nodules("nodules", listed, scans)
    irrelevant = _Places.of_nodules("excluded findings", list(excluded), scans)
    found = _Places.of("detections", "score", marks, [mark.probability for mark in marks], scans)
    per_scan = [_match(truth.on(i), irrelevant.on(i), found.on(i)) for i in range(len(scans))]
    nodule_mark = _joined([best for best, _ in per_scan])
    false_mark = _joined([false for _, false in per_scan])
    return Outcome(
        n_scans=len(scans),
        nodule_score=np.where(nodule_mark < 0, -np.inf, np.append(found.value, 0.0)[nodule_mark]),
        nodule_scan=truth.scan[truth.index],
        nodule_diameter_mm=truth.value[truth.index],
        false_score=found.value[false_mark],
        false_scan=found.scan[false_mark],
        nodule_index=truth.index,
        nodule_mark=nodule_mark,
        false_mark=false_mark,
    )


def effective_diameter_mm(nodule: Nodule) -> float:
    """The diameter that decides on hits."""
    return DIAMETER_MM_IF_NEGATIVE if nodule.diameter_mm < 0 else nodule.diameter_mm


def hits(
    center_xyz: NDArray[np.float64], diameter_mm: NDArray[np.float64], mark_xyz: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(N, M): whether mark m lies inside sphere n; on its surface is no hit. Centres (N, 3), marks (M, 3)."""
    with np.errstate(over="ignore"):  # a mark at 1e300 mm is farther than any nodule
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


@dataclass(frozen=True, eq=False)
class _InScan:
    """Places on one scan.

    index: (M,) number of each in the list given.    center_xyz: (M, 3) LPS mm.
    value: (M,) score of a mark, diameter of a sphere in mm.
    """

    index: NDArray[np.int64]
    center_xyz: NDArray[np.float64]
    value: NDArray[np.float64]

    def chosen(self, which: NDArray[np.bool_]) -> _InScan:
        return _InScan(self.index[which], self.center_xyz[which], self.value[which])


@dataclass(frozen=True, eq=False)
class _Places:
    """A list of M findings as arrays, and which of them lie on each of S scans.

    scan: (M,) number of the scan, -1: not listed.    center_xyz, value: as in `_InScan`.
    index: (L,) those on listed scans, ordered by scan and then as given.    start: (S + 1,) of scans in it.
    """

    scan: NDArray[np.int64]
    center_xyz: NDArray[np.float64]
    value: NDArray[np.float64]
    index: NDArray[np.int64]
    start: NDArray[np.int64]

    @classmethod
    def of(
        cls, kind: str, name: str, findings: Sequence[_Placed], value: Sequence[float], scans: Sequence[str]
    ) -> _Places:
        """`kind` and `name` say in an error what the findings are and what their value is."""
        numbers = {uid: number for number, uid in enumerate(scans)}
        scan = np.array([numbers.get(finding.series_uid, -1) for finding in findings], np.int64)
        center_xyz = np.array([finding.center_xyz for finding in findings], float).reshape(-1, 3)
        values = np.array(value, float)
        strange = np.flatnonzero(~np.isfinite(np.column_stack([center_xyz, values])).all(axis=1))
        if len(strange):
            first = findings[strange[0]]
            raise LunaError(
                f"{kind}: {first.series_uid}: {name} {value[strange[0]]} at {first.center_xyz}; "
                "expected finite numbers"
            )
        index = np.argsort(scan, kind="stable")
        index = index[scan[index] >= 0]
        return cls(scan, center_xyz, values, index, np.searchsorted(scan[index], np.arange(len(scans) + 1)))

    @classmethod
    def of_nodules(cls, kind: str, nodules: Sequence[Nodule], scans: Sequence[str]) -> _Places:
        """Spheres of the diameters that decide on hits."""
        return cls.of(kind, "diameter", nodules, [effective_diameter_mm(nodule) for nodule in nodules], scans)

    def on(self, scan: int) -> _InScan:
        """Those on a scan, given by its number."""
        index = self.index[self.start[scan] : self.start[scan + 1]]
        return _InScan(index, self.center_xyz[index], self.value[index])


def _match(
    nodules: _InScan, excluded: _InScan, marks: _InScan
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One scan: the number of each nodule's best mark (-1: missed), and those of the false positives."""
    marks = marks.chosen(strongest(marks.value))
    is_hit = hits(nodules.center_xyz, nodules.value, marks.center_xyz)
    is_irrelevant = hits(excluded.center_xyz, excluded.value, marks.center_xyz).any(axis=0)
    nothing = np.full((len(is_hit), 1), -np.inf)  # wins where no mark hits, as the first of equals
    best = np.hstack([nothing, np.where(is_hit, marks.value, -np.inf)]).argmax(axis=1)
    return np.append(-1, marks.index)[best], marks.index[~is_hit.any(axis=0) & ~is_irrelevant]


def _check_scans(scans: Sequence[str]) -> None:
    if len(set(scans)) < len(scans):
        twice = next(uid for uid, times in Counter(scans).items() if times > 1)
        raise LunaError(f"list of scans: {twice!r} is there more than once; expected each scan once")


def _check_listed(marks: Sequence[Scored], scans: Sequence[str]) -> None:
    listed = set(scans)
    unlisted = list(dict.fromkeys(mark.series_uid for mark in marks if mark.series_uid not in listed))
    if unlisted:
        such_as = f", such as {scans[0]!r}" if scans else ""
        raise LunaError(
            f"detections: {len(unlisted)} scan(s), such as {unlisted[0]!r}, are not among the {len(scans)} "
            f"listed; expected ids just as in the list{such_as}"
        )


def _joined(per_scan: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *per_scan])
