"""Places of scans that samples are cut at: nodules, candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.datasets.scans import LabelledScan
from p2ch_luna.io.candidate_table import CandidateTable


@dataclass(frozen=True, eq=False)
class Places:
    """Voxels of scans, as columns, for there may be hundreds of thousands."""

    scans: Sequence[LabelledScan]
    scan: NDArray[np.int32]  # (N,) number of the scan
    center_irc: NDArray[np.float32]  # (N, 3)

    def __len__(self) -> int:
        return len(self.scan)

    def __getitem__(self, item: int) -> tuple[LabelledScan, NDArray[np.float64]]:
        return self.scans[self.scan[item]], self.center_irc[item].astype(np.float64)


def nodule_places(scans: Sequence[LabelledScan]) -> Places:
    """The scans' own nodules, in the order of the scans and of their nodules."""
    centers = [nodule.center_irc for scan in scans for nodule in scan.nodules]
    numbers = [k for k, scan in enumerate(scans) for _ in scan.nodules]
    return Places(scans, np.array(numbers, np.int32), np.array(centers, np.float32).reshape(-1, 3))


def candidate_places(scans: Sequence[LabelledScan], table: CandidateTable, is_nodule: bool) -> Places:
    """The nodules, or the rest, of the table that lie in the box of one of these scans' lungs.

    A place that is no nodule by the table, but lies in one or at an excluded finding, is left out: it would
    teach the wrong thing.
    """
    numbers = {scan.series_uid: k for k, scan in enumerate(scans)}
    table = table.of_class(is_nodule)
    found_scan, found_irc = [np.empty(0, np.int32)], [np.empty((0, 3), np.float32)]
    order = np.argsort(table.series, kind="stable")
    borders = np.searchsorted(table.series[order], np.arange(len(table.series_uids) + 1))
    for k, uid in enumerate(table.series_uids):
        if uid not in numbers:
            continue
        scan = scans[numbers[uid]]
        irc = scan.geometry.to_irc(table.center_xyz[order[borders[k] : borders[k + 1]]])
        kept = ((irc > -0.5) & (irc < np.asarray(scan.shape) - 0.5)).all(1)
        if not is_nodule:
            kept &= ~scan.are_labelled(irc)
        found_scan.append(np.full(np.count_nonzero(kept), numbers[uid], np.int32))
        found_irc.append(irc[kept].astype(np.float32))
    return Places(scans, np.concatenate(found_scan), np.concatenate(found_irc))
