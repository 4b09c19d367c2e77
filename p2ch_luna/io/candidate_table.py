"""Candidates by the hundred thousand, as columns: LUNA16's `candidates_V2.csv`, or what `luna mine` found.

LUNA16's table has 754,975 rows. As objects they would take 500 MB, in every process.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p2ch_luna.io.tables import UID, XYZ, candidate_rows
from p2ch_luna.io.zipped import open_binary

CLASS = "class"


@dataclass(frozen=True, eq=False)
class CandidateTable:
    """Places and what they are: row k lies in the series `series_uids[series[k]]`."""

    series_uids: tuple[str, ...]
    series: NDArray[np.int32]  # (N,)
    center_xyz: NDArray[np.float64]  # (N, 3) LPS mm
    is_nodule: NDArray[np.bool_]  # (N,)

    def __len__(self) -> int:
        return len(self.series)

    def of_series(self, wanted: Collection[str]) -> CandidateTable:
        """The rows of these series."""
        numbers = [k for k, uid in enumerate(self.series_uids) if uid in wanted]
        return self._rows(np.isin(self.series, numbers))

    def of_class(self, is_nodule: bool) -> CandidateTable:
        """The nodules, or the rest."""
        return self._rows(self.is_nodule == is_nodule)

    def _rows(self, mask: NDArray[np.bool_]) -> CandidateTable:
        return CandidateTable(
            self.series_uids, self.series[mask], self.center_xyz[mask], self.is_nodule[mask]
        )


def read_candidate_table(path: Path) -> CandidateTable:
    """Read the columns seriesuid, coordX, coordY, coordZ, class; others are passed over.

    Rows with an empty class, places of which nobody knows, are left out. Raises LunaError, which names
    line and column, for anything that is no table of candidates.
    """
    try:
        table = _read(path)
    except (OSError, ValueError):  # told below, with line and column
        return _from_rows(path)
    if not _is_sound(table):
        return _from_rows(path)
    return _as_columns(table[UID], table[list(XYZ)].to_numpy(np.float64), table[CLASS].to_numpy() == "1")


def _read(path: Path) -> pd.DataFrame:
    types = {UID: "str", **dict.fromkeys(XYZ, np.float64), CLASS: "str"}
    options = {"skipinitialspace": True, "encoding": "utf-8-sig", "keep_default_na": False}
    with open_binary(path) as file:
        return pd.read_csv(file, usecols=list(types), dtype=types, **options)  # type: ignore[call-overload, no-any-return]


def _is_sound(table: pd.DataFrame) -> bool:
    """Whether all ids are such as no spreadsheet made, all places finite, all classes 0 or 1.

    What is not may still be good: an empty class, spaces before a comma. The strict reader tells.
    """
    return bool(
        all(map(_is_plain_uid, table[UID].unique()))
        and np.isfinite(table[list(XYZ)].to_numpy()).all()
        and table[CLASS].isin(["0", "1"]).all()
    )


def _is_plain_uid(uid: str) -> bool:
    return re.fullmatch(r"[0-9]+(\.[0-9]+){2,}", uid) is not None


def _from_rows(path: Path) -> CandidateTable:
    """The same, strictly and in seven times the time."""
    rows = [row for row in candidate_rows(path) if row[2] is not None]
    centers = np.array([center_xyz for _, center_xyz, _ in rows], np.float64).reshape(-1, 3)
    return _as_columns([uid for uid, _, _ in rows], centers, np.array([truth for _, _, truth in rows], bool))


def _as_columns(
    uids: Sequence[str] | pd.Series[str], center_xyz: NDArray[np.float64], is_nodule: NDArray[np.bool_]
) -> CandidateTable:
    codes, unique = pd.factorize(np.asarray(uids, object))
    return CandidateTable(tuple(map(str, unique)), codes.astype(np.int32), center_xyz, is_nodule)


def join_tables(tables: Iterable[CandidateTable]) -> CandidateTable:
    """All rows of all tables; the same place twice stays twice."""
    found = list(tables)
    uids: dict[str, int] = {}
    for table in found:
        for uid in table.series_uids:
            uids.setdefault(uid, len(uids))
    series = [np.array([uids[u] for u in t.series_uids], np.int32)[t.series] for t in found]
    return CandidateTable(
        tuple(uids),
        np.concatenate([np.empty(0, np.int32), *series]),
        np.concatenate([np.empty((0, 3)), *(t.center_xyz for t in found)]),
        np.concatenate([np.empty(0, bool), *(t.is_nodule for t in found)]),
    )
