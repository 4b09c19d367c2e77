"""Montages of what a benchmark found, missed and took for a nodule, with the true outlines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray
from scipy import ndimage

from p2ch_luna.datasets.benchmark import BenchmarkScan
from p2ch_luna.files import replacing
from p2ch_luna.findings import Point
from p2ch_luna.geometry import LUNG_WINDOW_HU, CtVolume
from p2ch_luna.report.axial import axial_picture
from p2ch_luna.report.benchmark.parts import Part
from p2ch_luna.report.benchmark.schema import Scored

FP_PER_SCAN = 4.0  # of RATES, at which a nodule is found or missed
SIDE_MM, PIXEL_MM = 48, 0.5  # of a picture
SAMPLE = 32  # of those found, and of the false positives
MOST_MISSED = 120
COLUMNS = 8
OUTLINE, RING = "#ff9f1c", "#4cc9f0"
RING_MM = 12.0  # round a false positive, which has no outline
WIDEST = 20  # of a host's name

Scans = Callable[[Collection[str]], Iterable[BenchmarkScan]]  # those of these series uids


@dataclass(frozen=True)
class Spot:
    """A place to show. label: of the nodule in its scan, from 1; None: there is none."""

    series_uid: str
    center_xyz: Point
    label: int | None
    caption: str


class Montage(NamedTuple):
    """A file of pictures."""

    name: str
    title: str
    spots: list[Spot]


class Tile(NamedTuple):
    """(N, N) HU round a spot; outline: (N, N) of its nodule, higher inside, None if there is none."""

    hu: NDArray[np.float32]
    outline: NDArray[np.float32] | None


def write_pictures(folder: Path, parts: Sequence[Part], scored: Scored, scans: Scans) -> None:
    """Write found.png, missed.png and false_positives.png; `scans` is asked once for all scans they show."""
    montages = montages_of(parts, scored)
    of_scan: dict[str, list[Spot]] = defaultdict(list)
    for spot in (spot for montage in montages for spot in montage.spots):
        of_scan[spot.series_uid].append(spot)
    tiles = {spot: tile_of(spot, scan) for scan in scans(of_scan) for spot in of_scan[scan.ct.series_uid]}
    for montage in montages:
        with replacing(folder / montage.name) as temporary:
            _figure(montage, [tiles[spot] for spot in montage.spots]).savefig(temporary, format="png")


def montages_of(parts: Sequence[Part], scored: Scored) -> list[Montage]:
    """What each of the three files shows, in which order."""
    is_found, score = scored.found[FP_PER_SCAN], scored.score
    labels = [label for part in parts for label in range(1, len(part.implanted) + 1)]
    diameter_mm = np.array([one.nodule.diameter_mm for one in scored.implanted])
    largest_first = np.argsort(-diameter_mm, kind="stable")

    def spot(k: int) -> Spot:
        nodule, p = scored.implanted[k].nodule, score[k]
        how = f"p {p:.2f}" if np.isfinite(p) else "no mark"
        caption = f"{nodule.diameter_mm:.1f} mm  {how}\n{_short(scored.hosts[k])}"
        return Spot(nodule.series_uid, nodule.center_xyz, labels[k], caption)

    found, missed = (largest_first[chosen[largest_first]].tolist() for chosen in (is_found, ~is_found))
    some, most, rate = spread(found, SAMPLE), missed[:MOST_MISSED], f"at {FP_PER_SCAN:g} FP/scan"
    false = _false_positives(parts, scored)
    n_false = len(scored.outcome.false_score)
    return [
        Montage(
            "found.png",
            f"{len(some)} of the {len(found)} nodules found {rate}, evenly spread over the diameters",
            [spot(k) for k in some],
        ),
        Montage(
            "missed.png",
            f"{len(most)} of the {len(missed)} nodules missed {rate}, the largest first",
            [spot(k) for k in most],
        ),
        Montage(
            "false_positives.png",
            f"{len(false)} of the {n_false} false positives, the highest score first",
            false,
        ),
    ]


def spread(ranked: Sequence[int], n: int) -> list[int]:
    """`n` of them, evenly spread over their order, both ends with them; all if there are no more."""
    if len(ranked) <= n:
        return list(ranked)
    return [ranked[k] for k in np.rint(np.linspace(0, len(ranked) - 1, n)).astype(int)]


def _false_positives(parts: Sequence[Part], scored: Scored) -> list[Spot]:
    marks = [mark for part in parts for mark in part.detections]
    hosts = [part.host for part in parts for _ in part.detections]
    strongest = np.argsort(-scored.outcome.false_score, kind="stable")[:SAMPLE]
    return [
        Spot(
            marks[k].series_uid,
            marks[k].center_xyz,
            None,
            f"{marks[k].diameter_mm:.1f} mm  p {marks[k].probability:.2f}\n{_short(hosts[k])}",
        )
        for k in scored.outcome.false_mark[strongest].tolist()
    ]


def _short(name: str) -> str:
    """The end of a long name; a dollar sign begins no formula."""
    return (name if len(name) <= WIDEST else f"…{name[1 - WIDEST :]}").replace("$", r"\$")


def tile_of(spot: Spot, scan: BenchmarkScan) -> Tile:
    """The pictures of a spot on its scan."""
    hu = axial_picture(scan.ct, spot.center_xyz, SIDE_MM, PIXEL_MM)
    mask = None if spot.label is None else _mask(scan, spot.label)
    if mask is None:
        return Tile(hu, None)
    return Tile(hu, np.maximum(axial_picture(mask, spot.center_xyz, SIDE_MM, PIXEL_MM), 0))


def _mask(scan: BenchmarkScan, label: int) -> CtVolume | None:
    """1 in one nodule, 0 round it; None for a nodule too small to have a voxel of this grid."""
    boxes = ndimage.find_objects(scan.labels, max_label=label)
    if boxes[label - 1] is None:
        return None
    low = [max(0, side.start - 1) for side in boxes[label - 1]]
    high = [side.stop + 1 for side in boxes[label - 1]]
    inside = scan.labels[tuple(map(slice, low, high))] == label
    return replace(scan.ct, hu=inside.astype(np.float32), geometry=scan.ct.geometry.moved_to(low))


def _figure(montage: Montage, tiles: Sequence[Tile]) -> Figure:
    columns = min(COLUMNS, max(5, len(tiles)))  # the title needs room
    rows = max(1, -(-len(tiles) // columns))
    figure = Figure(
        figsize=(1.5 * columns, 1.78 * rows + 0.35), dpi=100, layout="constrained", facecolor="white"
    )
    figure.suptitle(f"{montage.title}; {SIDE_MM} mm, bar 10 mm", fontsize=9)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    if not tiles:
        axes[0].text(0.5, 0.5, "none", ha="center", fontsize=9)
    for ax, spot, tile in zip(axes, montage.spots, tiles, strict=False):
        _draw(ax, tile, spot.caption)
    return figure


def _draw(ax: Axes, tile: Tile, caption: str) -> None:
    low, high = LUNG_WINDOW_HU
    side = len(tile.hu)
    ax.imshow(tile.hu, cmap="gray", vmin=low, vmax=high, interpolation="bicubic")
    if tile.outline is None:
        ring = Circle((side / 2, side / 2), RING_MM / 2 / PIXEL_MM, fill=False, color=RING, lw=0.8)
        ax.add_patch(ring)
    elif tile.outline.max() > 0:  # a half of the peak: between thick slices a nodule's mask is below 1
        ax.contour(tile.outline, [tile.outline.max() / 2], colors=OUTLINE, linewidths=0.8)
    bar = 10 / PIXEL_MM
    ax.add_patch(Rectangle((side - bar - 4, side - 6), bar, 2, facecolor="white", edgecolor="black", lw=0.4))
    ax.set_title(caption, fontsize=7, pad=2)
