"""A real nodule blended into another CT, with its truth."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from p2ch_luna.datasets.splits import in_folds
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, HuArray, ImageGeometry
from p2ch_luna.io.lidc import LidcNodule, NoduleCrop, load_crop, read_lidc_nodules
from p2ch_luna.lungs import PreparedCt, prepare
from p2ch_luna.metrics.matching import effective_diameter_mm

FEATHER_MM = 2.0  # over which the crop fades into the host outside the nodule's mask
OPAQUE = 255
FAINTEST = 0.35  # opacity: of a solid nodule some 300 HU above the lung are left
AERATED_HU = -650.0  # a place for a nodule is lung with air in it, not vessel, not wall
MASK_OFF_MM = 3.0  # from the table's centre to that of a crop's mask, at most
MASK_FACTOR = 1.6  # between the table's diameter and that of the mask's volume, at most

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Implantable:
    """A nodule crop made ready for blending: padded, and with its weight against the host.

    All (D, H, W). Small types, for hundreds are held in memory by every process that draws samples.
    """

    name: str
    hu: NDArray[np.int16]
    opacity: NDArray[np.uint8]  # `OPAQUE` on the mask, falls to 0 at `FEATHER_MM` from it
    mask: NDArray[np.uint8]  # 0 or 1; a number, so that it can be interpolated
    geometry: ImageGeometry
    center_irc: NDArray[np.float64]
    radius_mm: float  # of the sphere round the centre outside of which opacity is 0
    diameter_mm: float
    malignancy: float | None


def make_implantable(crop: NoduleCrop) -> Implantable:
    """Pad by the feather, repeating the border (LIDC crops end with the nodule along z)."""
    spacing = crop.ct.geometry.spacing_irc
    pad = np.ceil(FEATHER_MM / spacing).astype(int) + 1
    widths = [(int(p), int(p)) for p in pad]
    mask = np.pad(crop.mask, widths)
    distance_mm = ndimage.distance_transform_edt(~mask, sampling=spacing)
    opacity = np.rint(OPAQUE * np.clip(1.0 - distance_mm / FEATHER_MM, 0.0, 1.0)).astype(np.uint8)
    inside = np.argwhere(opacity > 0)
    center = np.argwhere(mask).mean(axis=0)
    return Implantable(
        name=crop.name,
        hu=np.pad(crop.ct.hu, widths, mode="edge").astype(np.int16, casting="same_kind"),
        opacity=opacity,
        mask=mask.astype(np.uint8),
        geometry=crop.ct.geometry.moved_to(-pad),
        center_irc=center,
        radius_mm=float(np.linalg.norm((inside - center) * spacing, axis=1).max() + spacing.max()),
        diameter_mm=crop.diameter_mm,
        malignancy=crop.malignancy,
    )


@dataclass(frozen=True)
class Variety:
    """How much nodules are changed before they are set in, so that few become many."""

    zoom: float = 1.0  # so many times larger or smaller, at most
    faint: float = 0.0  # share of the nodules through which the host shines, as through ground glass


AS_IT_IS = Variety()


@dataclass(frozen=True)
class Pose:
    """How a nodule is set in: mirrored along LPS axes, scaled about its centre, and how much it hides."""

    flips: tuple[int, int, int] = (1, 1, 1)
    zoom: float = 1.0
    opacity: float = 1.0  # of its mask

    @classmethod
    def random(cls, rng: np.random.Generator, variety: Variety = AS_IT_IS) -> Pose:
        """Any mirroring, a zoom uniform in its logarithm, an opacity that is 1 or uniform below."""
        x, y, z = (int(s) for s in rng.choice([-1, 1], 3))
        most = np.log(variety.zoom)
        zoom = float(np.exp(rng.uniform(-most, most)))
        opacity = float(rng.uniform(FAINTEST, 1.0)) if rng.random() < variety.faint else 1.0
        return cls((x, y, z), zoom, opacity)


def blend(
    hu: HuArray,
    geometry: ImageGeometry,
    nodule: Implantable,
    center_xyz: ArrayLike,
    pose: Pose = Pose(),
) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
    """Set a nodule into a (D, H, W) array **in place**; its centre of mass comes to `center_xyz`.

    Returns the box of voxels it may have touched and, in that box, the nodule's mask. The box is empty
    where the nodule lies outside the array.
    """
    reach = nodule.radius_mm * pose.zoom / geometry.spacing_irc
    center = geometry.to_irc(center_xyz)
    low = np.clip(np.floor(center - reach).astype(int), 0, hu.shape)
    high = np.clip(np.ceil(center + reach).astype(int) + 1, 0, hu.shape)
    box = tuple(map(slice, low.tolist(), high.tolist()))
    shape = tuple((high - low).tolist())
    if 0 in shape:
        return box, np.zeros(shape, bool)
    matrix, offset = _host_to_crop(geometry.moved_to(low), nodule, center_xyz, pose)

    def sampled(
        values: NDArray[np.int16] | NDArray[np.uint8], mode: Literal["constant", "nearest"]
    ) -> NDArray[np.float32]:
        out = np.empty(shape, np.float32)
        ndimage.affine_transform(values, matrix, offset, output=out, order=1, mode=mode)
        return out

    opacity = sampled(nodule.opacity, "constant") * (pose.opacity / OPAQUE)
    host = hu[box].astype(np.float32)
    mixed = host + opacity * (sampled(nodule.hu, "nearest") - host)
    hu[box] = np.rint(mixed) if hu.dtype == np.int16 else mixed
    return box, sampled(nodule.mask, "constant") >= 0.5


def _host_to_crop(
    host: ImageGeometry, nodule: Implantable, center_xyz: ArrayLike, pose: Pose
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, 3) matrix and (3,) offset that take host voxels to crop voxels."""
    anchor_xyz = nodule.geometry.to_xyz(nodule.center_irc)

    def crop_irc(irc: NDArray[np.float64]) -> NDArray[np.float64]:
        from_center = host.to_xyz(irc) - np.asarray(center_xyz)
        return nodule.geometry.to_irc(anchor_xyz + from_center * pose.flips / pose.zoom)

    offset = crop_irc(np.zeros(3))
    return (crop_irc(np.eye(3)) - offset).T, offset


