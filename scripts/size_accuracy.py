"""Measure how well findings are measured: real nodules set into scans, their masks known voxel by voxel.

usage: size_accuracy.py CT [CT ...] [--nodules ../shared/data/lidc] [--folds 7-9] [--copies 2] [--count 20]
                        [--known data/hosts_excluded.csv] [--seed 0]

Each nodule that a candidate hits is measured as a finding is, and beside it its true mask by the same ruler.
Printed are medians: of the error of the mean diameter and of the sphere's, of the volume's ratio and of Dice.
It needs the data folder of data/README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.datasets.implant import implant_at_random, implantable_nodules
from p2ch_luna.datasets.splits import parse_folds
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, to_canonical
from p2ch_luna.inference import Diagnosis, NoduleDetector
from p2ch_luna.inference.diameters import diameters
from p2ch_luna.inference.measure import equivalent_diameter_mm, mask_volume_mm3, measure
from p2ch_luna.io import read_ct, read_nodules

SMALLEST_MM, LARGEST_MM = 3.5, 30.0
SMALL_BELOW_MM = 8.0  # true mean diameter; sizes below and from there on are told apart


class Pair(NamedTuple):
    """A nodule and the finding that hits it; lengths mm, volumes mm^3."""

    true_mean_mm: float
    mean_mm: float
    true_volume_mm3: float
    volume_mm3: float
    dice: float


def pairs_of(
    ct: CtVolume, labels: NDArray[np.uint8], diagnosis: Diagnosis, truth: Sequence[Nodule]
) -> Iterator[Pair]:
    """Of the nodules whose mask is k, from 1, in labels (D, H, W), those that a candidate hits."""
    centers = np.array([found.center_xyz for found in diagnosis.detections]).reshape(-1, 3)
    for k, nodule in enumerate(truth, start=1):
        apart = np.linalg.norm(centers - nodule.center_xyz, axis=1)
        if not (labels == k).any() or not len(apart) or apart.min() >= nodule.diameter_mm / 2:
            continue
        found = measure(ct, diagnosis.regions[int(apart.argmin())], diagnosis.lungs)
        said = np.zeros(labels.shape, bool)
        box = tuple(slice(a, a + n) for a, n in zip(found.low_irc, found.mask.shape, strict=True))
        said[box] = found.mask
        yield compared(ct, said, labels == k, found.mean_diameter_mm)


def compared(ct: CtVolume, said: NDArray[np.bool_], true: NDArray[np.bool_], mean_mm: float) -> Pair:
    """Both masks (D, H, W) on the CT's grid, neither empty."""
    upright = to_canonical(CtVolume(ct.series_uid, true.astype(np.float32), ct.geometry))
    volumes = [mask_volume_mm3(int(mask.sum()), ct.geometry) for mask in (true, said)]
    dice = 2 * (said & true).sum() / (said.sum() + true.sum())
    size = diameters(upright.hu, 0.5, upright.geometry.spacing_irc)
    return Pair(size.mean_mm, mean_mm, *volumes, float(dice))


def as_text(name: str, pairs: Sequence[Pair]) -> str:
    """A row of the table."""
    true_mm, mm, true_mm3, mm3, dice = np.array(pairs).T
    error = mm - true_mm
    sphere = np.array([[equivalent_diameter_mm(v) for v in both] for both in (mm3, true_mm3)])
    of_sphere = sphere[0] - sphere[1]
    return (
        f"{name:<14}{len(pairs):>5}{np.median(error):>+9.2f}{np.median(abs(error)):>7.2f}"
        f"{np.median(of_sphere):>+10.2f}{np.median(abs(of_sphere)):>7.2f}"
        f"{np.median(mm3 / true_mm3):>9.2f}{np.median(dice):>8.3f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cts", type=Path, nargs="+")
    parser.add_argument("--nodules", type=Path, default=Path("../shared/data/lidc"))
    parser.add_argument("--folds", default="7-9")
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--known", type=Path, default=Path("data/hosts_excluded.csv"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pool = implantable_nodules(options.nodules, parse_folds(options.folds), SMALLEST_MM, LARGEST_MM)
    known, detector = read_nodules(options.known), NoduleDetector.load()
    pairs: list[Pair] = []
    for path in options.cts:
        ct = read_ct(path)
        own = [nodule for nodule in known if nodule.series_uid == ct.series_uid]
        for copy in range(options.copies):
            seed = options.seed + copy
            done, labels, truth = implant_at_random(ct, pool, options.count, seed, own)
            pairs += pairs_of(done, labels, detector(done), truth)
            print(f"{path.name}, copy {copy + 1}: {len(pairs)} nodules so far", file=sys.stderr)
    print("                        mean diameter       sphere         volume\n"
          "                   n    error    abs.    error   abs.    ratio    Dice")  # fmt: skip
    small = [pair for pair in pairs if pair.true_mean_mm < SMALL_BELOW_MM]
    large = [pair for pair in pairs if pair.true_mean_mm >= SMALL_BELOW_MM]
    for name, some in (("all", pairs), ("below 8 mm", small), ("from 8 mm", large)):
        if some:
            print(as_text(name, some))


if __name__ == "__main__":
    main()
