"""Scans as training sees them: 1 mm, the lungs' box, read piece by piece, every voxel labelled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2ch_luna.datasets.lidc_labels import Match, NoduleMask, consensus_mask, lidc_nodules, match_nodules
from p2ch_luna.datasets.sources import ScanSource, prepare_source
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import AIR_HU, ImageGeometry, crop_around, crop_start
from p2ch_luna.io.lidc_tables import LidcTables
from p2ch_luna.io.scan_cache import DamagedEntry, ScanCache, StoredScan, open_scan
from p2ch_luna.lungs import PreparedCt
from p2ch_luna.metrics.matching import effective_diameter_mm

UNSURE = 255  # a label: neither nodule nor background, no loss is taken there
MOST_OWN = 100  # labels of a scan's own nodules in one crop; those of implants lie above
OPEN_SCANS = 4  # a process keeps so many open: what they map counts as its memory, and opening is quick

NOWHERE = np.empty((0, 4), np.float32)

Labels = NDArray[np.uint8]  # (D, H, W): 0 background, 1 to 254 nodules, UNSURE

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class OwnNodule:
    """An annotated nodule on the grid of its scan."""

    center_irc: NDArray[np.float64]  # (3,)
    radius_irc: NDArray[np.float64]  # (3,) voxels
    diameter_mm: float
    malignancy: float | None  # mean of the readers' ratings, 1 to 5
    outline: NoduleMask | None  # what half of LIDC's readers outlined; None: a ball stands for it

    @property
    def reach_irc(self) -> NDArray[np.float64]:
        """(3,) voxels from its centre to its farthest, at most."""
        if self.outline is None:
            return self.radius_irc
        low = np.asarray(self.outline.start_irc) - self.center_irc
        return np.maximum(-low, low + self.outline.mask.shape)


@dataclass(frozen=True, eq=False)
class LabelledScan:
    """A prepared scan on disk and what is known of it; `reopen` opens it in any process.

    unsure: (N, 4) float32, centre (index, row, col) and radius in voxels of places that teach nothing.
    """

    series_uid: str
    geometry: ImageGeometry
    shape: tuple[int, ...]  # (D, H, W)
    nodules: tuple[OwnNodule, ...]
    unsure: NDArray[np.float32]
    reopen: Callable[[], StoredScan]

    @property
    def stored(self) -> StoredScan:
        """The scan, opened now or not long ago."""
        return _opened(self)

    def crop_hu(self, center_irc: ArrayLike, shape_irc: Sequence[int]) -> NDArray[np.int16]:
        """`crop_around` of the HU; air outside."""
        return crop_around(self.stored.hu, center_irc, shape_irc, AIR_HU)

    def crop_lung(self, center_irc: ArrayLike, shape_irc: Sequence[int]) -> NDArray[np.bool_]:
        """The same crop of the lung mask."""
        return crop_around(self.stored.lung, center_irc, shape_irc, 0)

    def crop_labels(self, center_irc: ArrayLike, shape_irc: Sequence[int]) -> Labels:
        """The same crop of the labels, painted now; a nodule covers what is unsure, and outside all is."""
        labels = self.paint(self.nodules, center_irc, shape_irc, self.unsure)
        start = crop_start(center_irc, shape_irc)
        for axis, (first, n, side) in enumerate(zip(start.tolist(), self.shape, shape_irc, strict=True)):
            along = np.moveaxis(labels, axis, 0)  # a view
            along[: max(0, -first)] = UNSURE
            along[min(max(0, n - first), side) :] = UNSURE
        return labels

    def paint(
        self,
        nodules: Sequence[OwnNodule],
        center_irc: ArrayLike,
        shape_irc: Sequence[int],
        unsure: NDArray[np.float32] = NOWHERE,
    ) -> Labels:
        """Labels 1, 2, … of these nodules in the crop, over unsure places."""
        start = crop_start(center_irc, shape_irc)
        labels = np.zeros(tuple(shape_irc), np.uint8)
        centers, radius = unsure[:, :3] - start, unsure[:, 3:]
        for k in np.flatnonzero(((centers > -radius) & (centers < shape_irc + radius)).all(1)):
            _paint_ball(labels, centers[k], np.repeat(radius[k], 3), UNSURE)
        for number, nodule in enumerate(nodules, start=1):
            label = min(number, MOST_OWN)
            if nodule.outline is None:
                _paint_ball(labels, nodule.center_irc - start, nodule.radius_irc, label)
            else:
                _paint_mask(labels, np.asarray(nodule.outline.start_irc) - start, nodule.outline.mask, label)
        return labels

    def are_labelled(self, places_irc: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N,) whether voxels (N, 3) lie in a nodule or at a place that teaches nothing."""
        balls = [(nodule.center_irc, nodule.radius_irc) for nodule in self.nodules]
        balls += [(ball[:3].astype(np.float64), np.repeat(ball[3], 3)) for ball in self.unsure]
        found = np.zeros(len(places_irc), bool)
        for center, radius in balls:
            found |= (((places_irc - center) / radius) ** 2).sum(axis=1) <= 1
        return found

    def random_place(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """(3,) one of the up to 16384 voxels that stand for the lung; any voxel where no lung was found."""
        places = self.stored.places_irc
        if len(places):
            place: NDArray[np.float64] = places[rng.integers(len(places))].astype(np.float64)
            return place
        return rng.integers(self.shape).astype(np.float64)


@lru_cache(maxsize=OPEN_SCANS)
def _opened(scan: LabelledScan) -> StoredScan:
    return scan.reopen()


def load_scan(
    source: ScanSource,
    cache: ScanCache,
    nodules: Sequence[Nodule] = (),
    unsure: Sequence[Nodule] = (),
    lidc: LidcTables | None = None,
) -> LabelledScan:
    """Prepare a scan if that was not done, and label what is known of it."""
    stored = prepare_source(source, cache)
    if stored.path is None:
        raise ValueError(f"{source.series_uid}: a cache keeps scans in files")
    reopen = partial(_open_or_make, stored.path, source, cache)
    return _labelled(stored, reopen, nodules, unsure, lidc)


def label_scan(
    prepared: PreparedCt,
    nodules: Sequence[Nodule] = (),
    unsure: Sequence[Nodule] = (),
    lidc: LidcTables | None = None,
) -> LabelledScan:
    """Label a scan that is held in memory."""
    stored = StoredScan.in_memory(prepared)
    return _labelled(stored, partial(_same, stored), nodules, unsure, lidc)


def _same(stored: StoredScan) -> StoredScan:
    return stored


def _open_or_make(path: Path, source: ScanSource, cache: ScanCache) -> StoredScan:
    """The file may have gone since the run began: another process made room, or found it damaged."""
    try:
        return open_scan(path)
    except (FileNotFoundError, DamagedEntry) as error:
        log.warning("%s: %s; prepared again", source.series_uid, error)
        return prepare_source(source, cache)


def _labelled(
    stored: StoredScan,
    reopen: Callable[[], StoredScan],
    nodules: Sequence[Nodule],
    unsure: Sequence[Nodule],
    lidc: LidcTables | None,
) -> LabelledScan:
    """Balls of the annotated diameters, where no reader's outline is known.

    A negative diameter counts as 10 mm, as in the score.
    """
    geometry, shape = stored.geometry, tuple(stored.hu.shape)
    centers = geometry.to_irc(np.array([n.center_xyz for n in unsure]).reshape(-1, 3))
    radius = [effective_diameter_mm(n) / 2 / geometry.spacing_irc.min() for n in unsure]
    return LabelledScan(
        stored.series_uid,
        geometry,
        shape,
        tuple(_inside(stored, _own_nodules(stored, nodules, lidc))),
        np.column_stack([centers, radius]).astype(np.float32).reshape(-1, 4),
        reopen,
    )


def _own_nodules(stored: StoredScan, nodules: Sequence[Nodule], lidc: LidcTables | None) -> list[OwnNodule]:
    """With the outlines and ratings of LIDC's readers, where the scan is one of LIDC-IDRI's."""
    geometry, own = stored.geometry, []
    for match in _matched(stored, nodules, lidc):
        diameter_mm, outline, rating = effective_diameter_mm(match.nodule), None, match.nodule.malignancy
        if match.finding and lidc and stored.native:
            ids, shape = match.finding.annotation_ids, stored.hu.shape
            outline = consensus_mask(lidc, ids, stored.native, geometry, shape)
            rating = match.finding.ratings.malignancy if rating is None else rating
        center, radius = geometry.to_irc(match.nodule.center_xyz), diameter_mm / 2 / geometry.spacing_irc
        own.append(OwnNodule(center, radius, diameter_mm, rating, outline))
    return own


def _matched(stored: StoredScan, nodules: Sequence[Nodule], lidc: LidcTables | None) -> list[Match]:
    if not (nodules and lidc and stored.native):
        return match_nodules(nodules, [])
    try:
        return match_nodules(nodules, lidc_nodules(lidc, stored.series_uid, stored.native))
    except LunaError as error:
        log.warning("%s; balls stand for its nodules", error)
        return match_nodules(nodules, [])


def _inside(stored: StoredScan, nodules: Sequence[OwnNodule]) -> list[OwnNodule]:
    """Those whose centre lies in the box of the lungs; of others the log tells, no search would see them."""
    inside = [
        n for n in nodules if ((n.center_irc > -0.5) & (n.center_irc < np.array(stored.hu.shape) - 0.5)).all()
    ]
    if missing := len(nodules) - len(inside):
        log.warning(
            "%s: %d of %d nodules lie outside the box of its lungs", stored.series_uid, missing, len(nodules)
        )
    return inside


def _paint_ball(labels: Labels, center: ArrayLike, radius: ArrayLike, label: int) -> None:
    """All (3,) in voxels of `labels`; what lies outside is left out."""
    center, reach = np.asarray(center, float), np.asarray(radius, float)
    low = np.clip(np.floor(center - reach).astype(int), 0, labels.shape)
    high = np.clip(np.ceil(center + reach).astype(int) + 1, 0, labels.shape)
    box = tuple(map(slice, low.tolist(), high.tolist()))
    axes = np.ogrid[box]
    squared = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, center, reach, strict=True))
    labels[box][squared <= 1] = label


def _paint_mask(labels: Labels, start: NDArray[np.int64], mask: NDArray[np.bool_], label: int) -> None:
    """The mask's voxel (0, 0, 0) comes to `start`, which may lie outside."""
    low = np.clip(start, 0, labels.shape)
    high = np.clip(start + mask.shape, 0, labels.shape)
    part = mask[tuple(map(slice, (low - start).tolist(), (high - start).tolist()))]
    labels[tuple(map(slice, low.tolist(), high.tolist()))][part] = label