def choose_places(
    prepared: PreparedCt,
    radii_mm: Sequence[float],
    rng: np.random.Generator,
    avoid: Sequence[Nodule] = (),
    gap_mm: float = 5.0,
) -> list[tuple[float, float, float]]:
    """A place for each nodule, LPS mm: in aerated lung, `gap_mm` clear of each other and of `avoid`.

    Places beside the pleura and beside vessels are as likely as their share of the lung.
    """
    aerated = prepared.lung & (ndimage.uniform_filter(prepared.ct.hu.astype(np.float32), 3) < AERATED_HU)
    voxels = np.argwhere(aerated)
    taken = [(np.asarray(n.center_xyz), effective_diameter_mm(n) / 2) for n in avoid]
    places: list[tuple[float, float, float]] = []
    for radius in radii_mm:
        for _ in range(1000):
            xyz = (
                prepared.ct.geometry.to_xyz(voxels[rng.integers(len(voxels))]) if len(voxels) else np.zeros(3)
            )
            clear = all(np.linalg.norm(xyz - other) > radius + r + gap_mm for other, r in taken)
            if len(voxels) and clear:
                break
        else:
            raise LunaError(
                f"{prepared.ct.series_uid}: room for {len(places)} nodules in {len(voxels) / 1000:.0f} ml "
                f"of aerated lung; wanted {len(radii_mm)}"
            )
        taken.append((xyz, radius))
        places.append((float(xyz[0]), float(xyz[1]), float(xyz[2])))
    return places


def implant(
    ct: CtVolume, nodules: Sequence[Implantable], places_xyz: Sequence[ArrayLike], poses: Sequence[Pose]
) -> tuple[CtVolume, NDArray[np.uint8], list[Nodule]]:
    """A copy of a CT with nodules set in, their (D, H, W) labels 1, 2, … and the truth."""
    hu = ct.hu.copy()
    labels = np.zeros(hu.shape, np.uint8)
    truth = []
    for label, (nodule, xyz, pose) in enumerate(zip(nodules, places_xyz, poses, strict=True), start=1):
        box, mask = blend(hu, ct.geometry, nodule, xyz, pose)
        labels[box][mask] = label
        x, y, z = (float(v) for v in np.asarray(xyz))
        truth.append(Nodule(ct.series_uid, (x, y, z), nodule.diameter_mm * pose.zoom, nodule.malignancy))
    return CtVolume(ct.series_uid, hu, ct.geometry), labels, truth


