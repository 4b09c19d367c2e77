"""Write a folder like LUNA16's download, at full size, for tests and timings where LUNA16 is not at hand.

usage: make_luna16_standin.py OUTPUT [--scans 12] [--slices 300] [--data ../shared/data] [--zip 2]
                              [--broken] [--small] [--seed 0]

Series uids and their subsets are LUNA16's own, out of DATA/luna16; the voxels are a phantom's or, with
nodules of LIDC-IDRI set in, those of the chests in DATA/ct. The lists tell of exactly these scans, but
seriesuids.csv of all 888.
--zip N: the first N subsets are zips.    --broken: two scans more, one cut short, one without its .raw.
--small: phantoms of 60 x 96 x 96 voxels, in seconds.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.datasets.implant import implant_at_random, implantable_nodules
from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, resample
from p2ch_luna.io import read_ct, write_nodules
from p2ch_luna.io.tables import UID, XYZ

HOSTS = ("c3n-00247.mha", "4dlung-113.mha", "lungfcp-01-0001.mha")
NODULES = 3  # in a scan
NEGATIVES = 50  # rows of candidates_V2.csv in a scan
HEADER = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = {origin}
CenterOfRotation = 0 0 0
AnatomicalOrientation = RAI
ElementSpacing = {spacing}
DimSize = {sides}
ElementType = {kind}
ElementDataFile = {raw}
"""


@dataclass(frozen=True, eq=False)
class Chest:
    """A CT and its nodules; a stand-in for many patients."""

    ct: CtVolume
    nodules: list[Nodule]


