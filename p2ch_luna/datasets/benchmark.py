"""One's own scans with real nodules set in, and what makes each of these nodules hard to find."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from p2ch_luna.datasets.implant import FEATHER_MM, draw_nodules, implant_drawn
from p2ch_luna.datasets.luna16_ratings import with_ratings
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume
from p2ch_luna.io.lidc import LidcNodule
from p2ch_luna.io.volumes import read_ct
from p2ch_luna.lungs import PreparedCt

log = logging.getLogger(__name__)

SHELL_MM = (FEATHER_MM, 5.0)  # from a nodule's mask: outside the blending, which is half nodule


@dataclass(frozen=True)
class Host:
    """A scan that nodules are set in."""

    path: Path
    series_uid: str
    sha256: str  # of its voxels and where they lie, whatever the file
    slice_mm: float  # between slices


@dataclass(frozen=True)
class Implanted:
    """A nodule that was set in, and how it shows there."""

    name: str  # of the LIDC nodule
    nodule: Nodule
    contrast_hu: float | None  # mean of the nodule above that of a shell round it; None: the shell is empty
    pleura_mm: float | None  # from its centre to the nearest voxel that is not lung; None: all is lung


@dataclass(frozen=True, eq=False)
class BenchmarkScan:
    """A host with its nodules.

    labels: (D, H, W) 1, 2, … in the order of `implanted`, 0 elsewhere.    excluded: what the host has itself.
    """

    ct: CtVolume
    labels: NDArray[np.uint8]
    implanted: list[Implanted]
    excluded: list[Nodule]


def check_hosts(paths: Sequence[Path]) -> list[Host]:
    """Read every host once, so that a bad one stops the benchmark before anything is computed.

    Raises LunaError for one that cannot be read and for two with one series uid.
    """
    hosts: dict[str, Host] = {}
    for path in paths:
        ct = read_ct(path)
        if ct.series_uid in hosts:
            first = hosts[ct.series_uid].path
            raise LunaError(f"{path}: has the series uid of {first}, {ct.series_uid}; wanted each host once")
        slice_mm = float(ct.geometry.spacing_irc[0])
        hosts[ct.series_uid] = Host(path, ct.series_uid, content_sha256(ct), slice_mm)
    return list(hosts.values())


def known_by_host(known: Sequence[Nodule] | None, series_uids: Sequence[str]) -> dict[str, list[Nodule]]:
    """The findings that each host has of its own, by its series uid; `known` is None if no list is given.

    A host that a list says nothing of is told. Raises LunaError where no row of it is on a host.
    """
    rows = known or ()
    found = {uid: [own for own in rows if own.series_uid == uid] for uid in series_uids}
    if rows and not any(found.values()):
        raise LunaError(
            f"--known: none of its {len(rows)} row(s) is of a host; it has {rows[0].series_uid!r}, "
            f"wanted ids such as {series_uids[0]!r}"
        )
    if known is not None and (without := [uid for uid, own in found.items() if not own]):
        log.warning(
            "--known: no row for %s; what these hosts have of their own counts as false", ", ".join(without)
        )
    return found


def content_sha256(ct: CtVolume) -> str:
    """Of the voxels, their type and where they lie."""
    grid = ct.geometry
    place = [part.ravel().tolist() for part in (grid.origin_xyz, grid.spacing_xyz, grid.direction)]
    digest = hashlib.sha256(json.dumps([str(ct.hu.dtype), ct.hu.shape, place]).encode())
    digest.update(np.ascontiguousarray(ct.hu).data)
    return digest.hexdigest()


def pool_sha256(pool: Sequence[LidcNodule]) -> str:
    """Of all that the table says of these nodules, in their order, and of their crops' files."""
    digest = hashlib.sha256()
    for nodule in pool:
        mask = nodule.path.with_name(f"{nodule.path.name.removesuffix('.nii.gz')}_mask.nii.gz")
        digest.update(repr((nodule.name, nodule.series_uid, nodule.center_xyz)).encode())
        digest.update(repr((nodule.diameter_mm, nodule.malignancy)).encode())
        for path in (nodule.path, mask):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def implanted_uid(series_uid: str, copy: int) -> str:
    """The series uid of a host's copy, counted from 1."""
    return f"{series_uid}-implanted-{copy}"


