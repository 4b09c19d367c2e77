"""Candidates by the hundred thousand, as columns: LUNA16's `candidates_V2.csv`, or what `luna mine` found.

LUNA16's table has 754,975 rows. As objects they would take 500 MB, in every process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from p2ch_luna.io.tables import UID, XYZ, check_candidate_rows
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
        is_sound = _is_sound(table)
    except (OSError, ValueError):
        is_sound = False
    if not is_sound:  # slowly, for the line and column of the first fault
        check_candidate_rows(path)
        table = _read(path)
    table = table[table[CLASS] != ""]
    codes, uids = pd.factorize(table[UID])
    return CandidateTable(
        tuple(map(str, uids)),
        codes.astype(np.int32),
        table[list(XYZ)].to_numpy(np.float64),
        (table[CLASS] == "1").to_numpy(bool),
    )


def _read(path: Path) -> pd.DataFrame:
    types = {UID: "str", **dict.fromkeys(XYZ, np.float64), CLASS: "str"}
    options = {"skipinitialspace": True, "encoding": "utf-8-sig", "keep_default_na": False}
    with open_binary(path) as file:
        return pd.read_csv(file, usecols=list(types), dtype=types, **options)  # type: ignore[call-overload, no-any-return]


def _is_sound(table: pd.DataFrame) -> bool:
    """Whether all ids are text that no spreadsheet made, all places finite, all classes 0 or 1.

    An empty class is sound too, but pandas shows a row that is cut short in the same way.
    """
    uids = pd.Series(table[UID].unique())
    is_number = pd.to_numeric(uids, errors="coerce").notna() & ~uids.str.fullmatch(r"\d+")
    return bool(
        uids.notna().all()
        and (uids != "").all()
        and not is_number.any()
        and np.isfinite(table[list(XYZ)].to_numpy()).all()
        and table[CLASS].isin(["0", "1"]).all()
    )


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