def main() -> None:
    """Write the folder."""
    options = _options()
    output: Path = options.output
    if output.exists():
        raise SystemExit(f"{output}: is there already; expected a new folder")
    rng = np.random.default_rng(options.seed)
    scans = _pick(options.data / "luna16" / "subsets.csv", options.scans + 2 * options.broken)
    chests = _chests(options, rng)
    truth: list[Nodule] = []
    extents: list[tuple[str, NDArray[np.float64]]] = []
    for number, (uid, subset) in enumerate(scans):
        chest = _varied(next(chests), uid, rng)
        write_scan(output / f"subset{subset}", chest.ct)
        truth += chest.nodules
        corners = chest.ct.geometry.to_xyz([np.zeros(3), np.array(chest.ct.hu.shape) - 1])
        extents.append((uid, corners))
        print(f"{number + 1}/{len(scans)} subset{subset}/{uid}", flush=True)
    if options.broken:
        _break(output, scans[-2:])
    _write_lists(output, options.data / "luna16" / "seriesuids.csv", truth, extents, rng)
    _write_lung_mask(output, scans[0][0])
    for subset in sorted({subset for _, subset in scans})[: options.zip]:
        _zip_subset(output / f"subset{subset}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write a folder like LUNA16's.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--zip", type=int, default=2)
    parser.add_argument("--broken", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _pick(table: Path, count: int) -> list[tuple[str, int]]:
    """Uids and subsets, from each subset in turn."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = sorted((row[UID], int(row["subset"])) for row in csv.DictReader(file))
    by_subset = [[row for row in rows if row[1] == subset] for subset in range(10)]
    return [by_subset[k % 10][k // 10] for k in range(count)]


def _chests(options: argparse.Namespace, rng: np.random.Generator) -> Iterator[Chest]:
    """A phantom, then a real chest with new nodules, in turn without end."""
    phantom = _phantom(options.slices, rng, small=options.small)
    if options.small:
        while True:
            yield phantom
    hosts = [_thin(read_ct(options.data / "ct" / name), options.slices) for name in HOSTS]
    pool = implantable_nodules(options.data / "lidc", range(10), 5, 30)
    while True:
        for host in hosts:
            yield phantom
            ct, _, truth = implant_at_random(host, pool, NODULES, int(rng.integers(2**31)))
            yield Chest(ct, truth)


def _phantom(slices: int, rng: np.random.Generator, *, small: bool) -> Chest:
    sizes = [18.0, 16.0, 14.0] if small else [22.0, 9.0, 6.0]
    shape, spacing = (
        ((60, 96, 96), (4.0, 4.0, 5.0)) if small else ((slices, 512, 512), (0.7, 0.7, 315 / slices))
    )
    made = make_phantom(rng, shape_irc=shape, spacing_xyz=spacing, diameters_mm=sizes)
    return Chest(made.ct, made.truth)


def _thin(ct: CtVolume, slices: int) -> CtVolume:
    """As many slices as wanted over the same length."""
    x, y, z = ct.geometry.spacing_xyz
    return resample(ct, (x, y, z * len(ct.hu) / slices))


def _varied(chest: Chest, uid: str, rng: np.random.Generator) -> Chest:
    """Another patient: mirrored or not, elsewhere in the scanner, with noise of its own."""
    hu, geometry = chest.ct.hu, chest.ct.geometry
    mirror = bool(rng.integers(2))
    noise = rng.integers(-6, 7, hu.shape, np.int8)
    varied = np.clip((hu[:, :, ::-1] if mirror else hu) + noise, -1024, 3071).astype(np.int16)
    moved = replace(geometry, origin_xyz=(geometry.origin_xyz + rng.uniform(-40, 40, 3)).round(3))
    nodules = []
    for nodule in chest.nodules:
        index, row, col = geometry.to_irc(nodule.center_xyz)
        x, y, z = moved.to_xyz([index, row, hu.shape[2] - 1 - col if mirror else col]).tolist()
        nodules.append(Nodule(uid, (x, y, z), nodule.diameter_mm))
    return Chest(CtVolume(uid, varied, moved), nodules)


def write_scan(folder: Path, ct: CtVolume, kind: str = "MET_SHORT") -> None:
    """A header and a .raw as LUNA16 has them."""

    def text(numbers: Sequence[float]) -> str:
        return " ".join(f"{number:.16g}" for number in numbers)

    folder.mkdir(parents=True, exist_ok=True)
    header = HEADER.format(
        origin=text(ct.geometry.origin_xyz.tolist()),
        spacing=text(ct.geometry.spacing_xyz.tolist()),
        sides=text(ct.hu.shape[::-1]),
        kind=kind,
        raw=f"{ct.series_uid}.raw",
    )
    (folder / f"{ct.series_uid}.mhd").write_text(header, encoding="utf-8")
    ct.hu.tofile(folder / f"{ct.series_uid}.raw")


def _break(output: Path, scans: Sequence[tuple[str, int]]) -> None:
    (cut_uid, cut_subset), (lost_uid, lost_subset) = scans
    cut = output / f"subset{cut_subset}" / f"{cut_uid}.raw"
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size // 3)
    (output / f"subset{lost_subset}" / f"{lost_uid}.raw").unlink()


def _write_lists(
    output: Path,
    official: Path,
    truth: Sequence[Nodule],
    extents: Sequence[tuple[str, NDArray[np.float64]]],
    rng: np.random.Generator,
) -> None:
    """annotations.csv and candidates.csv as they are, the others in zips, as in the download."""
    write_nodules(output / "annotations.csv", truth)
    rows = [(n.series_uid, *n.center_xyz, 1) for n in truth]
    excluded = []
    for uid, (low, high) in extents:
        places = rng.uniform(0.75 * low + 0.25 * high, 0.25 * low + 0.75 * high, (NEGATIVES + 2, 3)).tolist()
        rows += [(uid, x, y, z, 0) for x, y, z in places[2:]]
        excluded += [Nodule(uid, (x, y, z), -1.0) for x, y, z in places[:2]]
    table = "\n".join(",".join(map(str, row)) for row in [(UID, *XYZ, "class"), *rows]) + "\n"
    (output / "candidates.csv").write_text(table, encoding="utf-8")
    with zipfile.ZipFile(output / "candidates_V2.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("candidates_V2.csv", table)
    write_nodules(output / "annotations_excluded.csv", excluded)
    with zipfile.ZipFile(output / "evaluationScript.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        folder = "evaluationScript/annotations"
        zipped.write(output / "annotations.csv", f"{folder}/annotations.csv")
        zipped.write(output / "annotations_excluded.csv", f"{folder}/annotations_excluded.csv")
        zipped.write(official, f"{folder}/seriesuids.csv")
    (output / "annotations_excluded.csv").unlink()


def _write_lung_mask(output: Path, uid: str) -> None:
    """What must not be taken for a scan, though it is named as one."""
    mask = np.zeros((8, 16, 16), np.uint8)
    (header,) = output.glob(f"subset*/{uid}.mhd")
    ct = CtVolume(uid, mask.astype(np.int16), read_ct(header).geometry)
    write_scan(output / "seg-lungs-LUNA16", ct)


def _zip_subset(folder: Path) -> None:
    with zipfile.ZipFile(f"{folder}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
        for file in sorted(folder.iterdir()):
            zipped.write(file, f"{folder.name}/{file.name}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
