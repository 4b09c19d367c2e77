"""Whole scans to find nodules in after each epoch, as in use: the FROC curve beside the samples' figures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray
from torch import nn

from p2ch_luna.datasets.collection import Share
from p2ch_luna.datasets.implant import Implantable
from p2ch_luna.datasets.patches import implant_randomly
from p2ch_luna.datasets.scans import LabelledScan
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule, Point
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.lungs import PreparedCt
from p2ch_luna.metrics.froc import Froc, froc
from p2ch_luna.metrics.matching import Scored, score_detections

IMPLANTS = 10  # nodules set into a host, at most: a place that is taken already is passed over

Find = Callable[[nn.Module, PreparedCt], Sequence[Scored]]  # the way of the diagnosis, given from outside


@dataclass(frozen=True, eq=False)
class WholeScan:
    """A scan to search; its voxels are read by `load`, new ones at each call.

    unsure: findings that are neither nodules nor false positives.
    """

    series_uid: str
    load: Callable[[], PreparedCt]
    nodules: tuple[Nodule, ...]
    unsure: tuple[Nodule, ...]


@dataclass(frozen=True)
class Marks:
    """What was found in one scan; it can be sent between processes."""

    series_uid: str
    found: list[tuple[Point, float]]  # LPS mm, probability


@dataclass(frozen=True, eq=False)
class ScanScore:
    """How well nodules are found in whole scans."""

    metrics: dict[str, float]
    froc: Froc
    n_scans: int
    n_nodules: int


@dataclass(frozen=True)
class _Mark:
    """A `Scored`."""

    series_uid: str
    center_xyz: Point
    probability: float


def whole_scans(share: Share, count: int, seed: int) -> list[WholeScan]:
    """`count` scans of a side: annotated ones, then its hosts with nodules of the side set in.

    The order of scans and hosts is drawn from their uids alone, so that one more moves no other. A host may
    be drawn several times, as `UID-implanted-1`, `UID-implanted-2`, …; `seed` is that of its nodules and
    places. There are fewer scans where there are no hosts, or no nodules for them. A nodule outside the box
    of the lungs is in no truth, as in training. Raises LunaError where no scan has a nodule to be found.
    """
    scans = [_annotated(scan) for scan in _chosen(share.scans, count)]
    missing = count - len(scans)
    if share.nodules and share.hosts:
        hosts = cycle(_ordered(share.hosts))
        scans += [
            _implanted(host, share.nodules, number // len(share.hosts) + 1, seed)
            for number, host in enumerate(islice(hosts, missing))
        ]
    if count and not any(scan.nodules for scan in scans):
        raise LunaError(
            f"validation.scans = {count}: no nodule in the {len(scans)} whole scan(s) of the validation "
            "folds; wanted annotated scans with nodules, or data.validation_hosts and nodules of these folds "
            "to set in; 0 goes without whole scans"
        )
    return scans


def find_all(
    model: nn.Module, scans: Sequence[WholeScan], find: Find, on_scan: Callable[[str], None] = lambda _: None
) -> list[Marks]:
    """What `find` finds in each scan, one scan in memory at a time; `on_scan` hears of each one done."""
    marks = []
    for scan in scans:
        marks.append(_marks(model, scan, find))
        on_scan(scan.series_uid)
    return marks


def score_scans(scans: Sequence[WholeScan], marks: Sequence[Marks]) -> ScanScore:
    """LUNA16's score of the marks on exactly these scans, in any order."""
    searched = sorted(of_scan.series_uid for of_scan in marks)
    if searched != sorted(scan.series_uid for scan in scans):
        raise ValueError(f"wanted marks on each of {len(scans)} scans once, got them on {searched}")
    outcome = score_detections(
        [nodule for scan in scans for nodule in scan.nodules],
        [nodule for scan in scans for nodule in scan.unsure],
        [scan.series_uid for scan in scans],
        [_Mark(of_scan.series_uid, xyz, p) for of_scan in marks for xyz, p in of_scan.found],
    )
    curve = froc(outcome)
    metrics = {
        "cpm": curve.cpm,
        "sensitivity_at_1_fp": float(curve.at(1.0)),
        "sensitivity_at_4_fp": float(curve.at(4.0)),
    }
    return ScanScore(metrics, curve, outcome.n_scans, len(outcome.nodule_score))