def seed_of(seed: int, series_uid: str, copy: int) -> int:
    """The seed of one copy: other hosts and the number of copies do not change it."""
    digest = hashlib.sha256(json.dumps([seed, series_uid, copy]).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def make_scan(
    host: CtVolume,
    prepared: PreparedCt,
    pool: Sequence[LidcNodule],
    count: int,
    rng: np.random.Generator,
    *,
    series_uid: str,
    known: Sequence[Nodule] = (),
) -> BenchmarkScan:
    """A copy of a host, called `series_uid`, with `count` nodules of the pool, and how each shows there.

    prepared: what `lungs.prepare` makes of `host`.    known: the findings that the host has of its own.
    """
    chosen = draw_nodules(pool, count, rng)
    ct, labels, truth = implant_drawn(replace(host, series_uid=series_uid), chosen, prepared, rng, known)
    names, nodules = [origin.name for origin in chosen], _with_texture(truth, chosen)
    shown = zip(names, nodules, contrast_hu(ct, labels, truth), pleura_mm(prepared, truth), strict=True)
    implanted = [Implanted(*of_one) for of_one in shown]
    return BenchmarkScan(ct, labels, implanted, [replace(own, series_uid=series_uid) for own in known])


def _with_texture(truth: Sequence[Nodule], origins: Sequence[LidcNodule]) -> list[Nodule]:
    """The nodules with the texture that LIDC's readers saw where they come from; None: not LUNA16's."""
    at_home = with_ratings([Nodule(n.series_uid, n.center_xyz, n.diameter_mm) for n in origins])
    return [replace(nodule, texture=home.texture) for nodule, home in zip(truth, at_home, strict=True)]


def contrast_hu(ct: CtVolume, labels: NDArray[np.uint8], nodules: Sequence[Nodule]) -> list[float | None]:
    """Mean HU of each nodule less the mean HU of what lies `SHELL_MM` from it, other nodules left out.

    labels: (D, H, W) 1, 2, … in the order of the nodules. One that is too small to have a label on this grid
    is the voxel nearest to its centre. None where no voxel lies in the shell.
    """
    boxes = ndimage.find_objects(labels, max_label=len(nodules))
    last = np.array(labels.shape) - 1
    contrasts = []
    for label, (nodule, box) in enumerate(zip(nodules, boxes, strict=True), start=1):
        nearest = np.floor(ct.geometry.to_irc(nodule.center_xyz) + 0.5).astype(int).clip(0, last).tolist()
        ends = [(i, i + 1) for i in nearest] if box is None else [(s.start, s.stop) for s in box]
        contrasts.append(_contrast_hu(ct, labels, label, ends))
    return contrasts


def _contrast_hu(
    ct: CtVolume, labels: NDArray[np.uint8], label: int, ends: Sequence[tuple[int, int]]
) -> float | None:
    """Of the nodule between the `ends` along each axis; all between them if it has no label."""
    reach = np.ceil(SHELL_MM[1] / ct.geometry.spacing_irc).astype(int)
    box = tuple(slice(max(0, low - r), high + r) for (low, high), r in zip(ends, reach, strict=True))
    near, hu = labels[box], ct.hu[box]
    nodule = near == label
    if not nodule.any():
        whole = (slice(low - s.start, high - s.start) for (low, high), s in zip(ends, box, strict=True))
        nodule[tuple(whole)] = True
    distance_mm = ndimage.distance_transform_edt(~nodule, ct.geometry.spacing_irc)
    shell = (distance_mm > SHELL_MM[0]) & (distance_mm <= SHELL_MM[1]) & (near == 0)
    if not shell.any():
        return None
    return float(hu[nodule].mean(dtype=float) - hu[shell].mean(dtype=float))


def pleura_mm(prepared: PreparedCt, nodules: Sequence[Nodule]) -> list[float | None]:
    """From each centre to the nearest voxel outside `prepared.lung`: pleura, hilum or mediastinum.

    0 for a centre outside. The border of the image is no pleura; None where there is nothing outside.
    """
    lung = prepared.lung
    rim = ndimage.binary_dilation(lung) & ~lung  # the nearest voxel outside always touches one inside
    if not rim.any():
        return [None] * len(nodules)
    spacing = prepared.ct.geometry.spacing_irc
    centers = prepared.ct.geometry.to_irc([nodule.center_xyz for nodule in nodules])
    voxels = np.floor(centers + 0.5).astype(int)
    is_in_image = ((voxels >= 0) & (voxels < lung.shape)).all(axis=1)
    is_in_lung = np.zeros(len(nodules), bool)
    is_in_lung[is_in_image] = lung[tuple(voxels[is_in_image].T)]
    distance_mm, _ = KDTree(np.argwhere(rim) * spacing).query(centers * spacing)
    return np.where(is_in_lung, distance_mm, 0.0).tolist()  # type: ignore[no-any-return]
