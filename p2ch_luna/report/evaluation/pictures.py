"""Pictures of the places of an evaluation, taken from the CTs that lie at hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from p2ch_luna.datasets.catalogue import index_scans
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Point
from p2ch_luna.geometry import LUNG_WINDOW_HU, CtVolume
from p2ch_luna.io.dicom_folders import find_series
from p2ch_luna.io.volumes import read_ct
from p2ch_luna.report.axial import SIDE_MM, axial_picture
from p2ch_luna.report.evaluation.schema import Score

PIXELS_PER_MM = 3
MOST_NODULES = 100  # with a picture, of those missed and of those filtered out, the largest
RING_BEYOND_MM, MARK_RING_MM = 6.0, 12.0  # a ring is so much wider than a nodule; so wide round a mark
RING, BAR, EDGE = "#ff9f1c", "#ffffff", "#000000"  # the edge shows the bar on white tissue

Pictures = dict[tuple[str, Point], bytes]  # series uid and LPS mm -> PNG
Open = Callable[[], CtVolume]


@dataclass(frozen=True)
class Place:
    """Where to look; diameter_mm: None for a mark."""

    series_uid: str
    center_xyz: Point
    diameter_mm: float | None = None


def places_of(scores: Iterable[Score]) -> list[Place]:
    """All that a page shows of these submissions, each place once."""
    places: dict[tuple[str, Point], float | None] = {}
    for score in scores:
        for nodule in (*score.missed_nodules[:MOST_NODULES], *score.filtered_nodules[:MOST_NODULES]):
            places[nodule.series_uid, nodule.center_lps_mm] = nodule.diameter_mm
        for mark in score.strongest_false_positives:
            places.setdefault((mark.series_uid, mark.center_lps_mm), None)
    return [Place(uid, center, diameter) for (uid, center), diameter in places.items()]


def find_cts(paths: Sequence[Path], series_uids: Collection[str]) -> dict[str, Open]:
    """How to read each of these series that lies at or below the paths: volume files, LUNA16's zips, DICOM.

    Raises LunaError for a path that is not there, or holds no CT.
    """
    found: dict[str, Open] = {}
    for path in paths:
        if not path.exists():
            raise LunaError(f"{path}: not there; expected CTs to take pictures from")
        at_path = _volumes(path) | {
            uid: partial(read_ct, folder, uid)
            for uid, folder in (find_series(path) if path.is_dir() else {}).items()
        }
        if not at_path:
            raise LunaError(f"{path}: no CT there; expected one, or a folder with CTs in it")
        found |= {uid: read for uid, read in at_path.items() if uid in series_uids}
    return found


def _volumes(path: Path) -> dict[str, Open]:
    try:
        return {source.series_uid: source.read for source in index_scans([path]).sources}
    except LunaError:
        if path.is_dir():
            return {}  # it may hold DICOM
        raise


def take_pictures(
    places: Sequence[Place], cts: dict[str, Open], on_scan: Callable[[], None] = lambda: None
) -> tuple[Pictures, list[str]]:
    """Pictures of the places on these CTs, one CT in memory at a time, and why some have none."""
    of_scan: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        of_scan[place.series_uid].append(place)
    pictures: Pictures = {}
    problems = []
    for uid, wanted in of_scan.items():
        if uid in cts:
            taken, problem = _of_scan(uid, wanted, cts[uid])
            pictures |= taken
            problems += problem
        on_scan()
    absent = [uid for uid in of_scan if uid not in cts]
    if absent:
        problems.insert(
            0,
            f"no CT of {len(absent)} of {len(of_scan)} scan(s), such as {absent[0]}: "
            "their places have no picture",
        )
    return pictures, problems


def _of_scan(uid: str, places: Sequence[Place], read: Open) -> tuple[Pictures, list[str]]:
    try:
        ct = read()
    except LunaError as error:
        return {}, [f"{error}; its {len(places)} place(s) have no picture"]
    pictures: Pictures = {}
    problems = []
    for place in places:
        try:
            picture = axial_picture(ct, place.center_xyz)
        except ValueError:
            where = ", ".join(f"{value:g}" for value in place.center_xyz)
            problems.append(f"{uid}: ({where}) lies outside its CT; it has no picture")
        else:
            pictures[uid, place.center_xyz] = ringed_png(picture, place.diameter_mm)
    return pictures, problems


def ringed_png(picture: NDArray[np.float32], diameter_mm: float | None) -> bytes:
    """A PNG of (`SIDE_MM`, `SIDE_MM`) HU at 1 mm: a ring round the middle, below a bar of 10 mm."""
    low, high = LUNG_WINDOW_HU
    gray = np.rint(np.clip((picture - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    side = SIDE_MM * PIXELS_PER_MM
    image = Image.fromarray(gray).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")
    draw = ImageDraw.Draw(image)
    middle = (SIDE_MM // 2 + 0.5) * PIXELS_PER_MM  # the place is the centre of this pixel
    reach = PIXELS_PER_MM * (MARK_RING_MM if diameter_mm is None else diameter_mm + RING_BEYOND_MM) / 2
    draw.ellipse([middle - reach, middle - reach, middle + reach, middle + reach], outline=RING)
    bar = [side - 13 * PIXELS_PER_MM, side - 9, side - 3 * PIXELS_PER_MM - 1, side - 7]
    draw.rectangle([bar[0] - 1, bar[1] - 1, bar[2] + 1, bar[3] + 1], fill=EDGE)
    draw.rectangle(bar, fill=BAR)
    png = BytesIO()
    image.save(png, format="PNG", optimize=True)
    return png.getvalue()