def _marks(model: nn.Module, scan: WholeScan, find: Find) -> Marks:
    """No name holds the voxels once this is done: the next scan is loaded after that."""
    found = find(model, scan.load())
    return Marks(scan.series_uid, [(mark.center_xyz, mark.probability) for mark in found])


def _chosen(scans: Sequence[LabelledScan], count: int) -> list[LabelledScan]:
    """The first `count` in order; where none has a nodule, the first that has one takes the last place."""
    ordered = _ordered(scans)
    chosen = ordered[:count]
    if chosen and not any(scan.nodules for scan in chosen):
        chosen[-1] = next((scan for scan in ordered if scan.nodules), chosen[-1])
    return chosen


def _ordered(scans: Sequence[LabelledScan]) -> list[LabelledScan]:
    return sorted(scans, key=lambda scan: _digest(scan.series_uid))


def _digest(series_uid: str) -> bytes:
    return hashlib.sha256(series_uid.encode()).digest()


def _annotated(scan: LabelledScan) -> WholeScan:
    uid = scan.series_uid
    return WholeScan(uid, partial(_load, scan), _nodules_of(scan, uid), _unsure_of(scan, uid))


def _load(scan: LabelledScan) -> PreparedCt:
    return scan.stored.load()


def _implanted(host: LabelledScan, nodules: Sequence[Implantable], number: int, seed: int) -> WholeScan:
    """The `number`-th draw of a host. It is made now for its truth, and again when its voxels are wanted."""
    uid = f"{host.series_uid}-implanted-{number}"
    drawn = np.frombuffer(_digest(host.series_uid)[:16], np.uint32).tolist()
    entropy = (seed, number, *drawn)
    _, implanted = _implant(host, nodules, uid, entropy)
    truth = (*_nodules_of(host, uid), *implanted)
    load = partial(_load_implanted, host, nodules, uid, entropy)
    return WholeScan(uid, load, truth, _unsure_of(host, uid))


def _load_implanted(
    host: LabelledScan, nodules: Sequence[Implantable], uid: str, entropy: Sequence[int]
) -> PreparedCt:
    return _implant(host, nodules, uid, entropy)[0]


def _implant(
    host: LabelledScan, nodules: Sequence[Implantable], uid: str, entropy: Sequence[int]
) -> tuple[PreparedCt, list[Nodule]]:
    """A copy of the host with nodules set in, clear of its own, and their truth; the same for one entropy."""
    prepared, geometry = host.stored.load(), host.geometry
    hu = prepared.ct.hu.astype(np.int16, copy=False)  # new already, as `load` says
    labels = host.crop_labels(np.array(hu.shape) // 2, hu.shape)
    done = implant_randomly(
        hu, labels, prepared.lung, nodules, IMPLANTS, np.random.default_rng(list(entropy))
    )
    truth = [
        Nodule(uid, _point(geometry, center), nodule.diameter_mm * pose.zoom, nodule.malignancy)
        for nodule, center, pose in done
    ]
    ct = CtVolume(uid, hu, geometry)
    return PreparedCt(ct, prepared.lung, prepared.warning, prepared.native), truth


def _nodules_of(scan: LabelledScan, uid: str) -> tuple[Nodule, ...]:
    return tuple(
        Nodule(uid, _point(scan.geometry, own.center_irc), own.diameter_mm, own.malignancy)
        for own in scan.nodules
    )


def _unsure_of(scan: LabelledScan, uid: str) -> tuple[Nodule, ...]:
    mm = 2 * float(scan.geometry.spacing_irc.min())
    return tuple(
        Nodule(uid, _point(scan.geometry, ball[:3]), float(ball[3]) * mm)
        for ball in scan.unsure.astype(np.float64)
    )


def _point(geometry: ImageGeometry, irc: NDArray[np.float64] | NDArray[np.int64]) -> Point:
    x, y, z = (float(v) for v in geometry.to_xyz(irc))
    return x, y, z
