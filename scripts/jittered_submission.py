"""Write a submission of LUNA16's size that no network has made: jittered nodules and false positives.

usage: jittered_submission.py OUT.csv [--data ../shared/data/luna16] [--marks 50000] [--seed 0]

A mark lies somewhere inside each nodule that is found; the larger a nodule, the more often it is, and the
higher its probability tends to be. All other marks are spread through the chests with mostly low
probabilities. It serves to try the score at full size and to time it; its score says nothing of anything.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.files import replacing
from p2ch_luna.findings import Nodule
from p2ch_luna.io import read_nodules, read_series_uids
from p2ch_luna.io.tables import DETECTION_COLUMNS

SMALL_MM, HALF_MM = 3.0, 2.5  # of nodules of 3 mm 1 in 4 is overlooked; every 2.5 mm more halve that
OVERLOOKED = 0.25
LOGIT_OF_3_MM, LOGIT_PER_MM = 0.8, 0.25  # of a nodule's probability, on average
LOGIT_OF_NOTHING = -4.2  # of a false positive's
SPREAD = 1.7  # standard deviation of both
CHEST_MM = (260.0, 180.0, 240.0)  # sides of the box that false positives fill


class Mark(NamedTuple):
    """A row of the submission."""

    series_uid: str
    center_xyz: NDArray[np.float64]  # (3,) LPS mm
    probability: float


def main() -> None:
    """Write the table and say how many marks it has."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/luna16"), help="LUNA16's lists")
    parser.add_argument("--marks", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    nodules = read_nodules(options.data / "annotations.csv")
    excluded = read_nodules(options.data / "annotations_excluded.csv")
    scans = read_series_uids(options.data / "seriesuids.csv")
    rng = np.random.default_rng(options.seed)
    found = list(on_nodules(nodules, rng))
    others = list(elsewhere(scans, [*nodules, *excluded], options.marks - len(found), rng))
    write(options.output, sorted([*found, *others], key=lambda mark: mark.series_uid))
    print(f"{options.output}: {len(found) + len(others)} marks, {len(found)} of them inside a nodule")


def on_nodules(nodules: Sequence[Nodule], rng: np.random.Generator) -> Iterator[Mark]:
    """A mark inside each nodule that is not overlooked."""
    for nodule in nodules:
        beyond_mm = max(0.0, nodule.diameter_mm - SMALL_MM)
        place = rng.normal(size=3)
        inside = 0.95 * nodule.diameter_mm / 2 * rng.uniform() ** (1 / 3)  # uniform in the sphere
        logit = rng.normal(LOGIT_OF_3_MM + LOGIT_PER_MM * beyond_mm, SPREAD)
        if rng.uniform() >= OVERLOOKED * 0.5 ** (beyond_mm / HALF_MM):
            center = np.array(nodule.center_xyz) + inside * place / np.linalg.norm(place)
            yield Mark(nodule.series_uid, center, _sigmoid(logit))


def elsewhere(
    scans: Sequence[str], findings: Sequence[Nodule], count: int, rng: np.random.Generator
) -> Iterator[Mark]:
    """`count` marks, spread over all scans, round the middle of what is known in each."""
    places: dict[str, list[tuple[float, float, float]]] = {uid: [] for uid in scans}
    for finding in findings:
        places[finding.series_uid].append(finding.center_xyz)
    middles = {uid: np.mean(of_scan, axis=0) if of_scan else np.zeros(3) for uid, of_scan in places.items()}
    per_scan = rng.multinomial(count, np.full(len(scans), 1 / len(scans)))
    for uid, n_marks in zip(scans, per_scan.tolist(), strict=True):
        offsets = rng.uniform(-0.5, 0.5, (n_marks, 3)) * CHEST_MM
        for offset, logit in zip(offsets, rng.normal(LOGIT_OF_NOTHING, SPREAD, n_marks), strict=True):
            yield Mark(uid, middles[uid] + offset, _sigmoid(float(logit)))


def write(path: Path, marks: Sequence[Mark]) -> None:
    """Write LUNA16's columns."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(DETECTION_COLUMNS)
        for mark in marks:
            xyz = (f"{value:.4f}" for value in mark.center_xyz)
            writer.writerow((mark.series_uid, *xyz, f"{mark.probability:.6g}"))


def _sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


if __name__ == "__main__":
    main()