def implantable_nodules(
    lidc: Path, folds: Collection[int], min_diameter_mm: float, max_diameter_mm: float
) -> list[LidcNodule]:
    """The nodules of these patients and sizes whose masks are theirs; it is an error if there is none."""
    table = read_lidc_nodules(lidc)
    rows = [n for n in in_folds(table, folds) if min_diameter_mm <= n.diameter_mm <= max_diameter_mm]
    sound = with_sound_masks(rows)
    if not sound:
        raise LunaError(
            f"{lidc}: none of {len(table)} nodules is of folds {sorted(folds)} "
            f"and between {min_diameter_mm:g} and {max_diameter_mm:g} mm"
            + (f", but for {len(rows)} whose masks are of something else" if rows else "")
        )
    return sound


def with_sound_masks(nodules: Iterable[LidcNodule]) -> list[LidcNodule]:
    """Those whose mask lies and is as large as the table says; the others are told in the log, by name.

    Truth takes its place from the mask and its diameter from the table: they must be of one nodule.
    """
    sound = []
    for nodule in nodules:
        complaint = _mask_complaint(nodule, load_crop(nodule))
        if complaint:
            log.warning("%s: %s; left out", nodule.name, complaint)
        else:
            sound.append(nodule)
    return sound


def _mask_complaint(nodule: LidcNodule, crop: NoduleCrop) -> str:
    """How mask and table differ, "" if they agree."""
    off_mm = float(np.linalg.norm(crop.ct.geometry.to_xyz(crop.center_irc) - nodule.center_xyz))
    if off_mm > MASK_OFF_MM:
        return f"its mask lies {off_mm:.1f} mm from its place in the table, expected at most {MASK_OFF_MM:g}"
    volume_mm3 = crop.mask.sum() * float(np.prod(crop.ct.geometry.spacing_xyz))
    mask_mm = float(np.cbrt(6 * volume_mm3 / np.pi))
    if not 1 / MASK_FACTOR <= mask_mm / nodule.diameter_mm <= MASK_FACTOR:
        return (
            f"its mask is {mask_mm:.1f} mm wide, in the table it is {nodule.diameter_mm:.1f}, "
            f"expected a factor of at most {MASK_FACTOR:g}"
        )
    return ""


def implant_at_random(
    ct: CtVolume, pool: Sequence[LidcNodule], count: int, seed: int, known: Sequence[Nodule] = ()
) -> tuple[CtVolume, NDArray[np.uint8], list[Nodule]]:
    """`implant` with nodules, places and mirrorings drawn from a seed; sizes stay as they are.

    No nodule is taken twice while others are left.
    """
    rng = np.random.default_rng(seed)
    return implant_drawn(ct, draw_nodules(pool, count, rng), prepare(ct), rng, known)


def draw_nodules(pool: Sequence[LidcNodule], count: int, rng: np.random.Generator) -> list[LidcNodule]:
    """So many nodules in random order, none twice while others are left."""
    rounds = -(-count // len(pool))
    chosen = np.concatenate([rng.permutation(len(pool)) for _ in range(rounds)])[:count]
    return [pool[i] for i in chosen]


def implant_drawn(
    ct: CtVolume,
    nodules: Sequence[LidcNodule],
    prepared: PreparedCt,
    rng: np.random.Generator,
    known: Sequence[Nodule] = (),
) -> tuple[CtVolume, NDArray[np.uint8], list[Nodule]]:
    """`implant` these nodules at random places, mirrored at random, in their own sizes.

    prepared: what `lungs.prepare` makes of `ct`.    known: findings that it has of its own, to be kept clear.
    """
    crops = [make_implantable(load_crop(nodule)) for nodule in nodules]
    poses = [Pose.random(rng) for _ in crops]
    places = choose_places(prepared, [crop.diameter_mm / 2 for crop in crops], rng, known)
    return implant(ct, crops, places, poses)
