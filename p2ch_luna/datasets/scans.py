"""Scans as training sees them: 1 mm, inside the lungs, every voxel with a label."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.io import read_ct
from p2ch_luna.io.scan_cache import ScanCache, scan_key
from p2ch_luna.lungs import PreparedCt, prepare
from p2ch_luna.metrics.matching import effective_diameter_mm

SPACING_MM = 1.0  # of every patch and crop that a network sees
MARGIN_MM = 10.0  # kept round the lungs
UNSURE = 255  # a label: neither nodule nor background, no loss is taken there
LABELS_NAME = "nodules.nii.gz"  # the labels that `luna phantom` and `luna implant` put beside a scan
SCAN_SUFFIXES = (".mhd", ".mha", ".nii", ".nii.gz", ".nrrd", ".nhdr")

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelledScan:
    """A prepared CT and, on its grid, labels: 0 background, 1, 2, … nodules, `UNSURE`."""

    prepared: PreparedCt
    labels: NDArray[np.uint8]  # (D, H, W)

    @property
    def series_uid(self) -> str:
        """Of the CT."""
        return self.prepared.ct.series_uid

    @property
    def hu(self) -> NDArray[np.int16]:
        """(D, H, W)."""
        return self.prepared.ct.hu.astype(np.int16, copy=False)

    @cached_property
    def lung_voxels(self) -> NDArray[np.int32]:
        """(N,) flat indices of the voxels in the lung."""
        return np.flatnonzero(self.prepared.lung).astype(np.int32)

    @cached_property
    def nodule_centers_irc(self) -> NDArray[np.float64]:
        """(N, 3) middle of the box round each nodule of the scan's own."""
        boxes = ndimage.find_objects(np.where(self.labels == UNSURE, 0, self.labels))
        centers = [[(s.start + s.stop - 1) / 2 for s in box] for box in boxes if box is not None]
        return np.array(centers).reshape(-1, 3)


def find_scans(paths: Iterable[Path]) -> list[Path]:
    """The scan files at and below these paths, sorted; a folder with none is an error."""
    found: list[Path] = []
    for path in paths:
        if path.is_file():
            found.append(path)
            continue
        if not path.is_dir():
            raise LunaError(f"{path}: no such file or folder; wanted a scan or a folder of scans")
        below = sorted(p for p in path.rglob("*") if p.name.endswith(SCAN_SUFFIXES) and p.name != LABELS_NAME)
        if not below:
            raise LunaError(f"{path}: no scan there; wanted a file or a folder of {', '.join(SCAN_SUFFIXES)}")
        found += below
    return found


def prepare_file(path: Path, cache: ScanCache | None = None) -> PreparedCt:
    """Read a scan and bring it to 1 mm and the lung box, from the cache if it was done before."""

    def make() -> PreparedCt:
        log.info("preparing %s", path.name)
        return prepare(read_ct(path), SPACING_MM, MARGIN_MM)

    return make() if cache is None else cache.get_or_make(scan_key(path, SPACING_MM, MARGIN_MM), make)


def load_labelled(
    paths: Sequence[Path],
    nodules: Mapping[str, Sequence[Nodule]],
    unsure: Mapping[str, Sequence[Nodule]],
    cache: ScanCache | None = None,
    on_scan: Callable[[Path], None] = lambda _: None,
) -> list[LabelledScan]:
    """Prepare scans and label what is known of them, by series uid; `on_scan` hears of each one done."""
    scans = []
    for path in paths:
        prepared = prepare_file(path, cache)
        uid = prepared.ct.series_uid
        scans.append(label_scan(prepared, nodules.get(uid, ()), unsure.get(uid, ())))
        on_scan(path)
    return scans


def label_scan(
    prepared: PreparedCt, nodules: Sequence[Nodule], unsure: Sequence[Nodule] = ()
) -> LabelledScan:
    """Paint balls of the annotated diameters; a negative diameter counts as 10 mm, as in the score."""
    labels = np.zeros(prepared.ct.hu.shape, np.uint8)
    for nodule in unsure:
        _paint_ball(labels, prepared, nodule, UNSURE)
    for label, nodule in enumerate(nodules, start=1):
        _paint_ball(labels, prepared, nodule, min(label, UNSURE - 1))
    return LabelledScan(prepared, labels)


def _paint_ball(labels: NDArray[np.uint8], prepared: PreparedCt, nodule: Nodule, label: int) -> None:
    radius_mm = effective_diameter_mm(nodule) / 2
    center = prepared.ct.geometry.to_irc(nodule.center_xyz)
    reach = radius_mm / prepared.ct.geometry.spacing_irc
    low = np.clip(np.floor(center - reach).astype(int), 0, labels.shape)
    high = np.clip(np.ceil(center + reach).astype(int) + 1, 0, labels.shape)
    axes = np.ogrid[tuple(map(slice, low.tolist(), high.tolist()))]
    squared = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, center, reach, strict=True))
    labels[tuple(map(slice, low.tolist(), high.tolist()))][squared <= 1] = label
